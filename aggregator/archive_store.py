"""A file of the exchange's archive into the tables: whole or not at all, and never over a row that is there.

1. stage               the file's rows in a table of this session, in a transaction of their own
2. lock of the ledger  for seconds; as everybody who changes rows and gaps
3. compare             with what is stored; differences: nothing is written
4. rows                of source `archive`
5. gaps                seconds inside of unresolved gaps settle them, after the trade chain around them has been checked
6. dirty minutes, then dirty hours; where no line has ever been (no watermark), the candles at once; of candles the
   longer ones that are whole now
7. commit              kill -9 before it: nothing happened; after it: nothing is left to do

The account of a symbol begins with its first second. A file before it begins it anew, so what lies between is listed:
seconds that the archive itself lacks as absent, the rest as unrepairable, `resolved_by` archive: nobody asks the
exchange for years of them unless told to (backfill).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from aggregator import archive_sql as sql
from aggregator.history import wait_for_lock
from aggregator.repair_store import check_chain, gaps_touching, lock_ledger, settle, write
from aggregator.roll_up import make_parents
from aggregator.sql import PARENT_INTERVALS, ROLL_UP_MINUTES, ROLL_UP_PARENTS
from market.feed import GapCause
from market.interval import SECOND_MS, Interval
from market.kline import VALUE_COLUMNS, Kline, Source
from market.ledger import Gap, apply_arrivals, runs
from runtime.crash import crash_point
from runtime.database import Connection, TupleRow
from runtime.time_text import iso

MAX_LISTED: Final = 1_000
STAGE_ROWS: Final = 10_000
ROLL_UP_MINUTES_AT_ONCE: Final = 2_000


class Refused(Exception):
    """The file cannot go in; the text says why."""


@dataclass
class Imported:
    """What became of one file. `longer`: bars that were made of its candles. `different`: the first MAX_LISTED of
    `different_count` rows that are stored otherwise, per column [stored, in the file]."""

    rows: int = 0
    inserted: int = 0
    equal: int = 0
    longer: int = 0
    different_count: int = 0
    different: list[dict[str, Any]] = field(default_factory=list)


def stage(connection: Connection[TupleRow], klines: Iterable[Kline]) -> int:
    """The file's rows into this session's stage. How many. Raises what reading the file raises."""
    rows = 0
    with connection.transaction():
        connection.execute(sql.DROP_STAGE)
        connection.execute(sql.CREATE_STAGE)
        with connection.cursor() as cursor, cursor.copy(sql.COPY_STAGE) as copy:
            lines: list[str] = []
            for kline in klines:
                values = "\t".join([str(getattr(kline, name)) for name in VALUE_COLUMNS])
                lines.append(f"{iso(kline.open_time_ms)}\t{values}\n")
                if len(lines) == STAGE_ROWS:
                    copy.write("".join(lines))
                    rows, lines = rows + len(lines), []
            copy.write("".join(lines))
            rows += len(lines)
    connection.execute("analyze archive_stage")
    connection.commit()
    return rows


def put_seconds(connection: Connection[TupleRow], symbol: str, *, keep_stored: bool) -> Imported:
    """The staged rows into `kline_1s`, unless some are stored otherwise; with `keep_stored` the others nevertheless.

    Raises Refused, BrokenChain (the trades do not fit to those around a gap), and what the driver raises."""
    with connection.transaction():
        connection.execute(sql.DAYS)
    with connection.transaction():
        lock_ledger(connection, symbol)
        first_ms, last_ms, rows = _one(connection, sql.SPAN, [])
        begin_ms, watermark_ms = _one(connection, sql.ACCOUNT, [symbol] * 3)
        if watermark_ms is not None and last_ms >= watermark_ms:
            raise Refused(
                f"it ends at {last_ms}, and {symbol} has been followed up to {watermark_ms} only: "
                "the line lists what is missing when it goes on; import the file then"
            )
        done = _compared(connection, "kline_1s", sql.SECONDS_WHERE, [symbol], rows)
        if done.different_count and not keep_stored:
            return done
        crash_point("import_before_rows")
        in_gaps = [time_ms for (time_ms,) in connection.execute(sql.IN_GAPS, [symbol]).fetchall()]
        done.inserted = connection.execute(sql.INSERT_SECONDS, [symbol]).rowcount
        crash_point("import_after_rows")
        for start_ms, end_ms in runs(in_gaps):
            check_chain(connection, symbol, start_ms, end_ms)
        if in_gaps:
            settle(connection, symbol, in_gaps, "repaired", Source.ARCHIVE.value)
        if watermark_ms is None:
            _roll_up(connection, symbol)
        else:
            if begin_ms is not None and first_ms < begin_ms:
                _list_between(connection, symbol, (first_ms, last_ms + SECOND_MS), begin_ms)
            connection.execute(sql.MARK_MINUTES, [symbol])
            connection.execute(sql.MARK_HOURS, [symbol])
        crash_point("import_before_commit")
    return done


def put_candles(connection: Connection[TupleRow], symbol: str, interval: Interval, *, keep_stored: bool) -> Imported:
    """The staged rows into `aggregated_kline`, and of them the longer bars that have every second now; a stored bar of
    any source stays as it is, unless it lacks seconds. Raises what the driver raises."""
    with connection.transaction():
        wait_for_lock(connection)
        rows = _one(connection, sql.SPAN, [])[2]
        done = _compared(connection, "aggregated_kline", sql.CANDLES_WHERE, [symbol, interval.value], rows)
        if done.different_count and not keep_stored:
            return done
        done.inserted = connection.execute(sql.INSERT_CANDLES, [symbol, interval.value, interval.seconds]).rowcount
        for longer in PARENT_INTERVALS:
            if longer.length_ms > interval.length_ms:
                done.longer += _make_whole(connection, symbol, longer)
    return done


def _make_whole(connection: Connection[TupleRow], symbol: str, interval: Interval) -> int:
    """Bars of the interval around the file's rows, those that are not stored whole and can be. How many."""
    times = [time for (time,) in connection.execute(sql.whole_bars(interval), [symbol] * 2).fetchall()]
    if times:
        connection.execute(ROLL_UP_PARENTS[interval], [[symbol] * len(times), times])
    return len(times)


def _compared(connection: Connection[TupleRow], table: str, where: str, key: list[str], rows: int) -> Imported:
    count, listed = sql.compare(table, where)
    equal, different = _one(connection, count, key)
    found = Imported(rows=rows, equal=equal, different_count=different)
    for row in connection.execute(listed, [*key, MAX_LISTED]).fetchall() if different else []:
        pairs = zip(VALUE_COLUMNS, row[1::2], row[2::2], strict=True)
        columns = {name: [ours, theirs] for name, ours, theirs in pairs if not _is_same(ours, theirs)}
        found.different.append({"open_time": row[0], "columns": columns})
    return found


def _list_between(connection: Connection[TupleRow], symbol: str, span_ms: tuple[int, int], begin_ms: int) -> None:
    """The seconds from the file's first to the account's are accounted for."""
    holes = connection.execute(sql.HOLES, [begin_ms]).fetchall()
    # What follows the last row is no hole of the file.
    new = [_gap(symbol, start, end, "absent") for start, end in holes if start < span_ms[1]]
    if span_ms[1] < begin_ms:
        new.append(_gap(symbol, span_ms[1], begin_ms, "unrepairable"))
    if new:
        stored = gaps_touching(connection, symbol, span_ms[0], begin_ms)
        write(connection, apply_arrivals(stored, new, []))


def _gap(symbol: str, from_ms: int, to_ms: int, state: str) -> Gap:
    return Gap(symbol, from_ms, to_ms, GapCause.UNKNOWN, state, Source.ARCHIVE.value, detector="operator")


def _roll_up(connection: Connection[TupleRow], symbol: str) -> None:
    """Candles of the file's minutes: the roll-up works below watermarks, and there is none."""
    wait_for_lock(connection)
    minutes = [minute for (minute,) in connection.execute(sql.MINUTES).fetchall()]
    for start in range(0, len(minutes), ROLL_UP_MINUTES_AT_ONCE):
        times = minutes[start : start + ROLL_UP_MINUTES_AT_ONCE]
        symbols = [symbol] * len(times)
        connection.execute(ROLL_UP_MINUTES, [symbols, times])
        make_parents(connection, symbols, times)


def _is_same(ours: str, theirs: str) -> bool:
    return Decimal(ours) == Decimal(theirs)


def _one(connection: Connection[TupleRow], query: str, values: list[Any]) -> TupleRow:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row
