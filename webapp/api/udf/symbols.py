"""/udf/config, symbols, search, symbol_info, quotes, time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec
from django.conf import settings
from django.http import QueryDict

from market.depth import PartialDepth
from market.symbol import decimals_of
from runtime.clock import SystemClock
from webapp.api.udf import parameters
from webapp.api.udf.endpoint import endpoint
from webapp.api.udf.errors import UdfError
from webapp.live_state import LIVE, NotKnown
from webapp.selectors import DayFigures, Symbol, day_figures, followed_symbols

CLOCK: Final = SystemClock()
TYPE: Final = "crypto"
MAX_FOUND: Final = 100
DEFAULT_FOUND: Final = 30
#: What the charts show as the exchange: made-up and replayed data are told apart from real ones.
EXCHANGES: Final = {"binance": "Binance", "sim": "SIMULATED", "tape": "TAPE"}
_INTRADAY: Final = ["1", "5", "15", "60", "240"]


def _exchange() -> str:
    return EXCHANGES[settings.ROOM.source]


@endpoint(weight=1)
def config(query: QueryDict) -> dict[str, Any]:
    """What this datafeed can."""
    name = _exchange()
    return {
        "supported_resolutions": list(parameters.RESOLUTIONS),
        "supports_search": True,
        "supports_group_request": False,
        "supports_marks": True,
        "supports_timescale_marks": True,
        "supports_time": True,
        "exchanges": [
            {"value": "", "name": "All", "desc": "All exchanges"},
            {"value": name, "name": name, "desc": name},
        ],
        "symbols_types": [{"name": "All", "value": ""}, {"name": "Crypto", "value": TYPE}],
    }


@endpoint(weight=1)
def time(query: QueryDict) -> int:
    """Our clock, seconds since 1970."""
    return CLOCK.now_ms() // 1000


@endpoint(weight=2)
def symbols(query: QueryDict) -> dict[str, Any]:
    """What a chart must know of a symbol."""
    name = parameters.symbol(query)
    found = followed_symbols([name])
    if not found:
        raise UdfError(f"{name} is not a symbol of this system; /udf/search lists them", 404)
    return _symbol(found[0])


def _symbol(symbol: Symbol) -> dict[str, Any]:
    minmov, pricescale = price_format(symbol.tick_size)
    return {
        "name": symbol.symbol,
        "full_name": f"{_exchange()}:{symbol.symbol}",
        "ticker": symbol.symbol,
        "description": _description(symbol),
        "type": TYPE,
        "exchange": _exchange(),
        "listed_exchange": _exchange(),
        "session": "24x7",
        "timezone": "Etc/UTC",
        "format": "price",
        "minmov": minmov,
        "minmov2": 0,
        "pricescale": pricescale,
        "volume_precision": decimals_of(symbol.step_size),
        "has_seconds": True,
        "seconds_multipliers": ["1"],
        "has_intraday": True,
        "intraday_multipliers": _INTRADAY,
        "has_daily": True,
        "daily_multipliers": ["1"],
        "has_weekly_and_monthly": False,
        "has_empty_bars": False,
        "visible_plots_set": "ohlcv",
        "supported_resolutions": list(parameters.RESOLUTIONS),
        "data_status": "streaming",
    }


def price_format(tick_size: Decimal) -> tuple[int, int]:
    """(minmov, pricescale): a price moves in steps of minmov / pricescale. A tick of 0.05 is (5, 100)."""
    scale = 10 ** decimals_of(tick_size)
    return max(1, int(tick_size * scale)), scale


def _description(symbol: Symbol) -> str:
    return f"{symbol.base_asset} / {symbol.quote_asset}"


@endpoint(weight=2)
def search(query: QueryDict) -> list[dict[str, Any]]:
    """Symbols with `query` in their name or assets: those that begin with it first, else by rank."""
    text = query.get("query", "").rsplit(":", 1)[-1].upper()
    limit = parameters.limit(query, DEFAULT_FOUND, MAX_FOUND)
    if query.get("exchange", "") not in ("", _exchange()) or query.get("type", "") not in ("", TYPE):
        return []
    found = [symbol for symbol in followed_symbols() if text in f"{symbol.symbol} {_description(symbol)}"]
    found.sort(key=lambda symbol: not symbol.symbol.startswith(text))
    return [
        {
            "symbol": symbol.symbol,
            "full_name": f"{_exchange()}:{symbol.symbol}",
            "description": _description(symbol),
            "exchange": _exchange(),
            "ticker": symbol.symbol,
            "type": TYPE,
        }
        for symbol in found[:limit]
    ]


@endpoint(weight=10)
def symbol_info(query: QueryDict) -> dict[str, Any]:
    """All symbols as a table, for clients that want the whole group at once."""
    group = query.get("group", "")
    if group not in ("", _exchange()):
        raise UdfError(f"group {group[:40]!r} is not known; allowed: {_exchange()}", 404)
    found = followed_symbols()
    formats = [price_format(symbol.tick_size) for symbol in found]
    return {
        "symbol": [symbol.symbol for symbol in found],
        "ticker": [symbol.symbol for symbol in found],
        "description": [_description(symbol) for symbol in found],
        "exchange-listed": _exchange(),
        "exchange-traded": _exchange(),
        "minmovement": [minmov for minmov, _ in formats],
        "minmov2": 0,
        "fractional": False,
        "pricescale": [scale for _, scale in formats],
        "type": TYPE,
        "session-regular": "24x7",
        "timezone": "Etc/UTC",
        "has-intraday": True,
        "has-seconds": True,
        "has-daily": True,
        "has-weekly-and-monthly": False,
        "has-empty-bars": False,
        "volume-precision": [decimals_of(symbol.step_size) for symbol in found],
        "intraday-multipliers": _INTRADAY,
        "supported-resolutions": list(parameters.RESOLUTIONS),
    }


@endpoint(weight=10)
def quotes(query: QueryDict) -> dict[str, Any]:
    """Last price and day of each symbol; bid, ask and spread are left out where they are not known."""
    wanted = parameters.symbols(query)
    names = {text: parameters.plain_symbol(text) for text in wanted}
    known = {name for name in names.values() if name is not None}
    days = {day.symbol: day for day in day_figures(sorted(known), with_trades=False)} if known else {}
    books = _books(list(days)) if days else {}
    return {"s": "ok", "d": [_quote(text, days.get(names[text] or ""), books) for text in wanted]}


def _books(symbols: list[str]) -> dict[str, PartialDepth]:
    try:
        return LIVE.books(symbols)
    except NotKnown:
        return {}


def _quote(text: str, day: DayFigures | None, books: dict[str, PartialDepth]) -> dict[str, Any]:
    if day is None or day.last is None:
        return {"s": "error", "n": text, "v": {}}
    values: dict[str, Decimal | None] = {
        "lp": day.last,
        "open_price": day.open,
        "high_price": day.high,
        "low_price": day.low,
        "prev_close_price": day.open,
        "volume": day.base_volume,
    }
    if day.open:
        values["ch"] = day.last - day.open
        values["chp"] = round((day.last - day.open) / day.open * 100, 3)
    book = books.get(day.symbol)
    if book is not None and book.bids:
        values["bid"] = book.bids[0][0]
    if book is not None and book.asks:
        values["ask"] = book.asks[0][0]
    if book is not None and book.bids and book.asks:
        values["spread"] = book.asks[0][0] - book.bids[0][0]
    known: dict[str, Any] = {name: _number(value) for name, value in values.items() if value is not None}
    about = {"short_name": day.symbol, "exchange": _exchange(), "description": day.symbol}
    return {"s": "ok", "n": text, "v": {**about, **known}}


def _number(value: Decimal) -> msgspec.Raw:
    """A JSON number with all its digits."""
    return msgspec.Raw(f"{value:f}".encode())
