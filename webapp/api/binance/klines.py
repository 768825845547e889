"""/api/v3/klines."""

from __future__ import annotations

from typing import Final

import msgspec

from market.interval import Interval
from market.odd_intervals import EXCHANGE_INTERVALS, grid_of
from webapp.api.binance import errors
from webapp.api.binance.endpoint import endpoint
from webapp.api.binance.parameters import Parameters
from webapp.api.caching import Settled
from webapp.forming_bars import odd_binance_klines_to_now
from webapp.kline_selectors import Page
from webapp.kline_text import binance_shape, klines_text
from webapp.selectors import Rows, symbol_exists

DEFAULT_ROWS: Final = 500
MAX_ROWS: Final = 1000
_SHAPES: Final = {unit: binance_shape(unit) for unit in (1, 1000)}


@endpoint("symbol", "interval", "startTime", "endTime", "timeZone", "limit", weight=2)
def klines(parameters: Parameters, unit: int) -> Rows | msgspec.Raw | Settled:
    """Klines oldest first, the forming one last. Without bounds the newest; with startTime the oldest from it."""
    symbol, interval = parameters.symbol(), parameters.interval()
    start_ms, end_ms = parameters.time_ms("startTime"), parameters.time_ms("endTime")
    zone_ms, limit = parameters.time_zone_ms(), parameters.limit(DEFAULT_ROWS, MAX_ROWS)
    if interval not in EXCHANGE_INTERVALS:
        raise errors.invalid_interval()
    grid = grid_of(interval, zone_ms)
    page = Page(start_ms, end_ms, limit, oldest_first=start_ms is not None)
    rows: Rows = []
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        pass
    elif grid.is_stored:
        text = klines_text(symbol, Interval(interval), page, _SHAPES[unit])
        if text.count:
            body = msgspec.Raw(b"[" + text.columns[0].encode() + b"]")
            return Settled(body) if text.is_settled else body
    else:
        rows = odd_binance_klines_to_now(symbol, grid, page, unit)
    if not rows and not symbol_exists(symbol):
        raise errors.invalid_symbol()
    return rows
