"""What rows mean before anything is written: trade chains, seconds that nobody hears of, minutes of the exchange."""

from __future__ import annotations

import uuid

import msgspec
import pytest

from inserter.account import Found, account_symbol, account_unheard, follow_trades
from inserter.batch import Batch, BatchBuilder, Progress, WireKline, as_wire
from inserter.positions import LogRange, Position, Positions, resolve
from inserter.store import Checkpoint, Suspect, SymbolState
from inserter.unheard import LATE_MS, ExchangeClock, LogEnds, Unheard
from market.feed import FeedOutage, GapCause
from market.interval import Interval
from market.kline import Kline
from market.record_codec import encode_record
from runtime.clock import ManualClock
from runtime.kafka_client import TopicPartition, load_topics
from tests.klines_of import seconds_of
from tests.unit.test_inserter_batch import TOPICS, kline, records_of

START_MS = 1_800_000_000_000
SECONDS = TopicPartition(load_topics().kline_1s.name, 0)
MINUTES = TopicPartition(TOPICS.kline_1m.name, 0)


def wire(klines: list[Kline]) -> list[WireKline]:
    return [as_wire(one) for one in klines]


def test_chain_goes_on_over_quiet_seconds_and_over_batches() -> None:
    klines = wire(seconds_of("BTCUSDT", START_MS, 60, quiet_share=0.5))
    chain, suspects = follow_trades(None, klines[:30], ())
    chain, more = follow_trades(chain, klines[30:], ())
    assert suspects == more == []
    newest = [one for one in klines if one.trade_count][-1]
    assert chain == (newest.last_trade_id, newest.open_time_ms)


def test_break_is_suspect_from_the_last_trade_to_the_end_of_the_second_after_it() -> None:
    traded = [
        kline(open_time_ms=START_MS + 1000 * second, first_trade_id=first, last_trade_id=last, trade_count=count)
        for second, first, last, count in ((0, 1, 5, 5), (1, -1, -1, 0), (2, 7, 9, 3), (3, 10, 10, 1))
    ]
    chain, suspects = follow_trades(None, wire(traded), ())
    assert suspects == [Suspect("BTCUSDT", START_MS, START_MS + 3000)]
    assert chain == (10, START_MS + 3000)
    # The same after a hole proves nothing.
    assert follow_trades(None, wire(traded), (START_MS + 2000,))[1] == []


def test_unknown_ids_break_no_chain() -> None:
    klines = wire(seconds_of("BTCUSDT", START_MS, 20, quiet_share=0))
    klines[9] = msgspec.structs.replace(klines[9], first_trade_id=-1, last_trade_id=-1)
    assert follow_trades(None, klines, ())[1] == []


def test_unheard_seconds_move_the_watermark_and_mark_their_last_minute() -> None:
    found = Found()
    assert not account_unheard(found, "BTCUSDT", START_MS, START_MS)
    assert account_unheard(found, "BTCUSDT", START_MS - 1000, START_MS + 2000)
    assert found.missing == {"BTCUSDT": ([(START_MS - 1000, START_MS + 2000)], GapCause.UNKNOWN)}
    assert found.watermarks == {"BTCUSDT": START_MS + 2000}
    assert found.dirty == {"BTCUSDT": {START_MS}}
    assert found.chains == {"BTCUSDT": None}


def test_unheard_seconds_follow_the_rows_of_the_same_batch() -> None:
    builder = BatchBuilder(TOPICS)
    values = [encode_record(one) for one in seconds_of("BTCUSDT", START_MS, 3)]
    builder.add(SECONDS, records_of(values, SECONDS), 0)
    found = Found()
    account_symbol(found, "BTCUSDT", builder.batch.rows["BTCUSDT"], START_MS - 2000, -1)
    account_unheard(found, "BTCUSDT", found.watermarks["BTCUSDT"], START_MS + 9000)
    assert found.missing["BTCUSDT"][0] == [(START_MS - 2000, START_MS), (START_MS + 3000, START_MS + 9000)]


def report(from_ms: int, to_ms: int | None, symbol: str = "BTCUSDT") -> FeedOutage:
    return FeedOutage(
        symbol=symbol, stream="kline_1s", cause=GapCause.SILENCE, from_time_ms=from_ms, to_time_ms=to_ms,
        detail="", event_time_ms=from_ms,
    )  # fmt: skip


def stored(*reports: FeedOutage) -> Batch:
    [record] = records_of([b""], TopicPartition(TOPICS.feed_outage.name, 0))
    return Batch(outages=[(one, record) for one in reports])


def positions_at(offset: int) -> Positions:
    positions = Positions()
    positions.by_partition[SECONDS] = Position(uuid.UUID(int=1), offset, offset)
    return positions


def test_only_what_is_out_and_only_when_the_log_is_read_to_its_end() -> None:
    unheard = Unheard(TOPICS, ExchangeClock())
    clock = ManualClock(START_MS + 30_000)
    states = {symbol: SymbolState(START_MS) for symbol in ("BTCUSDT", "ETHUSDT")}
    unheard.load(states, {}, clock.monotonic_s())
    known = states.keys()
    logs = LogEnds(clock.monotonic_s() + 30, {SECONDS: 8})
    assert unheard.candidates(Batch(), positions_at(8), known, logs) == {}
    unheard.committed(stored(report(START_MS, None)), clock.monotonic_s())
    assert unheard.candidates(Batch(), positions_at(7), known, logs) == {}
    last = Batch(progress={SECONDS: Progress(7, 8)})
    assert unheard.candidates(last, positions_at(7), known, logs) == {"BTCUSDT": START_MS + 30_000 - LATE_MS}
    # The same answer of the broker tells nothing new.
    assert unheard.candidates(Batch(), positions_at(8), known, logs) == {}


@pytest.mark.parametrize(
    ("ending", "is_out"),
    [(report(START_MS, START_MS + 5000), False), (report(START_MS - 9000, START_MS - 8000), True),
     (report(START_MS + 2000, START_MS + 3000), False), (report(START_MS, START_MS + 5000, "ETHUSDT"), True)],
)  # fmt: skip
def test_an_outage_ends_as_it_does_in_the_store(ending: FeedOutage, *, is_out: bool) -> None:
    unheard = Unheard(TOPICS, ExchangeClock())
    clock = ManualClock(START_MS)
    unheard.load({"BTCUSDT": SymbolState(START_MS)}, {"BTCUSDT": START_MS}, clock.monotonic_s())
    unheard.committed(stored(ending), clock.monotonic_s())
    logs = LogEnds(clock.monotonic_s() + 60, {SECONDS: 8})
    assert bool(unheard.candidates(Batch(), positions_at(8), ("BTCUSDT",), logs)) is is_out


def test_the_time_before_a_start_counts_when_a_row_tells_of_it() -> None:
    """What our wall clock says is no proof: it may have been set while nobody looked."""
    exchange_clock, clock = ExchangeClock(), ManualClock(START_MS + 3_600_000)
    unheard = Unheard(TOPICS, exchange_clock)
    unheard.load({"BTCUSDT": SymbolState(START_MS)}, {"BTCUSDT": START_MS}, clock.monotonic_s())

    def listed_s(after_s: float) -> float:
        logs = LogEnds(clock.monotonic_s() + after_s, {SECONDS: 8})
        return (unheard.candidates(Batch(), positions_at(8), ("BTCUSDT",), logs)["BTCUSDT"] - START_MS) / 1000

    assert listed_s(0.1) == -3
    assert listed_s(60) == 57
    exchange_clock.saw(START_MS + 3_600_000, clock.monotonic_s())
    assert listed_s(0.2) == 3597
    # Another session of the same process still knows.
    unheard = Unheard(TOPICS, exchange_clock)
    unheard.load({"BTCUSDT": SymbolState(START_MS)}, {"BTCUSDT": START_MS}, clock.monotonic_s())
    assert listed_s(1.5) == 3598


def test_a_monotonic_clock_that_runs_fast_lists_nothing_that_has_not_been() -> None:
    exchange_clock = ExchangeClock()
    fast = 1.0001
    for second in range(0, 30 * 86_400, 60):
        exchange_clock.saw(START_MS + second * 1000, second * fast)
        at_least_ms = exchange_clock.at_least_ms((second + 59) * fast)
        assert at_least_ms is not None
        assert -LATE_MS < at_least_ms - (START_MS + (second + 59) * 1000) < 100
    hours = 30 * 24
    assert (at_least_ms := exchange_clock.at_least_ms((hours + 8) * 3600 * fast)) is not None
    assert at_least_ms < START_MS + (hours + 8) * 3_600_000 + 100


def test_a_clock_set_right_while_a_stream_is_out_changes_nothing() -> None:
    unheard, clock = Unheard(TOPICS, ExchangeClock()), ManualClock(START_MS)
    unheard.load({}, {}, clock.monotonic_s())
    builder = BatchBuilder(TOPICS)
    values = [encode_record(one) for one in seconds_of("BTCUSDT", START_MS, 3)]
    builder.add(SECONDS, records_of(values, SECONDS), 0)
    unheard.committed(builder.batch, clock.monotonic_s())
    unheard.committed(stored(report(START_MS + 3000, None)), clock.monotonic_s())
    logs = LogEnds(clock.monotonic_s() + 10.5, {SECONDS: 8})
    until_ms = unheard.candidates(Batch(), positions_at(8), ("BTCUSDT",), logs)
    assert until_ms == {"BTCUSDT": START_MS + 13_000 - LATE_MS}


def test_where_to_go_on_and_what_is_lost() -> None:
    ours, other = uuid.UUID(int=1), uuid.UUID(int=2)
    log = LogRange(ours, 30, 50)
    assert resolve(None, LogRange(ours, 0, 50)) == (Position(ours, 0, 0), None)
    assert resolve(None, log) == (Position(ours, 30, 30), GapCause.LOG_EXPIRED)
    assert resolve(Checkpoint(ours, 40, 1), log) == (Position(ours, 40, 40), None)
    assert resolve(Checkpoint(ours, 10, 1), log) == (Position(ours, 10, 30), GapCause.LOG_EXPIRED)
    assert resolve(Checkpoint(ours, 60, 1), log) == (Position(ours, 60, 30), GapCause.OFFSET_JUMP)
    assert resolve(Checkpoint(other, 40, 1), log) == (Position(ours, 40, 30), GapCause.LOG_EXPIRED)


def minute(**changes: object) -> Kline:
    return kline(interval=Interval.M1, close_time_ms=START_MS + 59_999, event_time_ms=START_MS + 60_005, **changes)


def test_closed_minutes_are_kept_and_forming_ones_passed_over() -> None:
    builder = BatchBuilder(TOPICS)
    newer = msgspec.structs.replace(minute(trade_count=8), event_time_ms=START_MS + 60_010)
    values = [
        encode_record(minute(is_closed=False)),
        encode_record(newer),
        encode_record(minute()),
        b"{",
        encode_record(kline()),
        encode_record(minute(is_closed=False)).replace(b'"is_closed":false', b'"is_closed": false'),
    ]
    builder.add(MINUTES, records_of(values, MINUTES), 0)
    batch = builder.batch
    assert [one for one, _ in batch.minutes.values()] == [newer]
    assert [letter.offset for letter in batch.dead_letters] == [3, 4, 5]
    assert batch.progress[MINUTES].next_offset == 6
