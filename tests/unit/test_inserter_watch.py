"""Lag and headroom as the inserter tells them: from what was committed and the broker's retention; at first unknown."""

from __future__ import annotations

import math
import uuid

import pytest
from prometheus_client import REGISTRY

from inserter import watch as watch_module
from inserter.batch import Batch, Progress
from inserter.positions import Position, Positions
from inserter.settings import InserterSettings
from inserter.watch import Watch
from runtime.clock import ManualClock
from runtime.health import Health
from runtime.kafka_client import TopicPartition, TopicState, load_topics
from runtime.retention import FOREVER_MS

TOPICS = load_topics()
SECONDS = TopicPartition(TOPICS.kline_1s.name, 0)
STATES = {SECONDS.topic: TopicState(SECONDS.topic, uuid.uuid4(), (0, 1))}


def gauge(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, {"topic": SECONDS.topic, "partition": "0", **labels})
    assert value is not None
    return value


def headroom(watch: Watch, *, stored_offset: int) -> float:
    positions = Positions()
    positions.by_partition[SECONDS] = Position(STATES[SECONDS.topic].topic_id, stored_offset, stored_offset)
    watch.tell(positions, {SECONDS: 0}, {SECONDS: 100})
    return gauge("inserter_retention_headroom_seconds")


async def test_headroom_is_told_from_what_was_committed_and_from_the_brokers_own_retention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept_ms = {SECONDS.topic: 60_000}

    async def states(servers: str, names: list[str]) -> dict[str, TopicState]:
        return STATES

    async def retention(servers: str, names: list[str]) -> dict[str, int]:
        return kept_ms

    monkeypatch.setattr(watch_module, "topic_states_now", states)
    monkeypatch.setattr(watch_module, "retention_now", retention)
    clock = ManualClock()
    watch = Watch(InserterSettings(), TOPICS, Health("inserter"), clock, STATES)
    assert headroom(watch, stored_offset=100) == TOPICS.kline_1s.retention_ms / 1000
    # Behind, and nothing committed yet: no figure rather than a calm one.
    assert math.isnan(headroom(watch, stored_offset=40))
    assert math.isnan(gauge("kafka_consumergroup_group_lag_seconds", group="inserter"))
    watch.committed(Batch(progress={SECONDS: Progress(0, 40, 40, clock.now_ms() - 20_000)}))
    assert headroom(watch, stored_offset=40) == TOPICS.kline_1s.retention_ms / 1000 - 20
    await watch.compare_topics()
    assert headroom(watch, stored_offset=40) == 40
    kept_ms[SECONDS.topic] = FOREVER_MS
    await watch.compare_topics()
    assert headroom(watch, stored_offset=40) == math.inf
