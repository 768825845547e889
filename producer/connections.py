"""Which stream goes over which connection, how often we may connect, and when a replacement has taken over. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from market.stream import Stream

#: Facts and slow streams apart from the noisy book streams: a burst of depth cannot delay a kline.
BOOK_STREAMS = frozenset({Stream.DEPTH, Stream.DEPTH20, Stream.BOOK_TICKER})
#: The exchange allows 300 attempts in 5 minutes per address; other programs share the address.
MAX_ATTEMPTS = 150
ATTEMPT_WINDOW_S = 300.0


@dataclass(frozen=True)
class StreamKey:
    """One stream of one symbol."""

    symbol: str
    stream: Stream

    @property
    def name(self) -> str:
        """Its name at the exchange."""
        return self.stream.exchange_name(self.symbol)


def plan_connections(
    symbols: Sequence[str], streams: Iterable[Stream], per_connection: int
) -> list[tuple[StreamKey, ...]]:
    """Every symbol x stream on exactly one connection, at most `per_connection` on each, evenly filled."""
    wanted = list(streams)
    groups = ([s for s in wanted if s not in BOOK_STREAMS], [s for s in wanted if s in BOOK_STREAMS])
    plan: list[tuple[StreamKey, ...]] = []
    for group in groups:
        keys = [StreamKey(symbol, stream) for symbol in symbols for stream in group]
        if not keys:
            continue
        connections = -(-len(keys) // per_connection)
        size = -(-len(keys) // connections)
        plan.extend(tuple(keys[start : start + size]) for start in range(0, len(keys), size))
    return plan


class AttemptBudget:
    """At most MAX_ATTEMPTS connection attempts in any ATTEMPT_WINDOW_S, over all connections of the process."""

    def __init__(self) -> None:
        self._attempts: deque[float] = deque(maxlen=MAX_ATTEMPTS)

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next attempt is allowed; 0 = now."""
        if len(self._attempts) < MAX_ATTEMPTS:
            return 0.0
        return max(0.0, self._attempts[0] + ATTEMPT_WINDOW_S - now_s)

    def take(self, now_s: float) -> None:
        """Count an attempt."""
        self._attempts.append(now_s)


class Hosts:
    """The exchange's addresses in the order to try: a failed attempt moves on, a connection that worked stays."""

    def __init__(self, urls: Sequence[str]) -> None:
        if not urls:
            raise ValueError("no WebSocket URL of the exchange given")
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._index = 0

    def current(self) -> str:
        """The address to try next."""
        return self._urls[self._index]

    def failed(self) -> None:
        """The attempt at `current` did not succeed."""
        self._index = (self._index + 1) % len(self._urls)


class Handover:
    """Two connections carry the same streams: when may the old one go?

    When every stream that still lived on the old one has delivered on the new one, or at `deadline_s`.
    """

    def __init__(self, living: Iterable[str], deadline_s: float) -> None:
        self._awaited = set(living)
        self._deadline_s = deadline_s

    def delivered(self, name: str) -> None:
        """The new connection delivered a frame of this stream."""
        self._awaited.discard(name)

    def is_over(self, now_s: float) -> bool:
        """True when the old connection is not needed any more."""
        return not self._awaited or now_s >= self._deadline_s

    @property
    def awaited(self) -> int:
        """Streams that have not delivered on the new connection."""
        return len(self._awaited)
