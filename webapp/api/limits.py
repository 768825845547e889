"""Request weight per address and clock minute, as Binance counts it."""

from __future__ import annotations

import threading
from typing import Final

from django.conf import settings
from django.http import HttpRequest

from runtime.clock import Clock, SystemClock

WINDOW_MS: Final = 60_000
MAX_ADDRESSES: Final = 50_000


class WeightLimiter:
    """Used weight of every address in the running minute. Thread-safe; one per process."""

    def __init__(self, limit_per_minute: int, clock: Clock) -> None:
        self.limit_per_minute = limit_per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._window_start_ms = 0
        self._used: dict[str, int] = {}

    def take(self, address: str, weight: int) -> tuple[int, int]:
        """Count `weight`; returns what the address has used now, and in how many seconds it may come again
        (0 = it may go on). What is refused is not counted."""
        with self._lock:
            now_ms = self._clock.now_ms()
            if now_ms - now_ms % WINDOW_MS != self._window_start_ms or len(self._used) >= MAX_ADDRESSES:
                self._window_start_ms = now_ms - now_ms % WINDOW_MS
                self._used = {}
            used = self._used.get(address, 0)
            if self.limit_per_minute and used + weight > self.limit_per_minute:
                return used, -(-(self._window_start_ms + WINDOW_MS - now_ms) // 1000)
            self._used[address] = used + weight
            return used + weight, 0


#: What all dialects of this process count with.
LIMITER: Final = WeightLimiter(settings.ROOM.api_weight_per_minute, SystemClock())


def address_of(request: HttpRequest) -> str:
    """Who asks: the peer, or the last address that a configured proxy vouches for."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if forwarded and peer in settings.ROOM.trusted_proxies():
        return str(forwarded).rsplit(",", 1)[-1].strip()
    return peer
