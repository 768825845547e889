"""The feed as a state machine: records, dead letters, outages and silence, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import json

import pytest

from market.feed import BadFrameRecord, FeedOutage, GapCause
from market.record_codec import RecordDecoder
from market.stream import Stream
from producer.buffer import Buffer, Lane
from producer.connections import StreamKey
from producer.feed import BadShare, Feed, TooManyBadFrames
from producer.publish import Linger, Pump
from producer.settings import ProducerSettings
from producer.silence import FRAMES_TO_KNOW, MAX_LIMIT_S, Silence
from producer.slots import Exchange, Slot
from runtime.clock import ManualClock, new_random
from runtime.health import Health
from runtime.kafka_batches import BatchProducer
from runtime.kafka_client import load_topics
from runtime.lifecycle import Stop

START_MS = 1_700_000_000_000
KLINES, TRADES = "btcusdt@kline_1s", "btcusdt@trade"
NAMES = (KLINES, TRADES)


def kline_frame(open_ms: int, *, is_closed: bool = True, symbol: str = "BTCUSDT", stream: str = KLINES) -> bytes:
    kline = {"t": open_ms, "T": open_ms + 999, "s": symbol, "i": "1s", "f": -1, "L": -1, "n": 0, "x": is_closed}
    kline |= dict.fromkeys("ochl", "5.0") | dict.fromkeys("vqVQ", "0")
    data = {"e": "kline", "E": open_ms + 1005, "s": symbol, "k": kline}
    return json.dumps({"stream": stream, "data": data}).encode()


def trade_frame(trade_id: int, time_ms: int) -> bytes:
    data = {"e": "trade", "E": time_ms, "s": "BTCUSDT", "t": trade_id, "p": "5", "q": "1", "T": time_ms, "m": True}
    return json.dumps({"stream": TRADES, "data": data}).encode()


class World:
    """A feed of one symbol with its buffer and clock."""

    def __init__(self, *, buffer_bytes: int = 10**7, window: int = 200) -> None:
        self.clock = ManualClock(START_MS)
        self.buffer = Buffer(buffer_bytes)
        keys = [StreamKey("BTCUSDT", Stream.KLINE_1S), StreamKey("BTCUSDT", Stream.TRADE)]
        self.feed = Feed(keys, load_topics(), self.buffer, self.clock, BadShare(window, 0.5))

    def lane(self, stream: str) -> Lane:
        return next(lane for lane in self.buffer.lanes if lane.stream == stream)

    def values(self, stream: str) -> list[bytes]:
        return [entry.value for entry in self.lane(stream).waiting]

    def outages(self) -> list[tuple[str, GapCause, int, int | None]]:
        records = [RecordDecoder(FeedOutage).decode(value) for value in self.values("feed_outage")]
        return [(one.stream, one.cause, one.from_time_ms, one.to_time_ms) for one in records]

    def second(self, number: int, connection: str = "c1.1") -> None:
        """The clock moves to just after this second, and its kline comes."""
        self.clock.advance(START_MS + (number + 1) * 1000 + 10 - self.clock.now_ms())
        self.feed.on_frame(connection, kline_frame(START_MS + number * 1000))


def test_only_closed_seconds_are_facts_and_a_repeat_is_none() -> None:
    world = World()
    world.feed.on_frame("c1.1", kline_frame(START_MS, is_closed=False))
    assert world.values("kline_1s") == []
    world.second(0)
    world.second(0, connection="c1.2")
    (value,) = world.values("kline_1s")
    assert json.loads(value)["open"] == "5.0"
    assert world.lane("kline_1s").waiting[0].key == b"BTCUSDT"
    assert world.feed.duplicates["kline_1s"] == 1


def test_a_cut_is_an_outage_from_the_first_second_not_delivered_until_delivery() -> None:
    world = World()
    world.feed.on_listening("c1.1", NAMES)
    world.second(0)
    world.second(1)
    world.feed.on_frame("c1.1", trade_frame(7, START_MS + 1500))
    world.feed.on_gone("c1.1", NAMES, "cut")
    lost_from_ms = START_MS + 2000
    assert world.outages() == [
        ("kline_1s", GapCause.DISCONNECT, lost_from_ms, None),
        ("trade", GapCause.DISCONNECT, START_MS + 1501, None),
    ]
    world.feed.on_unreachable(NAMES, "refused")
    assert len(world.outages()) == 2
    world.feed.on_listening("c1.2", NAMES)
    world.second(5, connection="c1.2")
    assert world.outages()[2] == ("kline_1s", GapCause.DISCONNECT, lost_from_ms, START_MS + 5000)
    assert world.feed.open_outages() == [TRADES]


def test_a_start_is_written_down_just_before_the_first_second_that_it_can_bring() -> None:
    world = World()
    world.feed.report_start()
    world.feed.on_unreachable((KLINES,), "refused")
    assert world.outages() == [
        ("kline_1s", GapCause.DOWNTIME, START_MS - 1000, START_MS),
        ("trade", GapCause.DOWNTIME, START_MS - 1, START_MS),
        ("kline_1s", GapCause.DISCONNECT, START_MS, None),
    ]


def test_the_end_of_one_of_two_connections_is_no_outage() -> None:
    world = World()
    world.feed.on_listening("c1.1", NAMES)
    world.second(0)
    world.feed.on_listening("c1.2", NAMES)
    world.feed.on_gone("c1.1", NAMES, "replaced")
    world.second(1, connection="c1.2")
    assert world.outages() == []


def test_a_silent_kline_stream_is_noticed_within_five_seconds_and_a_quiet_trade_stream_is_not() -> None:
    world = World()
    world.feed.on_listening("c1.1", NAMES)
    world.second(0)
    world.feed.on_frame("c1.1", trade_frame(1, START_MS))
    noticed_s = None
    for step in range(1, 200):
        world.clock.advance(500)
        if world.feed.silent_streams(NAMES) and noticed_s is None:
            noticed_s = step / 2
            assert world.feed.silent_streams(NAMES) == [KLINES]
    assert noticed_s is not None
    assert noticed_s <= 5
    assert world.outages() == [("kline_1s", GapCause.SILENCE, START_MS + 1000, None)]


def test_a_busy_stream_that_falls_silent_is_noticed_by_its_own_habit() -> None:
    silence = Silence(Stream.TRADE)
    now_s = 0.0
    for _ in range(FRAMES_TO_KNOW - 1):
        now_s += 1.0
        silence.on_frame(now_s)
    assert silence.limit_s() == MAX_LIMIT_S
    silence.on_frame(now_s + 1.0)
    assert not silence.is_silent(now_s + 15.0)
    assert silence.is_silent(now_s + 20.0)
    silence.on_cut()
    assert not silence.is_silent(now_s + 10_000.0)


def test_frames_that_cannot_be_used_become_dead_letters_with_their_bytes() -> None:
    world = World()
    frames = [
        b"{not json",
        b'{"foo":1}',
        kline_frame(START_MS, symbol="ETHUSDT"),
        kline_frame(START_MS, stream="dogeusdt@kline_1s"),
        kline_frame(START_MS + 1),
        kline_frame(START_MS).replace(b'"5.0"', b'"NaN"'),
        b'{"stream":"btcusdt@trade","data":{}}' + b" " * 600_000,
        b'{"stream":"btcusdt@trade","data":\xff}',
    ]
    for frame in frames:
        assert world.feed.on_frame("c1.1", frame) is None
    records = [RecordDecoder(BadFrameRecord).decode(value) for value in world.values("dead_frame")]
    assert [record.frame for record in records] == [frame[:65536] for frame in frames]
    assert all(record.reason and record.connection == "c1.1" for record in records)
    assert world.values("kline_1s") == []
    world.second(0)
    assert len(world.values("kline_1s")) == 1


def test_too_large_a_share_of_bad_frames_stops() -> None:
    world = World(window=10)
    for number in range(5):
        world.second(number)
    for _ in range(5):
        world.feed.on_frame("c1.1", b"{")
    with pytest.raises(TooManyBadFrames):
        world.feed.on_frame("c1.1", b"{")


def test_overflow_is_written_down_for_facts_when_the_broker_is_back() -> None:
    world = World(buffer_bytes=4000)
    for number in range(40):
        world.second(number)
    kept = len(world.values("kline_1s"))
    lost_to_ms = START_MS + (40 - kept) * 1000
    assert 0 < kept < 40
    world.buffer.take(world.lane("kline_1s"), 10**6)
    world.buffer.settle(world.lane("kline_1s"), [])
    world.feed.report_losses()
    assert world.outages() == [("kline_1s", GapCause.OVERFLOW, START_MS, lost_to_ms)]
    world.feed.report_losses()
    assert len(world.outages()) == 1


def test_control_frames_are_given_back_in_both_wrappings() -> None:
    world = World()
    for frame in (
        b'{"e":"serverShutdown","E":1}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}',
    ):
        control = world.feed.on_frame("c1.1", frame)
        assert control is not None
        assert control.event == "serverShutdown"
    reply = world.feed.on_frame("c1.1", b'{"result":null,"id":3}')
    assert reply is not None
    assert reply.id == 3
    assert world.feed.bad_frames == 0


async def test_an_exchange_that_is_connected_but_silent_is_seen_in_health() -> None:
    world, health = World(), Health("producer")
    exchange = Exchange(ProducerSettings(), world.feed, world.clock, new_random(1), health, Stop())
    slot = Slot("c1", (StreamKey("BTCUSDT", Stream.KLINE_1S), StreamKey("BTCUSDT", Stream.TRADE)), exchange)
    world.feed.on_listening("c1.1", NAMES)
    world.second(0)
    slot._due_replacement()
    assert health.report(readiness=False)[0] == 200
    world.clock.advance(5_000)
    slot._due_replacement()
    assert "no kline_1s comes" in str(health.report(readiness=False)[1]["reasons"])
    world.second(5)
    slot._due_replacement()
    assert health.report(readiness=False)[0] == 200


def test_a_stream_that_is_not_wanted_any_more_is_neither_missing_nor_a_dead_letter() -> None:
    world, key = World(), StreamKey("BTCUSDT", Stream.TRADE)
    world.second(0)
    world.feed.remove([key])
    assert world.feed.on_frame("c1.1", trade_frame(7, START_MS)) is None
    assert world.values("trade") == []
    assert world.feed.bad_frames == 0
    world.clock.advance(5_000)
    world.feed.add([key])
    start_ms = world.clock.now_ms()
    assert world.outages() == [("trade", GapCause.DOWNTIME, start_ms - 1, start_ms)]
    world.feed.on_frame("c1.1", trade_frame(8, start_ms + 10))
    assert len(world.values("trade")) == 1


def test_a_pause_is_an_outage_from_the_next_event_on_until_the_first_one_after_it() -> None:
    world, key = World(), StreamKey("BTCUSDT", Stream.KLINE_1S)
    world.second(0)
    world.feed.pause([key], "paused by an operator (tests)")
    world.feed.pause([key], "twice")
    assert world.outages() == [("kline_1s", GapCause.DOWNTIME, START_MS + 1_000, None)]
    world.clock.advance(10_000)
    assert world.feed.silent_streams([KLINES]) == []
    world.second(9)
    assert world.outages()[1:] == [("kline_1s", GapCause.DOWNTIME, START_MS + 1_000, START_MS + 9_000)]


class OwnBug(BatchProducer):
    """A client whose use shows a mistake of ours."""

    def __init__(self) -> None:
        """Needs no broker."""

    async def partition_count(self, topic: str) -> int:
        """The mistake."""
        raise TypeError(topic)

    async def close(self, timeout_s: float) -> None:
        """Nothing to close."""


async def test_a_bug_in_a_hand_over_ends_the_pump_and_keeps_the_records() -> None:
    world = World()
    world.second(0)
    pump = Pump(world.buffer, Linger(0.0, 0.0, 30.0), world.clock, Health("producer"), lambda: None)

    async def open_client() -> BatchProducer:
        return OwnBug()

    with pytest.raises(TypeError, match="kline_1s"):
        await asyncio.wait_for(pump.run(open_client), 10)
    assert world.buffer.waiting_records() == 1
