"""Where a reader of the relay goes on: after a topic was made anew or records expired, while it still catches up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from flask_stream.fan_out import FanOut
from flask_stream.hub import Hub, Record
from flask_stream.names import Content
from flask_stream.relay import Relay, TopicReader
from flask_stream.settings import StreamSettings
from runtime.clock import ManualClock
from runtime.health import Health
from runtime.kafka_client import KafkaConsumer, TopicPartition, TopicState
from runtime.lifecycle import Stop

FIRST, SECOND = TopicPartition("candle", 0), TopicPartition("candle", 1)


@dataclass
class Log:
    """A broker's log: where it begins and ends."""

    starts: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self.starts[partition] for partition in partitions}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self.ends[partition] for partition in partitions}


@dataclass
class Calls:
    """What was asked of the fan-out thread."""

    made: list[Callable[[], None]] = field(default_factory=list)
    offered: list[Record] = field(default_factory=list)
    queued_records: int = 0

    def call(self, function: Callable[[], None]) -> None:
        self.made.append(function)

    def offer(self, batch: Sequence[Record]) -> None:
        self.offered += batch


class Reading:
    """A reader of the candle topic, and what it has said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fan_out = Calls()
        self.caught_up: list[str] = []
        self.state = TopicState("candle", uuid.UUID(int=1), (0, 1))
        self.reader = TopicReader(
            StreamSettings(),
            cast(FanOut, self.fan_out),
            cast(Hub, None),
            Health("relay"),
            ManualClock(),
            "candle",
            Content.CANDLE,
            self.caught_up.append,
        )

        async def ask_state(_stop: Stop) -> TopicState:
            return self.state

        async def started(*_: object) -> bool:
            return True

        monkeypatch.setattr(self.reader, "_ask_state", ask_state)
        monkeypatch.setattr("flask_stream.relay.start_when_ready", started)

    def begin(self, log: Log) -> None:
        assert asyncio.run(self.reader._begin(cast(KafkaConsumer, log), Stop()))

    def judge(self) -> None:
        asyncio.run(self._judge())

    async def _judge(self) -> None:
        if self.reader._to_catch_up:
            self.reader._judge_caught_up(self.reader._to_catch_up)
            await asyncio.sleep(0)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    return Reading(monkeypatch)


def test_a_connection_lost_goes_on_where_it_was(reading: Reading) -> None:
    reading.begin(Log({FIRST: 0, SECOND: 0}, {FIRST: 50, SECOND: 0}))
    reading.reader._positions[FIRST] = 30
    reading.begin(Log({FIRST: 0, SECOND: 0}, {FIRST: 60, SECOND: 0}))
    assert reading.reader._positions == {FIRST: 30, SECOND: 0}
    assert not reading.fan_out.made


def test_a_topic_made_anew_is_read_from_its_start_and_can_be_caught_up_with(reading: Reading) -> None:
    reading.begin(Log({FIRST: 1000, SECOND: 1000}, {FIRST: 5000, SECOND: 5000}))
    reading.state = TopicState("candle", uuid.UUID(int=2), (0,))
    reading.begin(Log({FIRST: 0}, {FIRST: 3}))
    assert reading.reader._positions == {FIRST: 0}
    assert len(reading.fan_out.made) == 1, "the channels start anew"
    reading.judge()
    assert not reading.caught_up
    reading.reader._positions[FIRST] = 3
    reading.judge()
    assert reading.caught_up == ["candle"], "the old log's 5000 is not waited for"


def test_expired_records_are_told_and_a_log_that_was_cut_can_be_caught_up_with(reading: Reading) -> None:
    reading.begin(Log({FIRST: 0, SECOND: 0}, {FIRST: 50, SECOND: 50}))
    reading.reader._positions |= {FIRST: 10, SECOND: 40}
    cut = Log({FIRST: 20, SECOND: 0}, {FIRST: 20, SECOND: 45})
    asyncio.run(reading.reader._seek_to_earliest(cast(KafkaConsumer, cut)))
    assert reading.reader._positions == {FIRST: 20, SECOND: 40}
    assert len(reading.fan_out.made) == 1
    reading.reader._positions[SECOND] = 45
    reading.judge()
    assert reading.caught_up == ["candle"]


def test_it_is_caught_up_only_behind_what_it_has_read(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    reading.begin(Log({FIRST: 0, SECOND: 0}, {FIRST: 1, SECOND: 0}))
    offered_when_told: list[int] = []
    found = [{FIRST: [SimpleNamespace(offset=0, key=b"BTCUSDT", value=b"{}", timestamp=5)]}]

    async def fetch(*_: object) -> object:
        if found:
            return found.pop()
        await asyncio.sleep(0)
        raise ConnectionError

    reading.reader.on_caught_up = lambda _topic: offered_when_told.append(len(reading.fan_out.offered))
    monkeypatch.setattr("flask_stream.relay.fetch", fetch)
    with pytest.raises(ConnectionError):
        asyncio.run(reading.reader._follow(cast(KafkaConsumer, None), 0, [FIRST, SECOND]))
    assert offered_when_told == [1]


def test_a_log_that_lost_its_end_while_it_was_read_can_be_caught_up_with(reading: Reading) -> None:
    reading.begin(Log({FIRST: 0, SECOND: 0}, {FIRST: 50, SECOND: 50}))
    reading.reader._positions |= {FIRST: 40, SECOND: 50}
    reading.begin(Log({FIRST: 0, SECOND: 0}, {FIRST: 45, SECOND: 60}))
    reading.reader._positions[FIRST] = 45
    reading.judge()
    assert reading.caught_up == ["candle"]


def test_it_is_ready_when_the_fan_out_has_what_every_topic_held() -> None:
    fan_out, hub, health = Calls(), Hub(linger_ms=0), Health("relay")
    relay = Relay(StreamSettings(), cast(FanOut, fan_out), hub, health, ManualClock())
    *first, last = sorted(relay._to_catch_up)
    for topic in first:
        relay._on_caught_up(topic)
    assert not fan_out.made
    relay._on_caught_up(last)
    status, told = health.report(readiness=True)
    assert status == 503
    assert "reading what the topics hold" in str(told)
    fan_out.made[0]()
    assert health.report(readiness=True)[0] == 200
    assert hub.is_caught_up
