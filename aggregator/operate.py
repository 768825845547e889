"""What operators ask of the aggregator: ranges and gaps to repair, symbols to follow or not.

One request after the other, oldest first. Each may be done twice: a crash before the row is finished leaves it
waiting. The exchange being away leaves it waiting too.
"""

from __future__ import annotations

from typing import Final

from aggregator import repair_sql as sql
from aggregator.missing import Refused, record_missing, reopen
from aggregator.suspects import MAX_SECONDS
from aggregator.symbols import choices, choose
from market.errors import MarketError
from runtime.database import Connection, TupleRow
from runtime.exchange_rest import ExchangeRest, RestRefused
from runtime.operations.catalogue import MAX_RANGE_MS
from runtime.operations.requests import NotDone, Request, finish, next_waiting
from runtime.operations.room_control import chosen
from runtime.symbol_choice import SymbolChoice

ACTIONS: Final = ("repair", "reopen_gap", "add_symbol", "remove_symbol")
TRADING: Final = "TRADING"
GAP: Final = f"""
select symbol, {sql.ms("from_time")}, {sql.ms("to_time")}, state from kline_gap where id = %s and interval = '1s'
"""


def operate(connection: Connection[TupleRow], rest: ExchangeRest, choice: SymbolChoice) -> None:
    """All requests that wait. Raises RestUnavailable, and what the driver raises."""
    while request := next_waiting(connection, ACTIONS):
        try:
            detail = _do(connection, rest, choice, request)
        except (Refused, NotDone, RestRefused, MarketError) as error:
            with connection.transaction():
                finish(connection, request, "failed", str(error))
        else:
            with connection.transaction():
                finish(connection, request, "done", detail)


def _do(connection: Connection[TupleRow], rest: ExchangeRest, choice: SymbolChoice, request: Request) -> str:
    given = request.arguments
    match request.action:
        case "repair":
            return _repair(connection, str(given["symbol"]), int(given["from"]), int(given["to"]))
        case "reopen_gap":
            return _reopen_gap(connection, int(given["id"]))
        case "add_symbol":
            return _add(connection, rest, choice, request)
        case "remove_symbol":
            return _remove(connection, rest, choice, request)
    raise NotDone(f"the aggregator does not know {request.action}")


def _repair(connection: Connection[TupleRow], symbol: str, from_ms: int, to_ms: int) -> str:
    part, recorded = record_missing(connection, symbol, from_ms, to_ms, MAX_RANGE_MS)
    opened = reopen(connection, symbol, part.from_ms, part.to_ms)
    seconds = sum(one.to_ms - one.from_ms for one in opened) // 1000
    listed = f"{recorded} s newly listed as missing, {seconds} s opened again"
    length_s = (part.to_ms - part.from_ms) // 1000
    if recorded or seconds:
        return f"{listed}; the repair fills them, newest first"
    if length_s > MAX_SECONDS:
        return f"{listed}: nothing is missing that is not being repaired already"
    with connection.transaction():
        connection.execute(sql.ADD_SUSPECT, [symbol, part.from_ms, part.to_ms])
    return f"{listed}; the {length_s} s are compared with the exchange's, and corrected where they differ"


def _reopen_gap(connection: Connection[TupleRow], gap_id: int) -> str:
    row = connection.execute(GAP, [gap_id]).fetchone()
    connection.commit()
    if row is None:
        raise NotDone(f"there is no gap {gap_id}")
    symbol, from_ms, to_ms, state = row
    if not reopen(connection, symbol, from_ms, to_ms):
        raise NotDone(f"gap {gap_id} is {state}: only absent and unrepairable ones can be opened again")
    return f"{(to_ms - from_ms) // 1000} s of {symbol} opened again"


def _add(connection: Connection[TupleRow], rest: ExchangeRest, choice: SymbolChoice, request: Request) -> str:
    symbol = str(request.arguments["symbol"])
    info = rest.symbol_info(symbol)
    if info is None:
        raise NotDone(f"the exchange does not know {symbol}")
    if info.status != TRADING:
        raise NotDone(f"{symbol} is not traded: the exchange says {info.status}")
    if symbol in _followed(connection, rest, choice):
        return f"{symbol} is followed already"
    choose(connection, symbol, info, request.requested_by)
    return f"{symbol} is followed: the producer asks for it within seconds, its history is being loaded"


def _remove(connection: Connection[TupleRow], rest: ExchangeRest, choice: SymbolChoice, request: Request) -> str:
    symbol = str(request.arguments["symbol"])
    followed = _followed(connection, rest, choice)
    if symbol not in followed:
        raise NotDone(f"{symbol} is not followed")
    if len(followed) == 1:
        raise NotDone(f"{symbol} is the only symbol: the line would have nothing to do; pause the producer instead")
    choose(connection, symbol, None, request.requested_by)
    return f"{symbol} is not followed any more; what is stored stays"


def _followed(connection: Connection[TupleRow], rest: ExchangeRest, choice: SymbolChoice) -> list[str]:
    symbols = chosen(choice.resolve(rest), choices(connection))
    connection.commit()
    return symbols
