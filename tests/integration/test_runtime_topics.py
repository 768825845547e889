"""Topics on a real broker: what it refuses is said, never taken for done."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import InvalidConfigurationError

from market.topics import Topics
from runtime.topic_admin import TopicSettings, apply
from tests import own_topics
from tests.conftest import Engines

IMPOSSIBLE_MS = -5


@pytest.fixture
async def admin(engines: Engines) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=engines.kafka_bootstrap_servers)
    await client.start()
    yield client
    await client.close()


def with_impossible_retention(topics: Topics) -> Topics:
    return msgspec.structs.replace(topics, trade=msgspec.structs.replace(topics.trade, retention_ms=IMPOSSIBLE_MS))


async def test_a_topic_that_the_broker_refuses_to_make_is_an_error(admin: AIOKafkaAdminClient) -> None:
    with pytest.raises(InvalidConfigurationError, match="refused_trade"):
        await apply(admin, with_impossible_retention(own_topics.renamed("refused")), TopicSettings())


async def test_a_setting_that_the_broker_refuses_is_shown_as_not_altered(
    admin: AIOKafkaAdminClient, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = own_topics.renamed("altered")
    assert all(difference.altered for difference in await apply(admin, topics, TopicSettings()))
    assert await apply(admin, topics, TopicSettings()) == []
    (difference,) = await apply(admin, with_impossible_retention(topics), TopicSettings())
    assert (difference.setting, difference.wanted, difference.altered) == ("retention.ms", str(IMPOSSIBLE_MS), False)
    assert "CANNOT BE ALTERED" in str(difference)
    assert "refuses" in capsys.readouterr().err
    altered = msgspec.structs.replace(topics, trade=msgspec.structs.replace(topics.trade, retention_ms=901_000))
    (difference,) = await apply(admin, altered, TopicSettings())
    assert difference.altered
    assert await apply(admin, altered, TopicSettings()) == []
