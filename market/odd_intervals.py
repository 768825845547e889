"""Bars of every length that the exchange knows: where they begin, and of which stored bars they are made.

The exchange's alignment (binance.md 3.1, and its klines): up to 1d counted from 1970; 3d from 1970-01-02 (2024-01-01
begins one); 1w on Mondays; 1M on the first of the month. `timeZone` moves the grid: bars begin where they would begin
were the local time UTC; their times are still UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from market.errors import UnknownInterval
from market.interval import DAY_MS, HOUR_MS, MINUTE_MS, STORED_INTERVALS, Interval
from market.kline import Candle, Kline
from market.rollup import Accumulator

MONTH: Final = "1M"
_LONGEST_MONTH_MS: Final = 31 * DAY_MS
#: Lengths that are not stored, without the month; each is whole bars of a stored one.
_ODD_LENGTH_MS: Final = {
    "3m": 3 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "2h": 2 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
}
#: Where the bars begin that do not begin at 1970.
_ANCHOR_MS: Final = {"3d": DAY_MS, "1w": 4 * DAY_MS}
_LENGTH_MS: Final = {**{interval.value: interval.length_ms for interval in Interval}, **_ODD_LENGTH_MS}
ODD_INTERVALS: Final = (*_ODD_LENGTH_MS, MONTH)
#: Every interval of the exchange, shortest first.
EXCHANGE_INTERVALS: Final = (*sorted(_LENGTH_MS, key=lambda name: _LENGTH_MS[name]), MONTH)
#: The calendar repeats itself after 400 years. Counted from a March, leap days come last in a year.
_CYCLE_DAYS: Final = 146_097
_CYCLE_MONTHS: Final = 4_800
#: From 0000-03-01 to 1970-01-01.
_MARCH_DAYS: Final = 719_468
_MARCH_MONTHS: Final = 1970 * 12 - 2


@dataclass(frozen=True)
class Grid:
    """The bars of an interval in a time zone `zone_ms` east of UTC. Times are ms UTC."""

    interval: str
    zone_ms: int = 0

    @property
    def is_stored(self) -> bool:
        """The bars are those of a table; else they are rolled up from bars of `base`."""
        return self.interval not in ODD_INTERVALS and self.base.value == self.interval

    @property
    def base(self) -> Interval:
        """The longest stored interval that every bar is made of whole bars of."""
        anchor_ms = _ANCHOR_MS.get(self.interval, 0) - self.zone_ms
        length_ms = _LENGTH_MS.get(self.interval, DAY_MS)
        fitting = [
            item
            for item in (Interval.S1, *STORED_INTERVALS)
            if length_ms % item.length_ms == anchor_ms % item.length_ms == 0
        ]
        return fitting[-1]

    @property
    def max_parts(self) -> int:
        """How many bars of `base` the longest bar has."""
        return _LENGTH_MS.get(self.interval, _LONGEST_MONTH_MS) // self.base.length_ms

    def floor(self, time_ms: int) -> int:
        """Open time of the bar that holds this instant."""
        local_ms = time_ms + self.zone_ms
        if self.interval == MONTH:
            return _month_open_ms(_month_of(local_ms)) - self.zone_ms
        return time_ms - (local_ms - _ANCHOR_MS.get(self.interval, 0)) % _LENGTH_MS[self.interval]

    def ceiling(self, time_ms: int) -> int:
        """Open time of the first bar that begins at this instant or later."""
        open_ms = self.floor(time_ms)
        return open_ms if open_ms == time_ms else self.step(open_ms, 1)

    def step(self, open_ms: int, bars: int) -> int:
        """Open time of the bar so many bars after the one that opens at `open_ms`; negative: before."""
        if self.interval == MONTH:
            return _month_open_ms(_month_of(open_ms + self.zone_ms) + bars) - self.zone_ms
        return open_ms + bars * _LENGTH_MS[self.interval]

    def close_time(self, open_ms: int) -> int:
        """Last millisecond of the bar that opens at `open_ms`."""
        return self.step(open_ms, 1) - 1

    def opens(self, start_ms: int, end_ms: int) -> Iterator[int]:
        """Open times from `start_ms` (inclusive) to `end_ms` (exclusive), oldest first."""
        open_ms = self.ceiling(start_ms)
        while open_ms < end_ms:
            yield open_ms
            open_ms = self.step(open_ms, 1)


def grid_of(interval: str, zone_ms: int = 0) -> Grid:
    """The bars of an interval as the exchange spells it. Raises UnknownInterval, which names what is allowed."""
    if interval not in EXCHANGE_INTERVALS:
        raise UnknownInterval(f"interval {interval!r} is not known; allowed: {', '.join(EXCHANGE_INTERVALS)}")
    return Grid(str(interval), zone_ms)


def totals(parts: Iterable[Kline | Candle], grid: Grid) -> Iterator[tuple[int, Accumulator]]:
    """(open time, values) of each bar that has parts. `parts` of one symbol, oldest first, none longer than a bar."""
    open_ms, total = 0, None
    for part in parts:
        bar_ms = grid.floor(part.open_time_ms)
        if total is not None and bar_ms == open_ms:
            total.add(part)
            continue
        if total is not None:
            yield open_ms, total
        open_ms, total = bar_ms, Accumulator.starting_with(part)
    if total is not None:
        yield open_ms, total


def _month_of(local_ms: int) -> int:
    """Months since January 1970, by the Gregorian calendar."""
    cycles, day = divmod(local_ms // DAY_MS + _MARCH_DAYS, _CYCLE_DAYS)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    return cycles * _CYCLE_MONTHS + year * 12 + month - _MARCH_MONTHS


def _month_open_ms(month: int) -> int:
    cycles, month_of_cycle = divmod(month + _MARCH_MONTHS, _CYCLE_MONTHS)
    year, month_of_year = divmod(month_of_cycle, 12)
    day = 365 * year + year // 4 - year // 100 + (153 * month_of_year + 2) // 5
    return (cycles * _CYCLE_DAYS + day - _MARCH_DAYS) * DAY_MS
