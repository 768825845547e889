"""Clock and randomness: the only place that asks the machine for them; everybody else gets them passed in."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """What code needs of time."""

    def now_ms(self) -> int:
        """Wall clock, ms since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back, for waits and deadlines."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Wall clock, ms since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class ManualClock:
    """A clock that tests move by hand."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """The time set by hand."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """The same time, in seconds."""
        return self._now_ms / 1000

    def advance(self, by_ms: int) -> None:
        """Move on by `by_ms`."""
        self._now_ms += by_ms


def sleep_s(seconds: float) -> None:
    """Block this thread. Only for waits between retries of synchronous code."""
    time.sleep(seconds)


def new_random(seed: int | None = None) -> random.Random:
    """A random source; with a seed it repeats."""
    return random.Random(seed)
