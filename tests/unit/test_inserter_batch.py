"""From records to a batch: text goes through, what cannot be a kline becomes a dead letter, order does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inserter.batch import Batch, BatchBuilder
from inserter.rows import copy_line
from inserter.settings import InserterSettings
from inserter.watch import BAD_MIN_RECORDS, BAD_WINDOW_RECORDS, SLOW_WRITE_S, BadShare, Watch
from market.depth import MiniTicker
from market.feed import BadFrameRecord
from market.interval import Interval
from market.kline import Kline
from market.record_codec import encode_record
from runtime.clock import ManualClock
from runtime.health import Health
from runtime.kafka_client import ConsumerRecord, TopicPartition, load_topics

TOPICS = load_topics()
KLINES = TopicPartition(TOPICS.kline_1s.name, 0)
NOW_MS = 1_800_000_000_000
SECOND = "2027-01-15 08:00:00"
NEXT = "2027-01-15 08:00:01"


def kline(**changes: object) -> Kline:
    open_time_ms = int(str(changes.pop("open_time_ms", NOW_MS)))
    base = Kline(
        symbol="BTCUSDT",
        interval=Interval.S1,
        open_time_ms=open_time_ms,
        close_time_ms=open_time_ms + 999,
        open=Decimal("10.00"),
        high=Decimal("12.00"),
        low=Decimal("9.50"),
        close=Decimal("11.00"),
        base_volume=Decimal("1.50"),
        quote_volume=Decimal("15.00"),
        trade_count=3,
        taker_buy_base_volume=Decimal("0E-8"),
        taker_buy_quote_volume=Decimal("0.00"),
        first_trade_id=7,
        last_trade_id=9,
        is_closed=True,
        event_time_ms=open_time_ms + 1005,
        received_at_ms=open_time_ms + 1010,
    )
    return msgspec.structs.replace(base, **changes)


def records_of(
    values: Sequence[bytes | None], partition: TopicPartition = KLINES, first_offset: int = 0
) -> list[ConsumerRecord]:
    """Consecutive Kafka records of one partition."""
    topic, number = partition
    return [
        ConsumerRecord(topic, number, first_offset + place, NOW_MS, 0, None, value, None, -1, len(value or b""), ())
        for place, value in enumerate(values)
    ]


def batch_of(values: list[bytes | None], partition: TopicPartition = KLINES, first_offset: int = 0) -> Batch:
    builder = BatchBuilder(TOPICS)
    builder.add(partition, records_of(values, partition, first_offset), first_offset)
    return builder.batch


def test_row_passes_its_text_through() -> None:
    batch = batch_of([encode_record(kline())])
    row = batch.rows["BTCUSDT"][NOW_MS]
    assert copy_line(row) == (
        f"BTCUSDT\t{SECOND}+00\t{SECOND}.999+00\t3\t7\t9\t{NEXT}.005+00\t{NEXT}.010+00\tstream\t"
        "10.00\t12.00\t9.50\t11.00\t1.50\t15.00\t0E-8\t0.00\n"
    )
    assert (batch.record_count, batch.bad_count, batch.progress[KLINES].next_offset) == (1, 0, 1)


GOOD = encode_record(kline())
BAD = {
    "no JSON": b"\xff{",
    "tombstone": None,
    "field missing": b'{"symbol":"BTCUSDT"}',
    "number of the wrong type": GOOD.replace(b'"trade_count":3', b'"trade_count":"3"'),
    "not a number": GOOD.replace(b'"10.00"', b'"NaN"'),
    "infinite": GOOD.replace(b'"12.00"', b'"Infinity"'),
    "text in a number": GOOD.replace(b'"1.50"', b'"1.5x"'),
    "empty number": GOOD.replace(b'"1.50"', b'""'),
    "tab in a number": GOOD.replace(b'"1.50"', b'"1\\t50"'),
    "line end in a number": GOOD.replace(b'"1.50"', b'"1\\n50"'),
    "negative volume": GOOD.replace(b'"1.50"', b'"-1.50"'),
    "open above high": GOOD.replace(b'"12.00"', b'"10.50"'),
    "off the grid": encode_record(kline(open_time_ms=NOW_MS + 1)),
    "wrong close time": encode_record(kline(close_time_ms=NOW_MS)),
    "not closed": encode_record(kline(is_closed=False)),
    "other interval": encode_record(kline(interval=Interval.M1, close_time_ms=NOW_MS + 59_999)),
    "two days ahead": encode_record(kline(open_time_ms=NOW_MS + 2 * 86_400_000)),
    "symbol with a tab": encode_record(kline(symbol="BTC\tUSDT")),
    "no symbol": encode_record(kline(symbol="")),
    "trade id beyond 64 bits": GOOD.replace(b'"last_trade_id":9', b'"last_trade_id":9223372036854775808'),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_record_becomes_a_dead_letter_and_its_neighbours_stay(what: str) -> None:
    batch = batch_of([GOOD, BAD[what], encode_record(kline(open_time_ms=NOW_MS + 1000))])
    good = {NOW_MS, NOW_MS + 1000}
    assert set(batch.rows["BTCUSDT"]) == good
    assert batch.row_count == 2
    [letter] = batch.dead_letters
    assert (letter.offset, letter.payload, batch.bad_count) == (1, BAD[what] or b"", 1)
    assert letter.reason


@given(st.permutations([(0, 5), (0, 9), (1, 5), (0, 7), (1, 4)]))
def test_newest_event_of_a_second_wins_in_any_order(events: list[tuple[int, int]]) -> None:
    values: list[bytes | None] = [
        encode_record(kline(open_time_ms=NOW_MS + 1000 * second, event_time_ms=NOW_MS + 5000 + event))
        for second, event in events
    ]
    rows = batch_of(values).rows["BTCUSDT"]
    assert {t: row.kline.event_time_ms for t, row in rows.items()} == {
        NOW_MS: NOW_MS + 5009,
        NOW_MS + 1000: NOW_MS + 5005,
    }


def test_prices_of_different_scale_take_the_strict_way() -> None:
    batch = batch_of([encode_record(kline(low=Decimal("9.5"), high=Decimal(100)))])
    assert batch.row_count == 1
    assert not batch.dead_letters


def test_skipped_offsets_are_noticed() -> None:
    builder = BatchBuilder(TOPICS)
    builder.add(KLINES, records_of([GOOD], first_offset=5), 4)
    assert builder.batch.jumped == {KLINES}
    assert (builder.batch.progress[KLINES].start_offset, builder.batch.progress[KLINES].next_offset) == (4, 6)


def test_ticker_keeps_the_newest_and_bad_frames_have_no_offset() -> None:
    ticker = MiniTicker(
        symbol="BTCUSDT",
        open=Decimal(1),
        high=Decimal(1),
        low=Decimal(1),
        close=Decimal(1),
        base_volume=Decimal(1),
        quote_volume=Decimal(1),
        event_time_ms=5,
    )
    newer = msgspec.structs.replace(ticker, event_time_ms=9)
    tickers = batch_of([encode_record(newer), encode_record(ticker)], TopicPartition(TOPICS.mini_ticker.name, 0))
    assert tickers.tickers["BTCUSDT"][0] == newer
    frame = BadFrameRecord(stream="btcusdt@trade", reason="no JSON", frame=b"\x00x", connection="c1", received_at_ms=4)
    [letter] = batch_of([encode_record(frame)], TopicPartition(TOPICS.dead_frame.name, 0)).dead_letters
    assert (letter.topic, letter.offset, letter.payload, letter.received_at_ms) == ("btcusdt@trade", None, b"\x00x", 4)


def test_bad_share_needs_enough_records() -> None:
    few = Batch(record_count=10, bad_count=10)
    share = BadShare(0.5)
    assert not share.is_too_large(few)
    assert BadShare(0.5).is_too_large(Batch(record_count=BAD_MIN_RECORDS, bad_count=BAD_MIN_RECORDS // 2 + 1))
    assert not BadShare(0.5).is_too_large(Batch(record_count=BAD_MIN_RECORDS, bad_count=BAD_MIN_RECORDS // 2))


def test_bad_share_forgets_batches_of_one_record_exactly() -> None:
    share = BadShare(0.5)
    for number in range(5 * BAD_WINDOW_RECORDS):
        assert not share.is_too_large(Batch(record_count=1, bad_count=number % 2)), number
    for _ in range(BAD_WINDOW_RECORDS // 2 - 1):
        assert not share.is_too_large(Batch(record_count=1))
    assert [share.is_too_large(Batch(record_count=1, bad_count=1)) for _ in range(BAD_WINDOW_RECORDS)][-1]


def test_a_database_that_does_not_answer_is_seen_in_health() -> None:
    clock, health = ManualClock(), Health("inserter")
    watch = Watch(InserterSettings(), TOPICS, health, clock, {})
    watch.writing_since_s = clock.monotonic_s()
    watch.judge_database()
    assert health.report(readiness=False)[0] == 200
    clock.advance(int(SLOW_WRITE_S * 1000) + 1)
    watch.judge_database()
    assert health.report(readiness=False) == (
        503,
        {"room": "inserter", "ok": False, "reasons": ["database: no answer for 10 s"]},
    )
    watch.writing_since_s = None
    watch.judge_database()
    assert health.report(readiness=False)[0] == 200
