"""The inserter as a process on topics of a test's own: `python -m tests.inserter_process TOPICS_FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from inserter.consume import Inserter
from inserter.settings import InserterSettings
from market.topics import parse_topics
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.lifecycle import Stop

if __name__ == "__main__":
    topics = parse_topics(Path(sys.argv[1]).read_text("utf-8"))

    async def run() -> None:
        await Inserter(InserterSettings(), Health("inserter"), SystemClock(), Stop(), topics=topics).run()

    asyncio.run(run())
