"""The newest records of a topic, read when somebody asks, from a real broker: what is held, let go and refused."""

from __future__ import annotations

import asyncio
import os
from threading import Thread

import pytest

from runtime import newest_records
from runtime.clock import ManualClock
from runtime.newest_records import KEEP_MS, RETRY_MS, BrokerAway, NewestRecords
from tests import own_topics
from tests.conftest import Engines
from tests.stack_process import free_port

TOPICS = own_topics.renamed(f"newest_{os.getpid()}")
TOPIC = TOPICS.trade
PER_KEY = 5
MAX_RECORDS = 20


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question reads at most MAX_RECORDS."""
    monkeypatch.setattr(newest_records, "MAX_RECORDS", MAX_RECORDS)


@pytest.fixture(scope="module")
def servers(engines: Engines) -> str:
    """A broker with a topic of our own; each test has keys of its own."""
    asyncio.run(own_topics.create(engines.kafka_bootstrap_servers, TOPICS))
    return engines.kafka_bootstrap_servers


def send(servers: str, key: str, *numbers: int) -> None:
    """Records of one key."""
    values = [b"%d" % number for number in numbers]
    asyncio.run(own_topics.send(servers, TOPIC, values, key=key.encode()))


def test_what_is_held(servers: str) -> None:
    clock = ManualClock()
    newest = NewestRecords(servers, TOPIC.name, PER_KEY, clock)

    def of(key: str) -> list[int]:
        return [int(held.value) for held in newest.of(key)]

    send(servers, "A", *range(100))
    send(servers, "B", 1)
    assert (of("A"), of("B"), of("C")) == ([95, 96, 97, 98, 99], [1], [])
    send(servers, "A", 100)
    # Asked again at once, what was read a moment ago is told; later, what has come since.
    assert of("A")[-1] == 99
    clock.advance(KEEP_MS)
    assert of("A") == [96, 97, 98, 99, 100]
    assert {key: len(held) for key, held in newest.by_key().items()} == {"A": PER_KEY, "B": 1}
    # So many that they are not all read: what was held does not join them.
    send(servers, "A", *range(101, 101 + MAX_RECORDS + 2))
    clock.advance(KEEP_MS)
    assert of("A") == list(range(118, 123))
    newest.close()


def test_many_ask_at_once(servers: str) -> None:
    newest = NewestRecords(servers, TOPIC.name, PER_KEY, ManualClock())
    send(servers, "M", 1, 2)
    found: list[list[int]] = []
    askers = [Thread(target=lambda: found.append([int(held.value) for held in newest.of("M")])) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    newest.close()
    assert found == [[1, 2]] * 4


def test_no_broker_and_no_topic_are_told_at_once_for_a_while(engines: Engines) -> None:
    clock = ManualClock()
    nowhere = NewestRecords(f"127.0.0.1:{free_port()}", TOPIC.name, PER_KEY, clock)
    nothing = NewestRecords(engines.kafka_bootstrap_servers, "no_such_topic", PER_KEY, clock)
    for records in (nowhere, nothing):
        with pytest.raises(BrokerAway) as first:
            records.of("A")
        with pytest.raises(BrokerAway) as second:
            records.by_key()
        assert str(first.value) == str(second.value)
    clock.advance(RETRY_MS)
    with pytest.raises(BrokerAway, match="no_such_topic"):
        nothing.of("A")
