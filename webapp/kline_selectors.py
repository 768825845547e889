"""Klines out of the database: stored ones as they are, other lengths and time zones from the stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from market.interval import Interval
from market.odd_intervals import Grid
from runtime.time_text import LAST_MS
from webapp.odd_klines import ODD_BARS, odd_bars_of
from webapp.selectors import Rows, fetch, ms, to_time

_MONEY: Final = ("open", "high", "low", "close")

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

    def holds(self, open_ms: int) -> bool:
        """Whether a bar of this open time lies within the bounds."""
        return (self.start_ms or 0) <= open_ms and (self.end_ms is None or open_ms <= self.end_ms)

    def beyond(self, opens_ms: Sequence[int], rows: int) -> Page:
        """What is left of the page when the bars from the first to the last of these times have been looked for and
        `rows` of them found."""
        start_ms = opens_ms[-1] + 1 if self.oldest_first else self.start_ms
        end_ms = self.end_ms if self.oldest_first else opens_ms[0] - 1
        return Page(start_ms, end_ms, self.limit - rows, oldest_first=self.oldest_first)


def native_klines(symbol: str, interval: Interval, page: Page) -> Rows:
    """Rows of NATIVE_COLUMNS, oldest first; money as stored, as text."""
    return fetch(*page.sql(native_columns(interval), symbol, interval))


@cache
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


def odd_binance_klines(symbol: str, grid: Grid, page: Page, unit: int) -> Rows:
    """Rows of bars that no table holds, as /api/v3/klines gives them, oldest first: 12 columns, eight decimals.
    `unit` 1000 = microseconds."""
    columns = (
        f"{ms('open_time')} * {unit}, {_rounded('open', 'high', 'low', 'close', 'base_volume')}, "
        f"({ms('close_time')} + 1) * {unit} - 1, {_rounded('quote_volume')}, trade_count, "
        f"{_rounded('taker_buy_base_volume', 'taker_buy_quote_volume')}, '0'"
    )
    rows: Rows = []
    # Each round finds at least a bar, and jumps over the hole that follows: a client takes a short page for the last.
    while page.limit and (opens_ms := _opens_ms(symbol, grid, page)):
        found = fetch(f"select {columns} from ({ODD_BARS}) bar", odd_bars_of(symbol, grid, opens_ms))
        rows = rows + found if page.oldest_first else found + rows
        page = page.beyond(opens_ms, len(found))
    return rows


def _rounded(*names: str) -> str:
    return ", ".join(f"round({name}, 8)::text" for name in names)


def _opens_ms(symbol: str, grid: Grid, page: Page) -> list[int]:
    """Open times that follow each other, oldest first: at most as many as the page holds, from its oldest bar with
    stored parts or up to its newest one."""
    start_ms = grid.ceiling(page.start_ms or 0)
    end_ms = LAST_MS if page.end_ms is None else grid.step(grid.floor(page.end_ms), 1)
    bounds = [to_time(min(bound_ms, LAST_MS)) for bound_ms in (start_ms, end_ms)]
    query = f"""
        select {ms("min(open_time)")}, {ms("max(open_time)")} from aggregated_kline
        where symbol = %s and interval = %s and open_time >= %s and open_time < %s
    """
    oldest_ms, newest_ms = fetch(query, [symbol, grid.base.value, *bounds])[0]
    if oldest_ms is None:
        return []
    first_ms, last_ms = grid.floor(oldest_ms), grid.floor(newest_ms)
    if page.oldest_first:
        last_ms = min(last_ms, grid.step(first_ms, page.limit - 1))
    else:
        first_ms = max(first_ms, grid.step(last_ms, 1 - page.limit))
    return list(grid.opens(first_ms, last_ms + 1))
