"""/api/v3/klines."""

from __future__ import annotations

from typing import Final

from market.odd_intervals import EXCHANGE_INTERVALS
from webapp.api.binance import errors
from webapp.api.binance.endpoint import endpoint
from webapp.api.binance.parameters import Parameters
from webapp.forming_bars import binance_klines_to_now
from webapp.kline_selectors import Page
from webapp.selectors import Rows, symbol_exists

DEFAULT_ROWS: Final = 500
MAX_ROWS: Final = 1000


@endpoint("symbol", "interval", "startTime", "endTime", "timeZone", "limit", weight=2)
def klines(parameters: Parameters, unit: int) -> Rows:
    """Klines oldest first, the forming one last. Without bounds the newest; with startTime the oldest from it."""
    symbol, interval = parameters.symbol(), parameters.interval()
    start_ms, end_ms = parameters.time_ms("startTime"), parameters.time_ms("endTime")
    zone_ms, limit = parameters.time_zone_ms(), parameters.limit(DEFAULT_ROWS, MAX_ROWS)
    if interval not in EXCHANGE_INTERVALS:
        raise errors.invalid_interval()
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        rows: Rows = []
    else:
        page = Page(start_ms, end_ms, limit, oldest_first=start_ms is not None)
        rows = binance_klines_to_now(symbol, interval, page, zone_ms, unit)
    if not rows and not symbol_exists(symbol):
        raise errors.invalid_symbol()
    return rows
