"""What the repair writes: rows, ledger and queues in one transaction, in the order in which the inserter writes.

1. lock of the ledger   per symbol; the inserter takes it before the rows of a batch that changes gaps
2. rows                 never over a row that is there
3. trade chain          over the rows as they are now; broken: everything is rolled back
4. gaps, dirty minutes and hours
5. commit               kill -9 before it: nothing happened; after it: nothing is left to do
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aggregator import repair_sql as sql
from market.feed import GapCause
from market.interval import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from market.kline import Kline, Source
from market.ledger import Gap, LedgerChange, apply_arrivals, runs
from market.rest_rows import BrokenChain, Missing, Neighbour, require_chain
from runtime.crash import crash_point
from runtime.database import Connection, TupleRow


def ensure_days(connection: Connection[TupleRow], times_ms: Iterable[int]) -> None:
    """Daily partitions for these times, in a transaction of their own."""
    with connection.transaction():
        connection.execute(sql.ENSURE_DAYS, [sorted({time_ms // DAY_MS for time_ms in times_ms})])


def store_seconds(connection: Connection[TupleRow], symbol: str, klines: Sequence[Kline], source: Source) -> int:
    """The rows that are not there yet, and the minutes they touch, within the caller's transaction. How many."""
    stage(connection, klines)
    stored = connection.execute(sql.STORE_STAGE, [symbol, source.value]).rowcount
    mark_minutes(connection, symbol, [kline.open_time_ms for kline in klines])
    return stored


def stage(connection: Connection[TupleRow], klines: Sequence[Kline]) -> None:
    """The rows in the session's stage table. REST klines carry no trade ids: unknown, but for quiet seconds."""
    connection.execute(sql.CREATE_STAGE)
    with connection.cursor() as cursor, cursor.copy(sql.COPY_STAGE) as copy:
        copy.write("".join([_copy_line(kline) for kline in klines]))


def _copy_line(k: Kline) -> str:
    is_known = k.first_trade_id >= 0 or not k.trade_count
    ids = f"{k.first_trade_id}\t{k.last_trade_id}" if is_known else "\\N\t\\N"
    return (
        f"{k.open_time_ms}\t{k.open}\t{k.high}\t{k.low}\t{k.close}\t{k.base_volume}\t{k.quote_volume}\t"
        f"{k.trade_count}\t{k.taker_buy_base_volume}\t{k.taker_buy_quote_volume}\t{ids}\n"
    )


def fill(
    connection: Connection[TupleRow], symbol: str, klines: Sequence[Kline], missing: Missing, source: Source
) -> int:
    """Rows for missing seconds, and the ledger after them. How many rows were new.

    Raises BrokenChain when the rows do not hold the trades between their neighbours; then nothing is written.
    """
    times = [kline.open_time_ms for kline in klines]
    if times:
        ensure_days(connection, times)
    with connection.transaction():
        lock_ledger(connection, symbol)
        crash_point("repair_before_rows")
        stored = store_seconds(connection, symbol, klines, source) if klines else 0
        crash_point("repair_after_rows")
        if times:
            check_chain(connection, symbol, min(times), max(times) + SECOND_MS)
            settle(connection, symbol, times, "repaired", source.value)
        if missing.absent:
            settle(connection, symbol, missing.absent, "absent", source.value)
        crash_point("repair_before_commit")
    crash_point("repair_after_commit")
    return stored


def lock_ledger(connection: Connection[TupleRow], symbol: str) -> None:
    """Nobody else changes this symbol's gaps until the end of the transaction."""
    connection.execute(sql.LOCK_LEDGER, [symbol])


def check_chain(connection: Connection[TupleRow], symbol: str, from_ms: int, to_ms: int) -> None:
    """Raise BrokenChain when every second around [from, to) up to a known trade id on each side is stored, and their
    trades are not as many as the ids say."""
    for edge_ms in (from_ms - SECOND_MS, to_ms):
        row = connection.execute(sql.HAS_ROW, [symbol, edge_ms]).fetchone()
        if row is None or not row[0]:
            return
    row = connection.execute(sql.CHAIN, [symbol, from_ms, from_ms, symbol, to_ms, to_ms, symbol]).fetchone()
    if row is None:
        return
    before_ms, last_id, after_ms, first_id, count, trades = row
    if count == (after_ms - before_ms) // SECOND_MS - 1:
        require_chain(trades, Neighbour(before_ms, last_id), Neighbour(after_ms, first_id))


def settle(
    connection: Connection[TupleRow], symbol: str, times_ms: Sequence[int], state: str, resolved_by: str | None
) -> None:
    """These seconds of unresolved gaps get the state. The ledger is locked by the caller."""
    span = (min(times_ms), max(times_ms) + SECOND_MS)
    stored = gaps_touching(connection, symbol, *span)
    write(connection, apply_arrivals(stored, [], times_ms, resolved_by, state))
    mark_hours(connection, symbol, times_ms)


def add_gaps(connection: Connection[TupleRow], symbol: str, times_ms: Sequence[int], detector: str) -> None:
    """New open gaps of these seconds. The ledger is locked by the caller."""
    new = [Gap(symbol, start, end, GapCause.UNKNOWN, detector=detector) for start, end in runs(times_ms)]
    stored = gaps_touching(connection, symbol, min(times_ms), max(times_ms) + SECOND_MS)
    write(connection, apply_arrivals(stored, new, []))
    mark_hours(connection, symbol, times_ms)


def add_suspect(connection: Connection[TupleRow], symbol: str, broken: BrokenChain) -> None:
    """The stored seconds between the neighbours, both included, are to be compared with the exchange's."""
    span = [broken.before.open_time_ms, broken.after.open_time_ms + SECOND_MS]
    with connection.transaction():
        connection.execute(sql.ADD_SUSPECT, [symbol, *span])


def gaps_touching(connection: Connection[TupleRow], symbol: str, from_ms: int, to_ms: int) -> list[Gap]:
    """Gaps of every state that touch or adjoin the range, locked."""
    return [
        Gap(name, start, end, GapCause(cause), state, resolved_by, gap_id, detected_ms, detector)
        for gap_id, name, start, end, cause, state, resolved_by, detected_ms, detector in connection.execute(
            sql.GAPS_TOUCHING, [symbol, to_ms, from_ms]
        ).fetchall()
    ]


def write(connection: Connection[TupleRow], change: LedgerChange) -> None:
    """The change of the ledger."""
    if change.deleted_ids:
        connection.execute(sql.DELETE_GAPS, [list(change.deleted_ids)])
    for gap in change.written:
        values = {
            "gap_id": gap.gap_id,
            "symbol": gap.symbol,
            "from_ms": gap.from_ms,
            "to_ms": gap.to_ms,
            "cause": gap.cause.value,
            "state": gap.state,
            "resolved_by": gap.resolved_by,
            "detector": gap.detector,
            "detected_at_ms": gap.detected_at_ms,
        }
        connection.execute(sql.INSERT_GAP if gap.gap_id is None else sql.UPDATE_GAP, values)


def note_try(
    connection: Connection[TupleRow],
    symbol: str,
    span_ms: tuple[int, int],
    state: str,
    *,
    attempts: int,
    next_in_s: float | None,
    error: str | None,
) -> None:
    """What a try has come to, on the symbol's gaps of this state that overlap the span."""
    values = [attempts, next_in_s, error and error[:500], symbol, state, span_ms[1], span_ms[0]]
    connection.execute(sql.NOTE_TRY, values)


def mark_minutes(connection: Connection[TupleRow], symbol: str, times_ms: Iterable[int]) -> None:
    """The roll-up has to look at the minutes of these times again."""
    connection.execute(sql.MARK_DIRTY, [symbol, sorted({time_ms - time_ms % MINUTE_MS for time_ms in times_ms})])


def mark_hours(connection: Connection[TupleRow], symbol: str, times_ms: Iterable[int]) -> None:
    """The completeness of the hours of these times has to be counted again."""
    connection.execute(sql.MARK_HOURS, [symbol, sorted({time_ms - time_ms % HOUR_MS for time_ms in times_ms})])
