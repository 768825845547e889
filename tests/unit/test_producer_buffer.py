"""The buffer between feed and broker: its bound, who is dropped first, and that order and records survive failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from market.topics import Topic, TopicKind
from producer.buffer import ENTRY_OVERHEAD_BYTES, RANK_BAD_FRAME, RANK_FACT, RANK_FEED, RANK_REPLACEABLE, Buffer, Lane

ENTRY_BYTES = ENTRY_OVERHEAD_BYTES + 7 + 93


def topic(name: str, kind: TopicKind) -> Topic:
    return Topic(
        name=name, kind=kind, partitions=1, retention_ms=1, segment_ms=1, writer="producer", readers=[], about=""
    )


def lanes_of(buffer: Buffer) -> tuple[Lane, Lane, Lane, Lane]:
    return (
        buffer.add_lane(topic("depth", TopicKind.CHAIN), "depth", RANK_REPLACEABLE),
        buffer.add_lane(topic("dead_frame", TopicKind.FACT), "dead_frame", RANK_BAD_FRAME),
        buffer.add_lane(topic("kline_1s", TopicKind.FACT), "kline_1s", RANK_FACT),
        buffer.add_lane(topic("feed_outage", TopicKind.FACT), "feed_outage", RANK_FEED),
    )


def put(buffer: Buffer, lane: Lane, second: int) -> None:
    buffer.put(lane, "BTCUSDT", b"x" * 93, times_ms=(second * 1000, second * 1000, 1000))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["put", "take", "fail", "done"])), max_size=200))
def test_bound_holds_and_facts_outlive_what_is_replaceable(steps: list[tuple[int, str]]) -> None:
    buffer = Buffer(10 * ENTRY_BYTES)
    lanes = lanes_of(buffer)
    seconds = 0
    for which, step in steps:
        lane = lanes[which]
        if step == "put":
            seconds += 1
            facts = sum(len(one.waiting) for one in lanes[2:])
            others = sum(len(one.waiting) for one in lanes[:2])
            put(buffer, lane, seconds)
            if others:
                assert sum(len(one.waiting) for one in lanes[2:]) >= facts
        elif step == "take":
            buffer.take(lane, 3 * ENTRY_BYTES)
        else:
            buffer.settle(lane, list(lane.in_flight) if step == "fail" else [])
        in_flight = sum(len(one.in_flight) for one in lanes) * ENTRY_BYTES
        assert buffer.size_bytes <= max(10 * ENTRY_BYTES, in_flight)
        assert buffer.size_bytes == buffer.waiting_records() * ENTRY_BYTES
        for one in lanes:
            sequences = [entry.sequence for entry in (*one.in_flight, *one.waiting)]
            assert sequences == sorted(sequences)


def test_what_failed_goes_back_to_the_front() -> None:
    buffer = Buffer(100 * ENTRY_BYTES)
    lane = lanes_of(buffer)[2]
    for second in range(6):
        put(buffer, lane, second)
    taken = buffer.take(lane, 4 * ENTRY_BYTES)
    assert [entry.event_time_ms for entry in taken] == [0, 1000, 2000, 3000]
    assert buffer.take(lane, ENTRY_BYTES) == []
    assert buffer.settle(lane, [taken[3], taken[1]]) == 2
    assert [entry.event_time_ms for entry in buffer.take(lane, 100 * ENTRY_BYTES)] == [1000, 3000, 4000, 5000]


def test_lost_facts_are_remembered_as_one_span_and_replaceable_records_are_only_counted() -> None:
    buffer = Buffer(4 * ENTRY_BYTES)
    depth, _, facts, _ = lanes_of(buffer)
    put(buffer, depth, 0)
    for second in range(1, 8):
        put(buffer, facts, second)
    assert buffer.dropped == {"depth": 1, "kline_1s": 3}
    (loss,) = buffer.take_losses()
    assert (loss.symbol, loss.stream, loss.from_ms, loss.to_ms, loss.records) == ("BTCUSDT", "kline_1s", 1000, 4000, 3)
    assert buffer.take_losses() == []


def test_one_record_larger_than_the_hand_over_still_goes() -> None:
    buffer = Buffer(100 * ENTRY_BYTES)
    lane = lanes_of(buffer)[2]
    put(buffer, lane, 1)
    assert len(buffer.take(lane, 1)) == 1
