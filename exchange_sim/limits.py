"""The exchange's limits: REST weight per address and minute, message rate and attempts per address."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MINUTE_MS: Final = 60_000
MESSAGES_PER_SECOND: Final = 5
ATTEMPTS_PER_5_MIN: Final = 300
IGNORED_429_BEFORE_BAN: Final = 10
FIRST_BAN_S: Final = 120
LONGEST_BAN_S: Final = 259_200
MAX_ADDRESSES: Final = 10_000


class MessageRate:
    """At most MESSAGES_PER_SECOND incoming frames (PING, PONG and text) in any second."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=MESSAGES_PER_SECOND)

    def allows(self, now_s: float) -> bool:
        """Count one frame; false when it is one too many."""
        full = len(self._times_s) == MESSAGES_PER_SECOND and now_s - self._times_s[0] < 1.0
        self._times_s.append(now_s)
        return not full


@dataclass(slots=True)
class _Usage:
    minute: int = 0
    weight: int = 0
    ignored: int = 0
    banned_until_ms: int = 0
    bans: int = 0
    attempts_ms: deque[int] = field(default_factory=lambda: deque(maxlen=ATTEMPTS_PER_5_MIN))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the limiter says of one request: HTTP status 200, 429 or 418; used weight; seconds to wait."""

    status: int
    used: int
    retry_after_s: int
    banned_until_ms: int = 0


class Limiter:
    """Weights and connection attempts per address."""

    def __init__(self, weight_per_minute: int, *, enforced: bool) -> None:
        self.weight_per_minute = weight_per_minute
        self._enforced = enforced
        self._usage: dict[str, _Usage] = {}

    def charge(self, address: str, weight: int, now_ms: int) -> Verdict:
        """Count a request's weight. Going on after 429 leads to 418, each ban longer than the one before."""
        usage = self._of(address)
        minute = now_ms // MINUTE_MS
        if usage.minute != minute:
            usage.minute, usage.weight, usage.ignored = minute, 0, 0
        usage.weight += weight
        if not self._enforced:
            return Verdict(200, usage.weight, 0)
        if now_ms < usage.banned_until_ms:
            left_s = (usage.banned_until_ms - now_ms + 999) // 1000
            return Verdict(418, usage.weight, left_s, usage.banned_until_ms)
        if usage.weight <= self.weight_per_minute:
            return Verdict(200, usage.weight, 0)
        usage.ignored += 1
        if usage.ignored > IGNORED_429_BEFORE_BAN:
            ban_s = min(FIRST_BAN_S * 2**usage.bans, LONGEST_BAN_S)
            usage.bans += 1
            usage.banned_until_ms = now_ms + ban_s * 1000
            return Verdict(418, usage.weight, ban_s, usage.banned_until_ms)
        return Verdict(429, usage.weight, ((minute + 1) * MINUTE_MS - now_ms + 999) // 1000)

    def admits_connection(self, address: str, now_ms: int) -> bool:
        """Count a WebSocket attempt; false when it is one too many in five minutes."""
        attempts = self._of(address).attempts_ms
        full = len(attempts) == ATTEMPTS_PER_5_MIN and now_ms - attempts[0] < 5 * MINUTE_MS
        attempts.append(now_ms)
        return not (full and self._enforced)

    def _of(self, address: str) -> _Usage:
        usage = self._usage.get(address)
        if usage is None:
            if len(self._usage) >= MAX_ADDRESSES:
                self._usage.clear()
            usage = self._usage[address] = _Usage()
        return usage
