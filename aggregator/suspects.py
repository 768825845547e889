"""Suspect seconds are fetched again and settled: equal, corrected by the exchange's rows, or unsettled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from aggregator import repair_sql as sql
from aggregator.exchange_seconds import Answer, ExchangeSeconds
from aggregator.repair_store import mark_minutes, stage
from aggregator.stored_seconds import stored_second
from market.errors import BadFrame
from market.interval import SECOND_MS
from market.kline import Kline, differing_columns
from runtime.crash import crash_point
from runtime.database import Connection, TupleRow, UnusableData
from runtime.exchange_rest import MAX_KLINE_ROWS, RestRefused, RestUnavailable
from runtime.logs import get_logger

#: A longer range (a symbol without trades for a day) is settled by its newest part.
MAX_SECONDS: Final = 20 * MAX_KLINE_ROWS

log = get_logger(__name__)


@dataclass(frozen=True)
class Suspect:
    """One row of `suspect_range`; times ms, end exclusive."""

    suspect_id: int
    symbol: str
    from_ms: int
    to_ms: int
    reason: str
    attempts: int


def settle_next_suspect(
    connection: Connection[TupleRow],
    exchange: ExchangeSeconds,
    max_attempts: int,
    delay_s: Callable[[int], float],
) -> str | None:
    """Settle the newest due suspect; its new state, or None when there is none. Raises RestUnavailable."""
    row = connection.execute(sql.DUE_SUSPECT).fetchone()
    connection.commit()
    if row is None:
        return None
    suspect = Suspect(*row)
    from_ms = max(suspect.from_ms, suspect.to_ms - MAX_SECONDS * SECOND_MS)
    try:
        answers = [
            exchange.ask(suspect.symbol, start, min(start + MAX_KLINE_ROWS * SECOND_MS, suspect.to_ms))
            for start in range(from_ms, suspect.to_ms, MAX_KLINE_ROWS * SECOND_MS)
        ]
        state = compare(connection, suspect, answers, from_ms)
    except RestUnavailable as error:
        _note(connection, suspect, ("open", suspect.attempts, delay_s(0)), error)
        raise
    except (BadFrame, RestRefused, *UnusableData) as error:
        attempts = suspect.attempts + 1
        state = "unsettled" if attempts >= max_attempts else "open"
        _note(connection, suspect, (state, attempts, delay_s(attempts)), error)
        log.warning("suspect_not_settled", symbol=suspect.symbol, from_ms=suspect.from_ms, reason=str(error))
    return state


def compare(connection: Connection[TupleRow], suspect: Suspect, answers: Sequence[Answer], from_ms: int) -> str:
    """The stored seconds against the exchange's, in one transaction; those that differ are replaced.

    Raises BadFrame when the exchange lacks a second that is stored here.
    """
    theirs = {kline.open_time_ms: kline for answer in answers for kline in answer.klines}
    source = answers[0].source
    with connection.transaction():
        ours = _stored(connection, suspect.symbol, from_ms, suspect.to_ms)
        lacking = [kline.open_time_ms for kline in ours if kline.open_time_ms not in theirs]
        if lacking:
            raise BadFrame(f"the exchange does not have {len(lacking)} of the seconds, the first is {lacking[0]}")
        changed = [
            _with_known_ids(theirs[kline.open_time_ms], kline)
            for kline in ours
            if differing_columns(kline, theirs[kline.open_time_ms])
        ]
        if changed:
            stage(connection, changed)
            connection.execute(sql.CORRECT_STAGED, [source.value, suspect.symbol])
            mark_minutes(connection, suspect.symbol, [kline.open_time_ms for kline in changed])
        state = "corrected" if changed else "equal"
        values = [state, suspect.attempts + 1, None, None, state, suspect.suspect_id]
        connection.execute(sql.NOTE_SUSPECT, values)
        crash_point("suspect_before_commit")
    log.info(
        "suspect_settled", symbol=suspect.symbol, from_ms=suspect.from_ms, to_ms=suspect.to_ms, reason=suspect.reason,
        state=state, corrected=[kline.open_time_ms for kline in changed][:10],
    )  # fmt: skip
    return state


def _with_known_ids(theirs: Kline, ours: Kline) -> Kline:
    """The exchange's values. REST rows carry no trade ids: ours stay while the number of trades agrees."""
    if theirs.trade_count and theirs.first_trade_id < 0 and theirs.trade_count == ours.trade_count:
        return replace(theirs, first_trade_id=ours.first_trade_id, last_trade_id=ours.last_trade_id)
    return theirs


def _stored(connection: Connection[TupleRow], symbol: str, from_ms: int, to_ms: int) -> list[Kline]:
    rows = connection.execute(sql.STORED_SECONDS, [symbol, from_ms, to_ms]).fetchall()
    return [stored_second(symbol, row) for row in rows]


def _note(
    connection: Connection[TupleRow], suspect: Suspect, outcome: tuple[str, int, float], error: Exception
) -> None:
    """`outcome`: the new state, the attempts, seconds until the next one."""
    state, attempts, next_in_s = outcome
    with connection.transaction():
        values = [state, attempts, next_in_s, str(error)[:500], state, suspect.suspect_id]
        connection.execute(sql.NOTE_SUSPECT, values)
