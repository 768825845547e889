"""The kept account of every hour closes, and equals a count made from the rows and the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from aggregator.completeness import mark_running, mark_uncounted, recount
from aggregator.roll_up import roll_up
from market.interval import HOUR_MS, MINUTE_MS, SECOND_MS
from runtime.clock import new_random
from runtime.database import Connection, TupleRow, connect
from tests.aggregator_rows import insert, make_days
from tests.klines_of import seconds_of

START_MS = 1_799_971_200_000 - 1_799_971_200_000 % HOUR_MS + 40 * MINUTE_MS
SECONDS = 40 * 60 + 37
#: The account as it was once computed on demand: from rows and gaps alone, without candles.
REFERENCE = """
with bound as (
    select w.symbol, least(f.first_row, f.first_gap) as from_time, w.event_time as to_time
    from symbol_watermark w cross join lateral (
        select (select min(open_time) from kline_1s where symbol = w.symbol) as first_row,
               (select min(from_time) from kline_gap where symbol = w.symbol and interval = '1s') as first_gap
    ) f
), hour as (
    select symbol, h, greatest(h, from_time) as from_time, least(h + interval '1 hour', to_time) as to_time
    from bound cross join lateral generate_series(date_trunc('hour', from_time), to_time, interval '1 hour') h
    where h < to_time
), second as (
    select symbol, h, second from hour
    cross join lateral generate_series(from_time, to_time - interval '1 second', interval '1 second') second
), state as (
    select s.symbol, s.h, k.source,
           (select g.state from kline_gap g where g.symbol = s.symbol and g.interval = '1s' and g.state <> 'repaired'
              and g.from_time <= s.second and g.to_time > s.second) as gap
    from second s left join kline_1s k on k.symbol = s.symbol and k.open_time = s.second
)
select symbol, h, count(*), count(*) filter (where source = 'stream'),
       count(*) filter (where source in ('rest', 'archive')), count(*) filter (where source = 'trades'),
       count(*) filter (where source is null and gap = 'absent'),
       count(*) filter (where source is null and gap <> 'absent')
from state group by symbol, h order by symbol, h
"""
KEPT = """
select symbol, hour, expected, stream, rest, trades, absent, open from completeness_hour order by symbol, hour
"""
GAP = """
insert into kline_gap (symbol, from_time, to_time, cause, state)
values (%s, timestamptz 'epoch' + %s * interval '1 millisecond', timestamptz 'epoch' + %s * interval '1 millisecond',
        'disconnect', %s)
"""
MARK_HOURS = """
insert into dirty_hour (symbol, hour)
select %s, h from generate_series(date_trunc('hour', timestamptz 'epoch' + %s * interval '1 millisecond'),
    timestamptz 'epoch' + %s * interval '1 millisecond' - interval '1 microsecond', interval '1 hour') h
on conflict (symbol, hour) do update set marks = dirty_hour.marks + 1
"""


@pytest.fixture
def database(fresh_database: str) -> Iterator[Connection[TupleRow]]:
    """An empty database with the day of the test."""
    with connect(fresh_database, "test") as connection:
        make_days(connection, START_MS)
        yield connection


def rows(connection: Connection[TupleRow], query: str) -> list[TupleRow]:
    found = connection.execute(query).fetchall()
    connection.commit()
    return found


def count(connection: Connection[TupleRow], max_hours: int = 500) -> None:
    while recount(connection, max_hours).hours:
        pass


def check(connection: Connection[TupleRow]) -> list[TupleRow]:
    kept = rows(connection, KEPT)
    assert kept == rows(connection, REFERENCE)
    for _, _, expected, *parts in kept:
        assert expected == sum(parts)
    return kept


def add_gap(connection: Connection[TupleRow], symbol: str, span: tuple[int, int], state: str) -> None:
    """What every writer of the ledger does: the gap, and its hours marked."""
    connection.execute(GAP, [symbol, *span, state])
    connection.execute(MARK_HOURS, [symbol, *span])
    connection.commit()


@pytest.mark.parametrize("seed", range(3))
def test_account_of_any_rows_and_gaps_closes_and_equals_the_reference(
    database: Connection[TupleRow], seed: int
) -> None:
    rng = new_random(seed)
    watermark_ms = START_MS + SECONDS * SECOND_MS
    filled: list[tuple[str, list[Any]]] = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        klines = seconds_of(symbol, START_MS, SECONDS)
        holes: list[tuple[int, int, str]] = []
        at = rng.randint(1, 200)
        while at < SECONDS - 1:
            length = rng.choice((1, 3, 70, 400))
            holes.append((at, min(at + length, SECONDS), rng.choice(("open", "absent", "unrepairable", "repaired"))))
            at += length + rng.randint(1, 500)
        lost = {second for a, b, state in holes if state != "repaired" for second in range(a, b)}
        late = {second for a, b, state in holes if state == "repaired" for second in range(a, b)}
        insert(database, [k for i, k in enumerate(klines) if i not in lost and i not in late], watermark_ms)
        insert(database, [klines[i] for i in sorted(late)], watermark_ms, rng.choice(("rest", "trades", "archive")))
        for a, b, state in holes:
            add_gap(database, symbol, (START_MS + a * SECOND_MS, START_MS + b * SECOND_MS), state)
        if lost:
            filled.append((symbol, [klines[i] for i in sorted(lost)]))
    if seed:
        while roll_up(database, max_minutes=7).minutes:
            pass
    mark_running(database)
    mark_uncounted(database)
    count(database, 1 if seed else 500)
    check(database)
    # Every gap is filled in the end: rows, ledger and marks in one transaction, as the repair does.
    for symbol, klines in filled:
        insert(database, klines, watermark_ms, "rest")
        database.execute("update kline_gap set state = 'repaired' where symbol = %s", [symbol])
        database.execute(MARK_HOURS, [symbol, START_MS, watermark_ms])
        database.commit()
        count(database)
    assert {row[-1] for row in check(database)} == {0}
    while roll_up(database).minutes:
        pass
    count(database)
    assert len(check(database)) == 4


def test_running_hour_is_renewed_when_the_watermark_moves(database: Connection[TupleRow]) -> None:
    klines = seconds_of("BTCUSDT", START_MS, 130)
    insert(database, klines[:70])
    mark_running(database)
    assert recount(database).ratios == {"BTCUSDT": 1.0}
    assert [row[2] for row in check(database)] == [70]
    mark_running(database)
    assert recount(database).hours == 0, "counted a moment ago"
    database.execute("update completeness_hour set updated_at = now() - interval '10 seconds'")
    insert(database, klines[70:])
    database.execute("update symbol_watermark set updated_at = clock_timestamp()")
    database.commit()
    mark_running(database)
    assert recount(database).hours == 1
    assert [row[2] for row in check(database)] == [130]


def test_roll_up_marks_its_hours_and_retention_leaves_the_account(database: Connection[TupleRow]) -> None:
    insert(database, seconds_of("BTCUSDT", START_MS, 1260))
    roll_up(database)
    hours = rows(database, "select count(*) from dirty_hour")
    assert hours == [(2,)]
    count(database)
    before = check(database)
    day = datetime.fromtimestamp(START_MS / 1000, UTC).date()
    database.execute(f"truncate kline_1s_{day:%Y%m%d}")
    database.execute(MARK_HOURS, ["BTCUSDT", START_MS, START_MS + HOUR_MS])
    database.commit()
    count(database)
    assert rows(database, KEPT) == before
