"""Roll-up: every dirty minute below its symbol's watermark, then the bars above it, in one transaction.

Idempotent whatever the number of deliveries, workers and retries: the work is "what is dirty", not "the last
minute", an unchanged candle is not written, and a second roll-up at the same time finds the lock taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aggregator import sql
from runtime.crash import crash_point
from runtime.database import Connection, TupleRow

#: Minutes in one transaction: 2,000 symbols and some backlog in well under the statement timeout.
MAX_MINUTES = 5_000


@dataclass(frozen=True)
class RollUp:
    """What one roll-up did. `more` means that dirty minutes may be left."""

    minutes: int
    more: bool


def roll_up(connection: Connection[TupleRow], max_minutes: int = MAX_MINUTES) -> RollUp:
    """One transaction of at most `max_minutes` dirty minutes. Raises what the driver raises."""
    with connection.transaction():
        if not try_lock(connection, sql.ROLL_UP_LOCK):
            return RollUp(0, False)
        minutes = connection.execute(sql.TAKE_DIRTY, [max_minutes]).fetchall()
        if not minutes:
            return RollUp(0, False)
        minutes.sort()
        pairs = [[symbol for symbol, _ in minutes], [open_time for _, open_time in minutes]]
        connection.execute(sql.ROLL_UP_MINUTES, pairs)
        make_parents(connection, pairs[0], pairs[1])
        connection.execute(sql.MARK_HOURS, pairs)
        crash_point("before_roll_up_commit")
    crash_point("after_roll_up_commit")
    return RollUp(len(minutes), len(minutes) == max_minutes)


def make_parents(connection: Connection[TupleRow], symbols: Sequence[str], times: Sequence[datetime]) -> None:
    """The bars of every interval above 1m that hold the given (symbol, time) pairs, smallest interval first.

    The caller holds the roll-up lock in its transaction.
    """
    pairs = [list(symbols), list(times)]
    for interval in sql.PARENT_INTERVALS:
        connection.execute(sql.ROLL_UP_PARENTS[interval], pairs)


def try_lock(connection: Connection[TupleRow], key: int) -> bool:
    """Take the advisory lock until the end of the transaction; false when somebody else holds it."""
    row = connection.execute(sql.TRY_LOCK, [key]).fetchone()
    return row is not None and bool(row[0])


def lateness_s(connection: Connection[TupleRow]) -> float:
    """Seconds that the oldest finished minute not yet rolled up lies behind its symbol's watermark; 0 = none."""
    row = connection.execute(sql.LATENESS).fetchone()
    connection.commit()
    return float(row[0]) if row is not None else 0.0
