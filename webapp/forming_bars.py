"""The bars that are still forming: the newest stored candle, and the seconds that it does not cover yet.

Candles are stored when a minute is over; between two of them the newest bar of every interval rests on its seconds.
Stored rows and seconds are read in one snapshot of the database, so that no second is missed or counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from django.db import transaction

from market.interval import Interval
from market.kline import Candle, Source
from market.odd_intervals import Grid, grid_of, totals
from market.rollup import Accumulator, to_candle
from webapp.kline_selectors import NATIVE_COLUMNS, Page, native_klines, odd_binance_klines
from webapp.selectors import Rows, plain

#: A roll-up that lags further behind than this makes the newest bar late; it costs a request no more rows than these.
MAX_FRESH_SECONDS: Final = 180
#: `revision` of a bar of which nothing is stored yet: whatever is stored, and the live stream, wins over it.
NOT_STORED: Final = -1
_NAMES: Final = ("symbol", "interval", *NATIVE_COLUMNS)


class FormingBar(msgspec.Struct, frozen=True):
    """A bar with seconds that no stored candle covers; `stored` is the newest candle it rests on, if any."""

    open_ms: int
    total: Accumulator
    stored: Candle | None

    def candle(self, symbol: str, interval: Interval) -> Candle:
        """It as a candle of a stored interval."""
        source = self.stored.source if self.stored is not None else Source.SECONDS
        candle = to_candle(self.total, symbol, interval, self.open_ms, source)
        revision = self.stored.revision if self.stored is not None else NOT_STORED
        return msgspec.structs.replace(candle, revision=revision, updated_at_ms=self.total.event_time_ms)


def native_klines_to_now(symbol: str, interval: Interval, page: Page) -> Rows:
    """native_klines with the bars that are forming."""
    if interval is Interval.S1:
        return native_klines(symbol, interval, page)
    with transaction.atomic(using="reader"):
        rows = native_klines(symbol, interval, page)
        bars = forming_bars(symbol, grid_of(interval), page)
    return _joined(rows, {bar.open_ms: _native_row(bar.candle(symbol, interval)) for bar in bars}, page)


def odd_binance_klines_to_now(symbol: str, grid: Grid, page: Page, unit: int) -> Rows:
    """odd_binance_klines with the bars that are forming."""
    with transaction.atomic(using="reader"):
        rows = odd_binance_klines(symbol, grid, page, unit)
        bars = forming_bars(symbol, grid, page)
    return _joined(rows, {bar.open_ms * unit: _binance_row(grid, bar, unit) for bar in bars}, page)


def forming_bars(symbol: str, grid: Grid, page: Page) -> list[FormingBar]:
    """Bars of the page that hold seconds newer than the newest stored candle, oldest first."""
    newest = _candles(symbol, grid.base, Page(None, None, 1, oldest_first=False))
    if not newest or (page.end_ms is not None and page.end_ms < grid.floor(newest[0].open_time_ms)):
        return []
    covered_ms = newest[0].covered_until_ms
    seconds = _candles(symbol, Interval.S1, Page(covered_ms, None, MAX_FRESH_SECONDS, oldest_first=True))
    if not seconds:
        return []
    first_ms = grid.floor(seconds[0].open_time_ms)
    candles = _candles(symbol, grid.base, Page(first_ms, None, grid.max_parts, oldest_first=True))
    return [bar for bar in bars_of(candles, seconds, grid) if page.holds(bar.open_ms)]


def bars_of(candles: Sequence[Candle], seconds: Sequence[Candle], grid: Grid) -> list[FormingBar]:
    """The bars of these seconds, oldest first, resting on the candles of `grid.base` that belong to them."""
    first_ms = grid.floor(seconds[0].open_time_ms) if seconds else 0
    parts = [candle for candle in candles if candle.open_time_ms >= first_ms]
    stored = {grid.floor(candle.open_time_ms): candle for candle in parts}
    return [FormingBar(open_ms, total, stored.get(open_ms)) for open_ms, total in totals((*parts, *seconds), grid)]


def candle_of(symbol: str, interval: Interval, row: Iterable[Any]) -> Candle:
    """A row of native_klines as a candle."""
    return msgspec.convert(dict(zip(_NAMES, (symbol, interval, *row), strict=True)), Candle)


def _candles(symbol: str, interval: Interval, page: Page) -> list[Candle]:
    return [candle_of(symbol, interval, row) for row in native_klines(symbol, interval, page)]


def _joined(rows: Rows, forming: dict[int, tuple[object, ...]], page: Page) -> Rows:
    """Stored rows and forming ones in order of open time, the forming one of two; at most what the page holds."""
    if not forming:
        return rows
    joined = sorted([*(row for row in rows if row[0] not in forming), *forming.values()], key=lambda row: row[0])
    return joined[: page.limit] if page.oldest_first else joined[-page.limit :]


def _native_row(candle: Candle) -> tuple[object, ...]:
    values = (getattr(candle, name) for name in NATIVE_COLUMNS)
    return tuple(plain(value) if isinstance(value, Decimal) else value for value in values)


def _binance_row(grid: Grid, bar: FormingBar, unit: int) -> tuple[object, ...]:
    total = bar.total
    return (
        bar.open_ms * unit,
        *(f"{value:.8f}" for value in (total.open, total.high, total.low, total.close, total.base_volume)),
        (grid.close_time(bar.open_ms) + 1) * unit - 1,
        f"{total.quote_volume:.8f}",
        total.trade_count,
        f"{total.taker_buy_base_volume:.8f}",
        f"{total.taker_buy_quote_volume:.8f}",
        "0",
    )
