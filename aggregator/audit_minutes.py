"""The aggregator's own audit: every closed minute made of our seconds against the exchange's own kline of it.

`audit_due` names the minutes; a row leaves it in the transaction that writes the result, unless it was marked again
meanwhile. The exchange's kline is the one that the inserter stored from the stream; what the stream missed is asked
for by REST, a symbol at a time. A difference makes the minute suspect: the repair fetches its seconds anew, and the
candle's new revision, or the settled suspect, brings it back here, then against the exchange's REST kline. What still
differs after MAX_RECHECKS is for a person.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from aggregator import audit_sql as sql
from aggregator.publish import to_candle
from market.audit import Comparison, compare_minute
from market.errors import BadFrame
from market.interval import MINUTE_MS, Interval
from market.kline import Candle, Kline
from runtime.database import Connection, TupleRow
from runtime.exchange_rest import MAX_KLINE_ROWS, ExchangeRest, RestRefused
from runtime.logs import get_logger

#: Minutes of one transaction, and REST calls of one run: the rest comes next time.
MAX_MINUTES: Final = 2_000
MAX_CALLS: Final = 10
MAX_RECHECKS: Final = 2
EQUAL: Final = "equal"
DIFFERENT: Final = "different"
NOT_COMPARABLE: Final = "not_comparable"
NO_SUCH_MINUTE: Final = "the exchange has no such minute"

log = get_logger(__name__)


@dataclass(frozen=True)
class Due:
    """A minute of the queue. `wants_rest`: it can be compared, and the exchange's kline has to be asked for."""

    symbol: str
    open_time: datetime
    marks: int
    wants_rest: bool
    is_young: bool


@dataclass(frozen=True)
class Result:
    """A row of `minute_audit`."""

    symbol: str
    open_time: datetime
    state: str
    reason: str | None
    differences: dict[str, list[str]]
    tolerances: tuple[str, ...]
    compared_with: str | None
    revision: int
    rechecks: int
    needs_person: bool
    is_suspect: bool


def audit_due(
    connection: Connection[TupleRow], rest: ExchangeRest, max_minutes: int = MAX_MINUTES
) -> Iterator[Counter[str]]:
    """One run over at most `max_minutes` of the queue; gives after each transaction how many minutes came out in which
    state.

    Raises RestUnavailable (what needs no REST is written by then) and what the driver raises.
    """
    with connection.transaction():
        connection.execute(sql.BRING_BACK_SETTLED)
        due = [Due(*row) for row in connection.execute(sql.READ_DUE, [max_minutes]).fetchall()]
    yield settle(connection, [minute for minute in due if not minute.wants_rest])
    wanting = sorted((m for m in due if m.wants_rest), key=lambda minute: (minute.symbol, minute.open_time))
    calls = [call for _, of_symbol in groupby(wanting, key=lambda m: m.symbol) for call in spans(list(of_symbol))]
    for call in calls[:MAX_CALLS]:
        yield _with_rest(connection, rest, call)


def spans(minutes: Sequence[Due]) -> Iterable[list[Due]]:
    """The minutes of one symbol, oldest first, in pieces that one REST call covers."""
    piece: list[Due] = []
    for minute in minutes:
        if piece and _ms(minute.open_time) - _ms(piece[0].open_time) >= MAX_KLINE_ROWS * MINUTE_MS:
            yield piece
            piece = []
        piece.append(minute)
    if piece:
        yield piece


def _with_rest(connection: Connection[TupleRow], rest: ExchangeRest, minutes: list[Due]) -> Counter[str]:
    """Ask for the klines of these minutes, store them, and compare."""
    symbol, start_ms, end_ms = minutes[0].symbol, _ms(minutes[0].open_time), _ms(minutes[-1].open_time)
    try:
        klines = rest.klines(symbol, Interval.M1, start_ms, end_ms, MAX_KLINE_ROWS)
    except BadFrame as error:
        log.warning("audit_refused", symbol=symbol, error=str(error), retry_in_s=sql.REFUSED_S)
        with connection.transaction():
            connection.execute(sql.POSTPONE, [sql.REFUSED_S, *_keys(minutes)])
        return Counter()
    except RestRefused as error:
        log.warning("audit_refused", symbol=symbol, error=str(error))
        klines = []
    found = {kline.open_time_ms: kline for kline in klines if kline.is_closed}
    wanted = [found[_ms(minute.open_time)] for minute in minutes if _ms(minute.open_time) in found]
    missing = [minute for minute in minutes if _ms(minute.open_time) not in found]
    with connection.transaction():
        if wanted:
            connection.execute(sql.STORE_EXCHANGE_MINUTES, _columns([_exchange_row(kline) for kline in wanted]))
        # Asked for too early: the exchange's own row may still come.
        postponed = [minute for minute in missing if minute.is_young]
        if postponed:
            connection.execute(sql.POSTPONE, [sql.POSTPONE_S, *_keys(postponed)])
    return settle(connection, [minute for minute in minutes if minute not in postponed])


def settle(connection: Connection[TupleRow], minutes: Sequence[Due]) -> Counter[str]:
    """Compare these minutes with what is stored of the exchange, write the results, and take them off the queue."""
    if not minutes:
        return Counter()
    with connection.transaction():
        taken = connection.execute(sql.TAKE_DUE, _keys(minutes)).fetchall()
        rows = connection.execute(sql.READ_PAIRS, _columns(taken) if taken else [[], []]).fetchall()
        results = [judge(row) for row in rows]
        if results:
            connection.execute(sql.STORE_RESULTS, _columns([_result_row(result) for result in results]))
        suspects = sorted((r.symbol, r.open_time) for r in results if r.is_suspect)
        if suspects:
            connection.execute(sql.ADD_SUSPECTS, _columns(suspects))
    for result in results:
        if result.state == DIFFERENT:
            log.warning(
                "minute_differs", symbol=result.symbol, open_time=result.open_time.isoformat(),
                differences=result.differences, rechecks=result.rechecks, needs_person=result.needs_person,
            )  # fmt: skip
    return Counter(result.state for result in results)


def waiting(connection: Connection[TupleRow]) -> tuple[int, int]:
    """How many minutes wait to be compared, and how many are for a person."""
    row = connection.execute(sql.WAITING).fetchone()
    connection.commit()
    return (int(row[0]), int(row[1])) if row is not None else (0, 0)


def judge(row: TupleRow) -> Result:
    """The verdict on a row of READ_PAIRS."""
    width = len(Candle.__struct_fields__)
    candle, values = to_candle(row[:width]), row[width + 4 :]
    exchange_source, open_time, rechecks, is_being_checked = row[width : width + 4]
    reason = _not_comparable(candle, exchange_source)
    comparison = compare_minute(candle, _exchange_kline(candle, values)) if reason is None else Comparison({})
    state = NOT_COMPARABLE if reason is not None else DIFFERENT if comparison.differences else EQUAL
    needs_person = state == DIFFERENT and rechecks >= MAX_RECHECKS
    is_suspect = state == DIFFERENT and not needs_person and not is_being_checked
    return Result(
        symbol=candle.symbol,
        open_time=open_time,
        state=state,
        reason=reason,
        differences=comparison.differences,
        tolerances=comparison.tolerances,
        compared_with=exchange_source if reason is None else None,
        revision=candle.revision,
        rechecks=rechecks + is_suspect,
        needs_person=needs_person,
        is_suspect=is_suspect,
    )


def _not_comparable(candle: Candle, exchange_source: str | None) -> str | None:
    if candle.source != "seconds":
        return "taken from the exchange itself"
    if not candle.is_complete:
        return f"{candle.row_count} of {candle.expected_count} seconds"
    return None if exchange_source is not None else NO_SUCH_MINUTE


def _exchange_kline(candle: Candle, values: Sequence[Any]) -> Kline:
    named: dict[str, Any] = dict(zip(sql.VALUE_NAMES, values, strict=True))
    return Kline(
        symbol=candle.symbol,
        interval=Interval.M1,
        open_time_ms=candle.open_time_ms,
        close_time_ms=candle.close_time_ms,
        first_trade_id=-1,
        last_trade_id=-1,
        is_closed=True,
        event_time_ms=candle.close_time_ms,
        **named,
    )


def _exchange_row(k: Kline) -> list[object]:
    return [k.symbol, k.open_time_ms, *(getattr(k, name) for name in sql.VALUE_NAMES), k.close_time_ms]


def _result_row(r: Result) -> list[object]:
    return [
        r.symbol, r.open_time, r.state, r.reason, json.dumps(r.differences), ",".join(r.tolerances), r.compared_with,
        r.revision, r.rechecks, r.needs_person,
    ]  # fmt: skip


def _keys(minutes: Sequence[Due]) -> list[list[Any]]:
    return _columns([(minute.symbol, minute.open_time, minute.marks) for minute in minutes])


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as arrays, one for each column."""
    return [list(column) for column in zip(*rows, strict=True)]


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000
