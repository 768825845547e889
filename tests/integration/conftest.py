"""Fixtures of the tests on real engines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests import own_topics
from tests.conftest import Engines
from tests.inserter_line import Line


@pytest.fixture
def line(engines: Engines, fresh_database: str, tmp_path: Path) -> Line:
    """Own topics and an own database."""
    topics = own_topics.renamed(fresh_database.rsplit("/", 1)[1])
    asyncio.run(own_topics.create(engines.kafka_bootstrap_servers, topics))
    return Line(engines, fresh_database, topics, own_topics.write_file(topics, tmp_path / "topics.toml"))
