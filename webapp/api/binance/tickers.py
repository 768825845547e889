"""/api/v3/ticker/price and ticker/24hr."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from market.interval import DAY_MS
from webapp.api.binance import errors
from webapp.api.binance.endpoint import CLOCK, endpoint
from webapp.api.binance.market import eight
from webapp.api.binance.parameters import Parameters
from webapp.selectors import DayFigures, day_figures, last_prices

ZERO: Final = Decimal(0)
Ticker = dict[str, object]


def _price_weight(parameters: Parameters) -> int:
    return 4 if parameters.optional_symbol() is None else 2


def _day_weight(parameters: Parameters) -> int:
    """2 up to 20 symbols, 40 up to 100, 80 beyond and for all."""
    wanted = parameters.symbols()
    if wanted is None or len(wanted) > 100:
        return 80
    return 2 if len(wanted) <= 20 else 40


@endpoint("symbol", "symbols", "symbolStatus", weight=_price_weight)
def price(parameters: Parameters, unit: int) -> Ticker | list[Ticker]:
    """The last price: one object for `symbol`, else a list."""
    wanted, status = parameters.symbols(), parameters.symbol_status()
    found = last_prices(wanted)
    _require_all(wanted, [row[0] for row in found])
    _require_status(parameters, status, [row[1] for row in found])
    body: list[Ticker] = [
        {"symbol": name, "price": eight(last)} for name, symbol_status, last in found if status in (None, symbol_status)
    ]
    return body[0] if parameters.optional_symbol() else body


@endpoint("symbol", "symbols", "type", "symbolStatus", weight=_day_weight)
def day(parameters: Parameters, unit: int) -> Ticker | list[Ticker]:
    """Rolling 24 h. Best bid and ask and the last quantity are not stored: they read zero, as on an empty book."""
    wanted, status = parameters.symbols(), parameters.symbol_status()
    kind = parameters.text("type") or "FULL"
    if kind not in ("FULL", "MINI"):
        raise errors.invalid_ticker_type()
    found = day_figures(wanted)
    _require_all(wanted, [figures.symbol for figures in found])
    _require_status(parameters, status, [figures.status for figures in found])
    body = [_ticker(figures, kind, unit) for figures in found if status in (None, figures.status)]
    return body[0] if parameters.optional_symbol() else body


def _require_all(wanted: list[str] | None, found: list[str]) -> None:
    if wanted is not None and len(found) < len(wanted):
        raise errors.invalid_symbol()


def _require_status(parameters: Parameters, status: str | None, found: list[str]) -> None:
    if status is not None and parameters.optional_symbol() and found != [status]:
        raise errors.status_mismatch()


def _ticker(figures: DayFigures, kind: str, unit: int) -> Ticker:
    open_, last = figures.open or ZERO, figures.last or ZERO
    base, quote = figures.base_volume or ZERO, figures.quote_volume or ZERO
    close_ms = CLOCK.now_ms() if figures.event_time_ms is None else figures.event_time_ms
    mini: Ticker = {
        "symbol": figures.symbol,
        "openPrice": eight(open_),
        "highPrice": eight(figures.high),
        "lowPrice": eight(figures.low),
        "lastPrice": eight(last),
        "volume": eight(base),
        "quoteVolume": eight(quote),
        "openTime": (close_ms - DAY_MS) * unit,
        "closeTime": close_ms * unit,
        "firstId": -1 if figures.first_trade_id is None else figures.first_trade_id,
        "lastId": -1 if figures.last_trade_id is None else figures.last_trade_id,
        "count": figures.trade_count,
    }
    if kind == "MINI":
        return mini
    change = last - open_
    return {
        "symbol": figures.symbol,
        "priceChange": eight(change),
        "priceChangePercent": f"{change / open_ * 100 if open_ else ZERO:.3f}",
        "weightedAvgPrice": eight(quote / base if base else ZERO),
        "prevClosePrice": eight(open_),
        "lastQty": eight(None),
        "bidPrice": eight(None),
        "bidQty": eight(None),
        "askPrice": eight(None),
        "askQty": eight(None),
        **mini,
    }
