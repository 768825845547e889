"""Candles on a real PostgreSQL equal market.rollup, whatever the order, the retries and the lateness."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import psycopg
import pytest

from aggregator.history import History, store, wait_for_lock
from aggregator.publish import Publisher, publish
from aggregator.retention import apply_retention
from aggregator.roll_up import lateness_s, make_parents, roll_up
from market.interval import CHILD_INTERVAL, MINUTE_MS, SECOND_MS, STORED_INTERVALS, Interval
from market.kline import Candle, Kline, Source, differing_columns
from market.rollup import roll_up as roll_up_by_rule
from runtime.clock import ManualClock, new_random
from runtime.database import Connection, LockNotAvailable, TupleRow, connect
from runtime.exchange_rest import ExchangeRest, RestRefused
from runtime.kafka_client import KafkaError
from tests.aggregator_rows import candles_of, insert, make_days
from tests.conftest import Engines
from tests.klines_of import seconds_of

#: 01:57 UTC, so that bars of every interval begin and end within a few minutes.
START_MS = 1_799_971_200_000 - 1_799_971_200_000 % Interval.D1.length_ms + (3 * 60 + 57) * MINUTE_MS


@pytest.fixture
def database(fresh_database: str) -> Iterator[Connection[TupleRow]]:
    """A connection to an empty database with a partition for the days around START_MS."""
    with connect(fresh_database, "test") as connection:
        make_days(connection, START_MS)
        yield connection


def expected_of(klines: Sequence[Kline], watermark_ms: int) -> dict[tuple[Interval, int], Candle]:
    """Every candle below the watermark by the rule alone."""
    parts: Sequence[Kline | Candle] = [
        k for k in klines if Interval.M1.floor(k.open_time_ms) + MINUTE_MS <= watermark_ms
    ]
    expected: dict[tuple[Interval, int], Candle] = {}
    for interval in STORED_INTERVALS:
        buckets: dict[int, list[Kline | Candle]] = {}
        for part in parts:
            buckets.setdefault(interval.floor(part.open_time_ms), []).append(part)
        parts = [roll_up_by_rule(bucket, interval) for bucket in buckets.values()]
        expected |= {(interval, candle.open_time_ms): candle for candle in parts if isinstance(candle, Candle)}
    return expected


def check(connection: Connection[TupleRow], symbol: str, klines: Sequence[Kline], watermark_ms: int) -> None:
    """The table holds exactly what the rule gives, bit for bit."""
    found, expected = candles_of(connection, symbol), expected_of(klines, watermark_ms)
    assert found.keys() == expected.keys()
    for key, candle in found.items():
        wanted = expected[key]
        assert differing_columns(candle, wanted) == (), key
        assert (candle.row_count, candle.is_complete, candle.first_trade_id, candle.last_trade_id) == (
            wanted.row_count,
            wanted.is_complete,
            wanted.first_trade_id,
            wanted.last_trade_id,
        ), key
        end_ms = candle.close_time_ms + 1
        assert candle.is_closed == (end_ms <= watermark_ms), key
        assert candle.covered_until_ms <= end_ms
        assert candle.source is Source.SECONDS


@pytest.mark.parametrize("seed", range(4))
def test_any_arrival_order_with_quiet_seconds_holes_and_late_rows_equals_the_rule(
    database: Connection[TupleRow], seed: int
) -> None:
    rng = new_random(seed)
    klines = seconds_of("BTCUSDT", START_MS, 9 * 60, quiet_share=(0.3, 0.97, 0.6, 0.0)[seed])
    quiet_minute = range(START_MS + 2 * MINUTE_MS, START_MS + 3 * MINUTE_MS)
    klines = [k for k in klines if k.trade_count == 0 or seed == 3 or k.open_time_ms not in quiet_minute]
    present = [k for k in klines if rng.random() > 0.1]
    late = [k for k in present if rng.random() < 0.2]
    on_time = [k for k in present if k not in late]
    watermark_ms = 0
    for piece in range(0, len(on_time), 97):
        insert(database, on_time[piece : piece + 97])
        watermark_ms = max(watermark_ms, on_time[min(piece + 96, len(on_time) - 1)].open_time_ms + SECOND_MS)
        roll_up(database, max_minutes=2 if piece % 2 else 5_000)
    rng.shuffle(late)
    for piece in range(0, len(late), 31):
        insert(database, late[piece : piece + 31])
        watermark_ms = max([watermark_ms, *(k.open_time_ms + SECOND_MS for k in late[piece : piece + 31])])
        while roll_up(database, max_minutes=3).more:
            pass
    while roll_up(database).minutes:
        pass
    check(database, "BTCUSDT", present, watermark_ms)


def test_all_quiet_minute_is_flat(database: Connection[TupleRow]) -> None:
    klines = seconds_of("BTCUSDT", START_MS, 60, quiet_share=1.0)
    insert(database, klines)
    roll_up(database)
    candle = candles_of(database, "BTCUSDT")[Interval.M1, START_MS]
    assert {candle.open, candle.high, candle.low, candle.close} == {klines[0].close}
    assert (candle.trade_count, candle.first_trade_id, candle.last_trade_id) == (0, -1, -1)


def test_minute_above_the_watermark_waits(database: Connection[TupleRow]) -> None:
    insert(database, seconds_of("BTCUSDT", START_MS, 59))
    assert (roll_up(database).minutes, lateness_s(database)) == (0, 0.0)
    insert(database, seconds_of("BTCUSDT", START_MS, 65)[59:])
    assert lateness_s(database) == 5.0
    assert (roll_up(database).minutes, lateness_s(database)) == (1, 0.0)


def test_second_roll_up_touches_nothing_and_late_row_counts_one_revision(database: Connection[TupleRow]) -> None:
    klines = seconds_of("BTCUSDT", START_MS, 120, quiet_share=0.0)
    insert(database, [*klines[:30], *klines[31:]])
    roll_up(database)
    before = database.execute("select xmin::text, * from aggregated_kline order by interval, open_time").fetchall()
    database.commit()
    insert(database, klines[:3])
    assert roll_up(database).minutes == 1
    assert (
        database.execute("select xmin::text, * from aggregated_kline order by interval, open_time").fetchall() == before
    )
    database.commit()
    insert(database, [klines[30]])
    roll_up(database)
    candles = candles_of(database, "BTCUSDT")
    assert candles[Interval.M1, START_MS].revision == 1
    assert candles[Interval.M1, START_MS].is_complete
    assert candles[Interval.M1, START_MS + MINUTE_MS].revision == 0
    assert candles[Interval.M5, Interval.M5.floor(START_MS)].revision == 0, "a forming bar has no revisions"


def test_where_seconds_came_from_is_counted_through_every_interval(database: Connection[TupleRow]) -> None:
    klines = seconds_of("BTCUSDT", START_MS, 180)
    insert(database, [*klines[:50], *klines[80:]])
    insert(database, klines[50:57], source="rest")
    insert(database, klines[57:80], source="trades")
    roll_up(database)
    counts = "select distinct row_count, rest_count, trades_count from aggregated_kline where interval = %s"
    assert sorted(database.execute(counts, ["1m"]).fetchall()) == [(60, 0, 0), (60, 0, 20), (60, 7, 3)]
    for interval in STORED_INTERVALS[1:]:
        assert database.execute(counts, [interval.value]).fetchall() == [(180, 7, 23)], interval


def test_corrected_second_of_a_complete_candle_is_a_revision_and_the_old_values_are_kept(
    database: Connection[TupleRow],
) -> None:
    klines = seconds_of("BTCUSDT", START_MS, 240)
    insert(database, klines)
    roll_up(database)
    before = candles_of(database, "BTCUSDT")[Interval.M1, START_MS]
    database.execute("update kline_1s set base_volume = base_volume + 1, source = 'rest' where open_time = %s",
                     [datetime.fromtimestamp(START_MS / 1000, UTC)])  # fmt: skip
    insert(database, klines[:1])
    roll_up(database)
    after = candles_of(database, "BTCUSDT")[Interval.M1, START_MS]
    assert (after.revision, after.row_count, after.base_volume) == (1, 60, before.base_volume + 1)
    assert after.updated_at_ms >= before.updated_at_ms
    kept = database.execute("select interval, revision, base_volume from candle_revision").fetchall()
    assert ("1m", 0, before.base_volume) in kept
    # A source that changes alone is no revision: what was known at a moment stays what it was.
    database.execute("update kline_1s set source = 'archive' where source = 'rest'")
    insert(database, klines[:1])
    roll_up(database)
    assert candles_of(database, "BTCUSDT")[Interval.M1, START_MS] == after
    due = database.execute("select open_time, marks from audit_due order by 1 limit 1").fetchone()
    assert due == (datetime.fromtimestamp(START_MS / 1000, UTC), 2)


def test_bar_whose_last_minute_is_missing_is_closed_by_the_next(database: Connection[TupleRow]) -> None:
    klines = seconds_of("BTCUSDT", START_MS, 6 * 60)
    kept = [k for k in klines if not START_MS + 2 * MINUTE_MS <= k.open_time_ms < START_MS + 3 * MINUTE_MS]
    insert(database, kept[:120])
    roll_up(database)
    bar = (Interval.M5, Interval.M5.floor(START_MS))
    assert not candles_of(database, "BTCUSDT")[bar].is_closed
    insert(database, kept[120:])
    roll_up(database)
    candle = candles_of(database, "BTCUSDT")[bar]
    assert (candle.is_closed, candle.is_complete, candle.row_count) == (True, False, 120)
    assert candle.covered_until_ms == candle.close_time_ms + 1


def test_concurrent_roll_ups_and_late_rows_lose_nothing(database: Connection[TupleRow], fresh_database: str) -> None:
    klines = {symbol: seconds_of(symbol, START_MS, 240) for symbol in ("BTCUSDT", "ETHUSDT", "XRPUSDT")}
    done = threading.Event()

    def roll() -> None:
        with connect(fresh_database, "roller") as own:
            while not done.is_set():
                roll_up(own)

    rollers = [threading.Thread(target=roll) for _ in range(3)]
    for thread in rollers:
        thread.start()
    rng = new_random(5)
    rows = [k for of_symbol in klines.values() for k in of_symbol]
    rng.shuffle(rows)
    for piece in range(0, len(rows), 40):
        insert(database, sorted(rows[piece : piece + 40], key=lambda k: (k.symbol, k.open_time_ms)))
    done.set()
    for thread in rollers:
        thread.join()
    while roll_up(database).minutes:
        pass
    for symbol, of_symbol in klines.items():
        check(database, symbol, of_symbol, START_MS + 240 * SECOND_MS)


def rest_bars(symbol: str, interval: Interval, start_ms: int, count: int) -> list[Kline]:
    """Closed bars as REST gives them."""
    base = seconds_of(symbol, start_ms, 1, quiet_share=0.0)[0]
    return [
        msgspec.structs.replace(
            base,
            interval=interval,
            open_time_ms=start_ms + i * interval.length_ms,
            close_time_ms=start_ms + (i + 1) * interval.length_ms - 1,
            base_volume=Decimal(1000 + i),
            first_trade_id=-1,
            last_trade_id=-1,
        )
        for i in range(count)
    ]


def test_exchange_bar_stays_until_ours_is_complete(database: Connection[TupleRow]) -> None:
    with database.transaction():
        store(database, "BTCUSDT", Interval.M1, rest_bars("BTCUSDT", Interval.M1, START_MS, 2), is_published=False)
    klines = seconds_of("BTCUSDT", START_MS, 180)
    insert(database, [*klines[20:60], *klines[60:120], *klines[120:180]])
    roll_up(database)
    candles = candles_of(database, "BTCUSDT")
    assert candles[Interval.M1, START_MS].source is Source.REST
    assert candles[Interval.M1, START_MS].first_trade_id is None
    assert candles[Interval.M1, START_MS + MINUTE_MS].source is Source.SECONDS
    mixed = candles[Interval.M5, Interval.M5.floor(START_MS)]
    assert (mixed.source, mixed.row_count) == (Source.REST, 180)
    assert mixed.base_volume == 1000 + sum(k.base_volume for k in klines[60:])
    insert(database, klines[:20])
    roll_up(database)
    assert candles_of(database, "BTCUSDT")[Interval.M1, START_MS].source is Source.SECONDS


def test_history_fills_incomplete_bars_and_never_replaces_complete_ones_of_ours(database: Connection[TupleRow]) -> None:
    klines = seconds_of("BTCUSDT", START_MS, 120)
    insert(database, klines[30:])
    roll_up(database)
    ours = candles_of(database, "BTCUSDT")[Interval.M1, START_MS + MINUTE_MS]
    with database.transaction():
        wait_for_lock(database)
        store(database, "BTCUSDT", Interval.M1, rest_bars("BTCUSDT", Interval.M1, START_MS, 2), is_published=True)
        make_parents(database, ["BTCUSDT"], [datetime.fromtimestamp(START_MS / 1000, UTC)])
    candles = candles_of(database, "BTCUSDT")
    assert candles[Interval.M1, START_MS + MINUTE_MS] == ours
    assert (candles[Interval.M1, START_MS].source, candles[Interval.M1, START_MS].revision) == (Source.REST, 1)
    for interval in STORED_INTERVALS[1:]:
        bar = candles[interval, interval.floor(START_MS)]
        assert (bar.row_count, bar.source, bar.is_closed) == (120, Source.REST, False), interval
        assert CHILD_INTERVAL[interval] in {key[0] for key in candles} | {Interval.S1}


class OneSymbolRefused(ExchangeRest):
    """An exchange that knows BTCUSDT alone."""

    def server_time_ms(self) -> int:
        """After everything."""
        return START_MS + Interval.D1.length_ms

    def klines(
        self, symbol: str, interval: Interval, start_ms: int | None, end_ms: int | None, limit: int = 0
    ) -> list[Kline]:
        """Its minute, or the refusal."""
        if symbol != "BTCUSDT":
            raise RestRefused(400, -1121, "Invalid symbol.")
        return rest_bars(symbol, interval, START_MS, 1)


def test_begun_minute_comes_from_the_exchange_though_another_symbol_is_refused(database: Connection[TupleRow]) -> None:
    for rank, symbol in enumerate(("AAAUSDT", "BTCUSDT", "ZZZUSDT")):
        database.execute(
            "insert into market_symbol values (%s, 'A', 'USDT', 'TRADING', 0.01, 0.01, %s, true, now())", [symbol, rank]
        )
        insert(database, seconds_of(symbol, START_MS, 60)[30:])
    roll_up(database)
    clock = ManualClock()
    History(OneSymbolRefused(["http://exchange.invalid"], clock), clock).top_up(database)
    found = {s: candles_of(database, s)[Interval.M1, START_MS] for s in ("AAAUSDT", "BTCUSDT", "ZZZUSDT")}
    assert {symbol: candle.source for symbol, candle in found.items()} == {
        "AAAUSDT": Source.SECONDS,
        "BTCUSDT": Source.REST,
        "ZZZUSDT": Source.SECONDS,
    }
    assert (found["BTCUSDT"].is_complete, found["BTCUSDT"].revision) == (True, 1)


def test_retention_counts_from_the_newest_watermark(database: Connection[TupleRow]) -> None:
    day = datetime.fromtimestamp(START_MS / 1000, UTC).date()
    for back in range(1, 6):
        old = day - timedelta(days=back)
        database.execute(
            f"create table kline_1s_{old:%Y%m%d} partition of kline_1s"
            f" for values from ('{old}') to ('{old + timedelta(days=1)}')"
        )
    database.commit()
    assert apply_retention(database, 48, 30, 90) == []
    insert(database, seconds_of("BTCUSDT", START_MS, 60))
    dropped = apply_retention(database, 48, 30, 90)
    assert dropped == [f"kline_1s_{day - timedelta(days=back):%Y%m%d}" for back in (5, 4, 3)]
    alert = """insert into operator_alert (condition, subject, message, remedy, recovered_at)
        values ('disk', %s, '', '', now() - make_interval(days => %s))"""
    for subject, days in (("old", 91), ("new", 1), ("standing", None)):
        database.execute(alert, [subject, days])
    assert apply_retention(database, 48, 30, 90) == []
    assert database.execute("select count(*) from kline_1s").fetchall() == [(60,)]
    assert database.execute("select subject from operator_alert order by 1").fetchall() == [("new",), ("standing",)]


class Recorder(Publisher):
    """Takes what would go to Kafka; may be told to fail."""

    def __init__(self) -> None:
        self.sent: list[Candle] = []
        self.is_down = False

    def send(self, candles: Sequence[Candle]) -> None:
        """Keep them, or fail as a broker that is away does."""
        if self.is_down:
            raise KafkaError("down")
        self.sent += candles


def test_changed_candles_are_published_once_and_kept_while_the_broker_is_away(database: Connection[TupleRow]) -> None:
    recorder = Recorder()
    insert(database, seconds_of("BTCUSDT", START_MS, 60))
    roll_up(database)
    recorder.is_down = True
    with pytest.raises(KafkaError):
        publish(database, recorder)
    recorder.is_down = False
    assert publish(database, recorder) == len(STORED_INTERVALS)
    assert {(c.interval, c.is_closed) for c in recorder.sent} == {
        (interval, interval is Interval.M1) for interval in STORED_INTERVALS
    }
    assert {(c.interval, c.open_time_ms): c for c in recorder.sent} == candles_of(database, "BTCUSDT")
    assert publish(database, recorder) == 0


def test_candle_goes_to_the_real_broker(database: Connection[TupleRow], engines: Engines) -> None:
    insert(database, seconds_of("BTCUSDT", START_MS, 60))
    roll_up(database)
    publisher = Publisher(engines.kafka_bootstrap_servers)
    assert publish(database, publisher) == len(STORED_INTERVALS)
    publisher.close()
    assert database.execute("select count(*) from candle_outbox").fetchall() == [(0,)]


def test_a_table_that_cannot_be_pruned_keeps_no_partition_alive(
    database: Connection[TupleRow], fresh_database: str
) -> None:
    old = datetime.fromtimestamp(START_MS / 1000, UTC).date() - timedelta(days=9)
    database.execute(
        f"create table kline_1s_{old:%Y%m%d} partition of kline_1s"
        f" for values from ('{old}') to ('{old + timedelta(days=1)}')"
    )
    database.execute("set lock_timeout = 100")
    database.commit()
    insert(database, seconds_of("BTCUSDT", START_MS, 60))
    with psycopg.connect(fresh_database) as other:
        other.execute("lock table minute_audit")
        with pytest.raises(LockNotAvailable):
            apply_retention(database, 48, 30, 90)
    assert database.execute("select to_regclass(%s) is null", [f"kline_1s_{old:%Y%m%d}"]).fetchone() == (True,)


def test_retention_gives_up_behind_a_long_reader(database: Connection[TupleRow], fresh_database: str) -> None:
    day = datetime.fromtimestamp(START_MS / 1000, UTC).date()
    old = day - timedelta(days=9)
    database.execute(
        f"create table kline_1s_{old:%Y%m%d} partition of kline_1s"
        f" for values from ('{old}') to ('{old + timedelta(days=1)}')"
    )
    database.commit()
    insert(database, seconds_of("BTCUSDT", START_MS, 60))
    with psycopg.connect(fresh_database) as reader:
        reader.execute("select count(*) from kline_1s")
        assert apply_retention(database, 48, 30, 90) == []
    assert apply_retention(database, 48, 30, 90) == [f"kline_1s_{old:%Y%m%d}"]
