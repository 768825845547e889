"""/api/v3/depth, trades, ticker/bookTicker; aggTrades and historicalTrades, which are not stored."""

from __future__ import annotations

from typing import Any, Final

from market.depth import Level
from webapp.api.binance import errors
from webapp.api.binance.endpoint import endpoint
from webapp.api.binance.market import eight
from webapp.api.binance.parameters import Parameters
from webapp.api.binance.tickers import best, require_all, require_status, symbol_weight
from webapp.live_state import LIVE, MAX_TRADES, NotKnown
from webapp.selectors import followed_symbols

MAX_DEPTH: Final = 5000
#: What the streams carry; a larger limit gets as many.
LEVELS: Final = 20
Body = dict[str, Any]


def _depth_weight(parameters: Parameters) -> int:
    limit = parameters.limit(100, MAX_DEPTH)
    return next(weight for least, weight in ((1001, 250), (501, 50), (101, 25), (0, 5)) if limit >= least)


@endpoint("symbol", "limit", "symbolStatus", weight=_depth_weight)
def depth(parameters: Parameters, unit: int) -> Body:
    """The newest best levels that the stream depth20 sent, at most 20 of each side."""
    symbol = _followed(parameters)
    levels = min(parameters.limit(100, MAX_DEPTH), LEVELS)
    try:
        book = LIVE.book(symbol)
    except NotKnown as error:
        raise errors.not_known(str(error)) from None
    return {
        "lastUpdateId": book.last_update_id,
        "bids": _levels(book.bids[:levels]),
        "asks": _levels(book.asks[:levels]),
    }


def _levels(levels: list[Level]) -> list[list[str]]:
    return [[eight(price), eight(quantity)] for price, quantity in levels]


def _followed(parameters: Parameters) -> str:
    symbol, status = parameters.symbol(), parameters.symbol_status()
    found = followed_symbols([symbol])
    if not found:
        raise errors.invalid_symbol()
    require_status(parameters, status, [found[0].status])
    return symbol


@endpoint("symbol", "limit", weight=25)
def trades(parameters: Parameters, unit: int) -> list[Body]:
    """The newest trades, oldest first: as many as the broker still holds and this server has read."""
    symbol, limit = _followed(parameters), parameters.limit(500, MAX_TRADES)
    try:
        found = LIVE.trades(symbol, limit)
    except NotKnown as error:
        raise errors.not_known(str(error)) from None
    return [
        {
            "id": trade.trade_id,
            "price": eight(trade.price),
            "qty": eight(trade.quantity),
            "quoteQty": eight(trade.price * trade.quantity),
            "time": trade.trade_time_ms * unit,
            "isBuyerMaker": trade.is_buyer_maker,
            "isBestMatch": True,
        }
        for trade in found
    ]


@endpoint("symbol", "symbols", "symbolStatus", weight=symbol_weight)
def book_ticker(parameters: Parameters, unit: int) -> Body | list[Body]:
    """Best bid and ask: one object for `symbol`, else a list of those that are known."""
    wanted, status = parameters.symbols(), parameters.symbol_status()
    found = followed_symbols(wanted)
    require_all(wanted, [symbol.symbol for symbol in found])
    require_status(parameters, status, [symbol.status for symbol in found])
    names = [symbol.symbol for symbol in found if status in (None, symbol.status)]
    try:
        books = LIVE.books(names)
        if parameters.optional_symbol() and not books:
            raise NotKnown(f"the order book of {names[0]} is not known at the moment")
    except NotKnown as error:
        raise errors.not_known(str(error)) from None
    body = [{"symbol": name, **best(books[name])} for name in names if name in books]
    return body[0] if parameters.optional_symbol() else body


@endpoint("symbol", "fromId", "startTime", "endTime", "limit", weight=4)
def agg_trades(parameters: Parameters, unit: int) -> Body:
    """Refused: the ids of aggregate trades cannot be known from the stream of single trades."""
    raise errors.not_supported()


@endpoint("symbol", "limit", "fromId", weight=25)
def historical_trades(parameters: Parameters, unit: int) -> Body:
    """Refused: single trades are not stored."""
    raise errors.not_supported()
