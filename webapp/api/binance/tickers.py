"""/api/v3/ticker/price and ticker/24hr."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from market.depth import PartialDepth
from market.interval import DAY_MS
from market.trade import Trade
from webapp.api.binance import errors
from webapp.api.binance.endpoint import CLOCK, endpoint
from webapp.api.binance.market import eight
from webapp.api.binance.parameters import Parameters
from webapp.live_state import LIVE, NotKnown
from webapp.selectors import DayFigures, day_figures, last_prices

ZERO: Final = Decimal(0)
Ticker = dict[str, object]


def symbol_weight(parameters: Parameters) -> int:
    """2 for one symbol, 4 for several and for all."""
    return 4 if parameters.optional_symbol() is None else 2


def _day_weight(parameters: Parameters) -> int:
    """2 up to 20 symbols, 40 up to 100, 80 beyond and for all."""
    wanted = parameters.symbols()
    if wanted is None or len(wanted) > 100:
        return 80
    return 2 if len(wanted) <= 20 else 40


@endpoint("symbol", "symbols", "symbolStatus", weight=symbol_weight)
def price(parameters: Parameters, unit: int) -> Ticker | list[Ticker]:
    """The last price: one object for `symbol`, else a list."""
    wanted, status = parameters.symbols(), parameters.symbol_status()
    found = last_prices(wanted)
    require_all(wanted, [row[0] for row in found])
    require_status(parameters, status, [row[1] for row in found])
    body: list[Ticker] = [
        {"symbol": name, "price": eight(last)} for name, symbol_status, last in found if status in (None, symbol_status)
    ]
    return body[0] if parameters.optional_symbol() else body


@endpoint("symbol", "symbols", "type", "symbolStatus", weight=_day_weight)
def day(parameters: Parameters, unit: int) -> Ticker | list[Ticker]:
    """Rolling 24 h. Best bid and ask and the last quantity are not stored: as the streams said last, else zero."""
    wanted, status = parameters.symbols(), parameters.symbol_status()
    kind = parameters.text("type") or "FULL"
    if kind not in ("FULL", "MINI"):
        raise errors.invalid_ticker_type()
    found = day_figures(wanted)
    require_all(wanted, [figures.symbol for figures in found])
    require_status(parameters, status, [figures.status for figures in found])
    found = [figures for figures in found if status in (None, figures.status)]
    if kind == "MINI":
        body = [_mini(figures, unit) for figures in found]
    else:
        books, trades = _live([figures.symbol for figures in found])
        body = [_full(figures, books.get(figures.symbol), trades.get(figures.symbol), unit) for figures in found]
    return body[0] if parameters.optional_symbol() else body


def _live(symbols: list[str]) -> tuple[dict[str, PartialDepth], dict[str, Trade]]:
    try:
        return LIVE.books(symbols), LIVE.last_trades(symbols)
    except NotKnown:
        return {}, {}


def best(book: PartialDepth | None) -> Ticker:
    """Best bid and ask as the tickers give them; zero where there is none."""
    bid = book.bids[0] if book is not None and book.bids else (None, None)
    ask = book.asks[0] if book is not None and book.asks else (None, None)
    return {
        "bidPrice": eight(bid[0]),
        "bidQty": eight(bid[1]),
        "askPrice": eight(ask[0]),
        "askQty": eight(ask[1]),
    }


def require_all(wanted: list[str] | None, found: list[str]) -> None:
    """Raise what Binance answers where a symbol is not there."""
    if wanted is not None and len(found) < len(wanted):
        raise errors.invalid_symbol()


def require_status(parameters: Parameters, status: str | None, found: list[str]) -> None:
    """Raise what Binance answers where the one symbol asked for has another status."""
    if status is not None and parameters.optional_symbol() and found != [status]:
        raise errors.status_mismatch()


def _close_ms(figures: DayFigures) -> int:
    return CLOCK.now_ms() if figures.event_time_ms is None else figures.event_time_ms


def _mini(figures: DayFigures, unit: int) -> Ticker:
    close_ms = _close_ms(figures)
    return {
        "symbol": figures.symbol,
        "openPrice": eight(figures.open),
        "highPrice": eight(figures.high),
        "lowPrice": eight(figures.low),
        "lastPrice": eight(figures.last),
        "volume": eight(figures.base_volume),
        "quoteVolume": eight(figures.quote_volume),
        "openTime": (close_ms - DAY_MS) * unit,
        "closeTime": close_ms * unit,
        "firstId": -1 if figures.first_trade_id is None else figures.first_trade_id,
        "lastId": -1 if figures.last_trade_id is None else figures.last_trade_id,
        "count": figures.trade_count,
    }


def _full(figures: DayFigures, book: PartialDepth | None, trade: Trade | None, unit: int) -> Ticker:
    open_, last = figures.open or ZERO, figures.last or ZERO
    base, quote = figures.base_volume or ZERO, figures.quote_volume or ZERO
    change = last - open_
    return {
        "symbol": figures.symbol,
        "priceChange": eight(change),
        "priceChangePercent": f"{change / open_ * 100 if open_ else ZERO:.3f}",
        "weightedAvgPrice": eight(quote / base if base else ZERO),
        "prevClosePrice": eight(open_),
        "lastQty": eight(trade.quantity if trade is not None else None),
        **best(book),
        **_mini(figures, unit),
    }
