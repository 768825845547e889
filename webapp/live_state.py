"""What the streams said last of order book and trades: not stored in the database, so asked from the broker's newest
records. What is older than KNOWN_FOR_MS is not known any more."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from django.conf import settings

from market.depth import PartialDepth
from market.errors import BadRecord
from market.record_codec import RecordDecoder
from market.trade import Trade
from runtime.clock import SystemClock

if TYPE_CHECKING:
    from runtime.newest_records import Held, NewestRecords

CLOCK: Final = SystemClock()
#: The exchange sends the best levels of a book several times a second: silence means that the feed is out.
KNOWN_FOR_MS: Final = 60_000
MAX_TRADES: Final = 1_000
_T = TypeVar("_T", PartialDepth, Trade)


class NotKnown(Exception):
    """Nothing recent is known, and why."""


class LiveState:
    """The newest best levels and trades of every symbol. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tails: dict[str, NewestRecords] = {}

    def book(self, symbol: str) -> PartialDepth:
        """The best levels. Raises NotKnown."""
        books = self._decoded(self._of("depth20", symbol), _BOOKS)
        if not books:
            raise NotKnown(f"the order book of {symbol} is not known at the moment")
        return books[-1]

    def books(self, symbols: Iterable[str]) -> dict[str, PartialDepth]:
        """The best levels of those symbols of which they are known. Raises NotKnown when the broker is away."""
        held = self._by_key("depth20")
        found = {symbol: self._decoded(held.get(symbol, [])[-1:], _BOOKS) for symbol in symbols}
        return {symbol: books[-1] for symbol, books in found.items() if books}

    def trades(self, symbol: str, limit: int) -> list[Trade]:
        """The newest trades that the broker still holds, oldest first. Raises NotKnown when the broker is away."""
        return _decode(self._of("trade", symbol)[-limit:], _TRADES)

    def last_trades(self, symbols: Iterable[str]) -> dict[str, Trade]:
        """The newest trade of those symbols that have one. Raises NotKnown when the broker is away."""
        held = self._by_key("trade")
        found = {symbol: _decode(held.get(symbol, [])[-1:], _TRADES) for symbol in symbols}
        return {symbol: trades[-1] for symbol, trades in found.items() if trades}

    def _decoded(self, held: list[Held], decoder: RecordDecoder[_T]) -> list[_T]:
        oldest_ms = CLOCK.now_ms() - KNOWN_FOR_MS
        return _decode([record for record in held if record.timestamp_ms >= oldest_ms], decoder)

    def _of(self, field: str, symbol: str) -> list[Held]:
        # Imported here and below: the broker's driver takes memory that most processes of this room never need.
        from runtime.newest_records import BrokerAway

        try:
            return self._tail(field).of(symbol)
        except BrokerAway as error:
            raise NotKnown(f"the broker does not answer: {error}") from error

    def _by_key(self, field: str) -> dict[str, list[Held]]:
        from runtime.newest_records import BrokerAway

        try:
            return self._tail(field).by_key()
        except BrokerAway as error:
            raise NotKnown(f"the broker does not answer: {error}") from error

    def _tail(self, field: str) -> NewestRecords:
        from runtime.kafka_client import load_topics
        from runtime.newest_records import NewestRecords

        with self._lock:
            if field not in self._tails:
                topic = getattr(load_topics(), field).name
                per_key = MAX_TRADES if field == "trade" else 1
                self._tails[field] = NewestRecords(settings.ROOM.kafka_bootstrap_servers, topic, per_key, CLOCK)
            return self._tails[field]


_BOOKS: Final = RecordDecoder(PartialDepth)
_TRADES: Final = RecordDecoder(Trade)


def _decode(held: list[Held], decoder: RecordDecoder[_T]) -> list[_T]:
    """The records that can be used."""
    found = []
    for record in held:
        try:
            found.append(decoder.decode(record.value))
        except BadRecord:
            continue
    return found


LIVE: Final = LiveState()
