"""Seconds that are missing, put into the ledger by hand: what nobody has listed, and what was given up."""

from __future__ import annotations

from dataclasses import dataclass

from aggregator import repair_sql as sql
from aggregator.repair_store import add_gaps, lock_ledger, mark_hours, note_try, settle
from market.interval import DAY_MS, HOUR_MS, SECOND_MS, Interval
from market.ledger import OPEN
from runtime.database import Connection, TupleRow
from runtime.time_text import iso


class Refused(Exception):
    """The command cannot do what was asked; the text says why."""


@dataclass(frozen=True)
class Range:
    """Seconds of one symbol; times ms, end exclusive."""

    symbol: str
    from_ms: int
    to_ms: int


def record_missing(
    connection: Connection[TupleRow], symbol: str, from_ms: int | None, to_ms: int | None, longest_ms: int | None = None
) -> tuple[Range, int]:
    """Open gaps for the unaccounted seconds: the range that is meant, cut to the watermark, and how many they are.

    A range before the symbol's first second is recorded up to it: the account has no holes. Raises Refused, also where
    that makes more than `longest_ms` of it."""
    row = connection.execute(sql.ACCOUNT_SPAN, [symbol]).fetchone()
    connection.commit()
    if row is None or row[0] is None:
        raise Refused(f"{symbol} has no seconds here: follow it (SYMBOLS), then its first seconds come by themselves")
    first_ms, watermark_ms = row
    start = first_ms if from_ms is None else Interval.S1.floor(from_ms)
    end = watermark_ms if to_ms is None else min(Interval.S1.floor(to_ms), watermark_ms)
    if start >= end:
        raise Refused(f"nothing of {symbol} lies between these times: its seconds end at {watermark_ms}")
    record_end, recorded = max(end, first_ms), 0
    if longest_ms is not None and record_end - start > longest_ms:
        raise Refused(
            f"{symbol} begins at {iso(first_ms)}: all up to there would be listed as missing, more than "
            f"{longest_ms // DAY_MS} days; candlewire backfill takes any range"
        )
    for part in range(start, record_end, HOUR_MS):
        with connection.transaction():
            lock_ledger(connection, symbol)
            part_end = min(part + HOUR_MS, record_end)
            rows = connection.execute(sql.UNACCOUNTED, [part, part_end, symbol, symbol]).fetchall()
            if rows:
                add_gaps(connection, symbol, [second_ms for (second_ms,) in rows], "operator")
        recorded += len(rows)
    return Range(symbol, start, end), recorded


def reopen(connection: Connection[TupleRow], symbol: str | None, from_ms: int, to_ms: int) -> list[Range]:
    """Gaps that were given up or absent within the range are open again. What was opened."""
    rows = connection.execute(sql.SETTLED_WITHOUT_ROWS, [symbol, symbol, to_ms, from_ms]).fetchall()
    connection.commit()
    opened = [Range(name, max(start, from_ms), min(end, to_ms)) for name, start, end in rows]
    for part in opened:
        with connection.transaction():
            lock_ledger(connection, part.symbol)
            times = range(part.from_ms, part.to_ms, SECOND_MS)
            settle(connection, part.symbol, times, OPEN, None)
            span = (part.from_ms, part.to_ms)
            note_try(connection, part.symbol, span, OPEN, attempts=0, next_in_s=None, error=None)
            mark_hours(connection, part.symbol, times)
    return opened
