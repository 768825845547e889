"""Kline intervals: names as Binance spells them (binance.md 3.1), lengths in milliseconds, UTC grid."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from market.errors import UnknownInterval

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


class Interval(StrEnum):
    """The intervals Candlewire keeps: 1s rows as they came, the rest rolled up."""

    S1 = "1s"
    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def length_ms(self) -> int:
        """Length of one bar in milliseconds."""
        return _LENGTH_MS[self]

    @property
    def seconds(self) -> int:
        """How many 1s rows make one complete bar."""
        return _LENGTH_MS[self] // SECOND_MS

    def floor(self, time_ms: int) -> int:
        """Open time (ms) of the bar that contains `time_ms`."""
        return time_ms - time_ms % _LENGTH_MS[self]

    def close_time(self, open_time_ms: int) -> int:
        """Last millisecond of the bar, as the exchange counts it: open + length - 1."""
        return open_time_ms + _LENGTH_MS[self] - 1

    @classmethod
    def parse(cls, text: str) -> Interval:
        """The interval named `text`. Raises UnknownInterval, which names what is allowed."""
        try:
            return cls(text)
        except ValueError:
            allowed = ", ".join(cls)
            raise UnknownInterval(f"interval {text!r} is not known; allowed: {allowed}") from None


_LENGTH_MS: Final = {
    Interval.S1: SECOND_MS,
    Interval.M1: MINUTE_MS,
    Interval.M5: 5 * MINUTE_MS,
    Interval.M15: 15 * MINUTE_MS,
    Interval.H1: HOUR_MS,
    Interval.H4: 4 * HOUR_MS,
    Interval.D1: DAY_MS,
}

#: Intervals of `aggregated_kline`, each made of whole bars of the one before it.
STORED_INTERVALS: Final = (Interval.M1, Interval.M5, Interval.M15, Interval.H1, Interval.H4, Interval.D1)

#: What each stored interval is rolled up from.
CHILD_INTERVAL: Final = {
    Interval.M1: Interval.S1,
    Interval.M5: Interval.M1,
    Interval.M15: Interval.M5,
    Interval.H1: Interval.M15,
    Interval.H4: Interval.H1,
    Interval.D1: Interval.H4,
}
