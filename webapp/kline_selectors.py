"""Klines out of the database: stored ones as they are, other lengths and time zones from the stored ones."""

from __future__ import annotations

from typing import Any, Final

from market.interval import DAY_MS, HOUR_MS, MINUTE_MS, STORED_INTERVALS, Interval
from webapp.selectors import Rows, fetch, ms, to_time

#: Lengths of Binance that are not stored; whole multiples of a stored one. Weeks begin on Monday.
COMPUTED_MS: Final = {
    "3m": 3 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "2h": 2 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1w": 7 * DAY_MS,
}
MONDAY_OFFSET_MS: Final = 3 * DAY_MS
KNOWN_INTERVALS: Final = (*Interval, *COMPUTED_MS)
NO_END_MS: Final = 2**62

_MONEY: Final = ("open", "high", "low", "close")
_AMOUNTS: Final = ("base_volume", "quote_volume", "taker_buy_base_volume", "taker_buy_quote_volume")

#: Columns of native_klines, named like the bars of the live stream (docs/LIVE.md).
NATIVE_COLUMNS: Final = (
    "open_time_ms",
    "close_time_ms",
    "open",
    "high",
    "low",
    "close",
    "base_volume",
    "quote_volume",
    "trade_count",
    "taker_buy_base_volume",
    "taker_buy_quote_volume",
    "first_trade_id",
    "last_trade_id",
    "row_count",
    "expected_count",
    "covered_until_ms",
    "is_complete",
    "is_closed",
    "source",
    "revision",
    "event_time_ms",
    "updated_at_ms",
)


class Page:
    """Which rows: open times from `start_ms` to `end_ms` (both inclusive, either may be None), at most `limit`.

    Of more rows the newest are taken, or with `oldest_first` the oldest."""

    def __init__(self, start_ms: int | None, end_ms: int | None, limit: int, *, oldest_first: bool) -> None:
        self.start_ms, self.end_ms, self.limit, self.oldest_first = start_ms, end_ms, limit, oldest_first

    def sql(self, columns: str, symbol: str, interval: str) -> tuple[str, list[Any]]:
        """Query for rows of a stored interval, oldest first."""
        table = "kline_1s" if interval == Interval.S1 else "aggregated_kline"
        where, values = ["symbol = %s"], [symbol]
        if interval != Interval.S1:
            where.append("interval = %s")
            values.append(interval)
        condition, bounds = self.bounds()
        direction = "asc" if self.oldest_first else "desc"
        inner = f"select * from {table} where {' and '.join(where)}{condition} order by open_time {direction} limit %s"
        return f"select {columns} from ({inner}) page order by open_time", [*values, *bounds, self.limit]

    def bounds(self) -> tuple[str, list[Any]]:
        """Condition on open_time, to be put after others, and its values."""
        condition, values = "", []
        for sign, time_ms in ((">=", self.start_ms), ("<=", self.end_ms)):
            if time_ms is not None:
                condition += f" and open_time {sign} %s"
                values.append(to_time(time_ms))
        return condition, values

    def open_times_ms(self, grid: Grid) -> range:
        """Open times that rows of the page can have; oldest first, no further than its rows reach without a hole."""
        first_ms = grid.ceiling(self.start_ms or 0)
        end_ms = NO_END_MS if self.end_ms is None else self.end_ms + 1
        if self.oldest_first:
            end_ms = min(end_ms, first_ms + self.limit * grid.length_ms)
        return range(first_ms, end_ms)


def native_klines(symbol: str, interval: Interval, page: Page) -> Rows:
    """Rows of NATIVE_COLUMNS, oldest first; money as stored, as text."""
    return fetch(*page.sql(native_columns(interval), symbol, interval))


def native_columns(interval: Interval) -> str:
    """SQL of NATIVE_COLUMNS."""
    shared = ", ".join(
        [
            *(ms(name) for name in ("open_time", "close_time")),
            *(f"{name}::text" for name in (*_MONEY, "base_volume", "quote_volume")),
            "trade_count",
            *(f"{name}::text" for name in ("taker_buy_base_volume", "taker_buy_quote_volume")),
            "first_trade_id, last_trade_id",
        ]
    )
    if interval is Interval.S1:
        own = f"1, 1, {ms('open_time')} + 1000, true, true, source, 0, {ms('event_time')}, {ms('received_at')}"
    else:
        own = (
            f"row_count, expected_count, {ms('covered_until')}, is_complete, is_closed, source, revision, "
            f"{ms('event_time')}, {ms('updated_at')}"
        )
    return f"{shared}, {own}"


def binance_klines(symbol: str, interval: str, page: Page, zone_ms: int, unit: int) -> Rows:
    """Rows as /api/v3/klines gives them, oldest first: 12 columns, eight decimals. `unit` 1000 = microseconds."""
    grid = grid_of(interval, zone_ms)
    if interval not in COMPUTED_MS and zone_ms % grid.length_ms == 0:
        columns = (
            f"{ms('open_time')} * {unit}, {_rounded('open', 'high', 'low', 'close', 'base_volume')}, "
            f"({ms('close_time')} + 1) * {unit} - 1, {_rounded('quote_volume')}, trade_count, "
            f"{_rounded('taker_buy_base_volume', 'taker_buy_quote_volume')}, '0'"
        )
        return fetch(*page.sql(columns, symbol, interval))
    return _computed(symbol, grid, page, unit)


def _rounded(*names: str) -> str:
    return ", ".join(f"round({name}, 8)::text" for name in names)


class Grid:
    """Bars of a length, shifted: bar n begins at n * length - offset."""

    def __init__(self, length_ms: int, offset_ms: int) -> None:
        self.length_ms, self.offset_ms = length_ms, offset_ms

    @property
    def base(self) -> Interval:
        """The longest stored interval that whole bars can be made of; there is one from a minute on."""
        fitting = (i for i in STORED_INTERVALS if self.length_ms % i.length_ms == self.offset_ms % i.length_ms == 0)
        return max(fitting, key=lambda i: i.length_ms)

    def floor(self, time_ms: int) -> int:
        """Open time of the bar that holds this instant."""
        return (time_ms + self.offset_ms) // self.length_ms * self.length_ms - self.offset_ms

    def ceiling(self, time_ms: int) -> int:
        """Open time of the first bar that begins at this instant or later."""
        return -(-(time_ms + self.offset_ms) // self.length_ms) * self.length_ms - self.offset_ms


def grid_of(interval: str, zone_ms: int = 0) -> Grid:
    """The bars of an interval in a time zone."""
    length_ms = COMPUTED_MS.get(interval) or Interval(interval).length_ms
    return Grid(length_ms, zone_ms + (MONDAY_OFFSET_MS if interval == "1w" else 0))


# Quiet parts take no part in open, high and low, as in market/rollup.py (binance.md 0.6).
_COMPUTED = """
    with part as (
        select *, floor(({time} + %s) / %s::numeric)::bigint * %s - %s as bar_ms from aggregated_kline
        where symbol = %s and interval = %s and open_time >= %s and open_time < %s
    ), bar as (
        select bar_ms,
            (array_agg(close order by open_time desc))[1] as close,
            (array_agg(open order by open_time) filter (where trade_count > 0))[1] as open,
            max(high) filter (where trade_count > 0) as high,
            min(low) filter (where trade_count > 0) as low,
            sum(base_volume) as base_volume, sum(quote_volume) as quote_volume, sum(trade_count)::bigint as trade_count,
            sum(taker_buy_base_volume) as taker_buy_base_volume,
            sum(taker_buy_quote_volume) as taker_buy_quote_volume
        from part group by bar_ms order by bar_ms {direction} limit %s
    )
    select bar_ms * {unit}, {prices}, round(base_volume, 8)::text,
        (bar_ms + %s) * {unit} - 1, round(quote_volume, 8)::text, trade_count, {takers}, '0'
    from bar order by bar_ms
"""


def _computed(symbol: str, grid: Grid, page: Page, unit: int) -> Rows:
    bounds = _bounds(symbol, grid, page)
    if bounds is None:
        return []
    first_ms, end_ms = bounds
    query = _COMPUTED.format(
        time=ms("open_time"),
        direction="asc" if page.oldest_first else "desc",
        unit=unit,
        prices=", ".join(f"round(coalesce({name}, close), 8)::text" for name in _MONEY),
        takers=_rounded(*_AMOUNTS[2:]),
    )
    length = grid.length_ms
    values = [grid.offset_ms, length, length, grid.offset_ms, symbol, grid.base.value]
    return fetch(query, [*values, to_time(first_ms), to_time(end_ms), page.limit, length])


def _bounds(symbol: str, grid: Grid, page: Page) -> tuple[int, int] | None:
    """First (inclusive) and last (exclusive) open time of the stored parts that the page needs."""
    ends = f"{ms('min(open_time)')}, {ms('max(open_time)')}"
    query = f"select {ends} from aggregated_kline where symbol = %s and interval = %s"
    oldest_ms, newest_ms = fetch(query, [symbol, grid.base.value])[0]
    if oldest_ms is None:
        return None
    last_bar_ms = grid.floor(newest_ms if page.end_ms is None else min(page.end_ms, newest_ms))
    oldest_bar_ms = grid.floor(oldest_ms)
    if page.start_ms is None:
        first_ms = max(oldest_bar_ms, last_bar_ms - (page.limit - 1) * grid.length_ms)
    else:
        first_ms = max(oldest_bar_ms, grid.ceiling(page.start_ms))
        last_bar_ms = min(last_bar_ms, first_ms + (page.limit - 1) * grid.length_ms)
    return first_ms, last_bar_ms + grid.length_ms
