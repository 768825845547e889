"""Keeping a local order book exact, or saying that it is not: the exchange's algorithm (binance.md 4) without I/O.

    CONNECTING --connected--> BUFFERING --snapshot that joins--> SYNCED --hole, bad level, ...--> RESYNCING --> SYNCED
        ^-------------------------- connection_lost, from every state

The owner tells what happens (`connected`, `on_update`, `on_snapshot`, ...) and asks `wants_snapshot` whenever time has
passed; it fetches the snapshot itself. `book` is None while not SYNCED: nobody can use a wrong one by accident.
Updates are kept until a snapshot joins them. Ids are the exchange's update ids, times ms of any clock of the owner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from market.book import BadBook, OrderBook
from market.depth import BookTicker, DepthUpdate, PartialDepth

#: 2 min of the fast stream; when more come the oldest go, and older snapshots do not join.
MAX_BUFFERED_UPDATES: Final = 1_200
#: An update with a lower id that happened so much later is no late one: the exchange has begun to count anew.
RESTART_AFTER_MS: Final = 5_000
MAX_LEDGER_ENTRIES: Final = 1_000
#: Longer without an answer, and the question counts as lost. More than the REST client's own time-out.
SNAPSHOT_TIMEOUT_MS: Final = 15_000
#: With fewer than 1/REFRESH_SHARE of the levels left, a fresh snapshot is fetched beside the running book.
REFRESH_SHARE: Final = 4
FIRST_DELAY_MS: Final = 500
MAX_DELAY_MS: Final = 30_000


class SyncState(StrEnum):
    """Where the book stands."""

    CONNECTING = "connecting"
    BUFFERING = "buffering"
    SYNCED = "synced"
    RESYNCING = "resyncing"


class ResyncReason(StrEnum):
    """Why the book is not exact (any more)."""

    START = "start"
    DISCONNECT = "disconnect"
    HOLE = "hole"
    BAD_BOOK = "bad_book"
    RANGE_LEFT = "range_left"
    TICKER_DIFFERS = "ticker_differs"
    IDS_RESTARTED = "ids_restarted"


@dataclass
class Resync:
    """A time without an exact book: from the last update it was exact at (None: never was) to the first again."""

    reason: ResyncReason
    from_id: int | None
    from_ms: int
    to_id: int | None = None
    to_ms: int | None = None
    snapshots_refused: int = 0

    @property
    def duration_ms(self) -> int | None:
        """None while it lasts."""
        return None if self.to_ms is None else self.to_ms - self.from_ms


class DepthSync:
    """The order book of one symbol, fed with its depth updates and snapshots. `draw(a, b)`: a random number between."""

    def __init__(self, symbol: str, draw: Callable[[float, float], float], now_ms: int, limit: int = 1000) -> None:
        """`limit`: levels a side that the owner's snapshots are asked for with."""
        self.symbol, self.limit = symbol, limit
        self.state = SyncState.CONNECTING
        self.ledger: deque[Resync] = deque([Resync(ResyncReason.START, None, now_ms)], MAX_LEDGER_ENTRIES)
        self._draw = draw
        self._book: OrderBook | None = None
        self._buffer: deque[DepthUpdate] = deque(maxlen=MAX_BUFFERED_UPDATES)
        #: the newest update that came, of use or not
        self._stream_id, self._stream_ms = -1, 0
        self._joined_ms = 0
        #: when a snapshot is asked for, or the one on its way counts as lost; None = none is needed
        self._due_ms: int | None = None
        self._attempts = 0

    @property
    def book(self) -> OrderBook | None:
        """The book, exact as of its `last_update_id`; None while it is not."""
        return self._book if self.state is SyncState.SYNCED else None

    def connected(self) -> None:
        """The stream is there. The snapshot is asked for after its first update, so that it can join it."""
        if self.state is SyncState.CONNECTING:
            self.state = SyncState.BUFFERING

    def connection_lost(self, now_ms: int) -> None:
        """Updates may be missing from here on."""
        self._lose(ResyncReason.DISCONNECT, now_ms)
        self.state = SyncState.CONNECTING
        self._buffer.clear()
        self._stream_id, self._stream_ms, self._due_ms = -1, 0, None

    def wants_snapshot(self, now_ms: int) -> bool:
        """True when a snapshot must be fetched now; the owner then answers with on_snapshot or snapshot_failed."""
        if self._due_ms is None or now_ms < self._due_ms:
            return False
        self._due_ms = now_ms + SNAPSHOT_TIMEOUT_MS
        return True

    def snapshot_failed(self, now_ms: int, retry_after_s: float = 0.0) -> None:
        """No snapshot: not answered, refused, 429, 418. Asked again after `retry_after_s` at the earliest."""
        if self._due_ms is not None:
            self._ask(now_ms, int(retry_after_s * 1000))

    def on_update(self, update: DepthUpdate, now_ms: int) -> None:
        """One event of the diff stream. Before `connected` it shows by itself that the stream is there."""
        self.connected()
        last = self._book or (self._buffer[-1] if self._buffer else None)
        last_id = update.first_update_id - 1 if last is None else last.last_update_id
        is_newest = update.last_update_id > self._stream_id
        has_restarted = not is_newest and update.event_time_ms > self._stream_ms + RESTART_AFTER_MS
        if has_restarted or is_newest:
            self._stream_id, self._stream_ms = update.last_update_id, update.event_time_ms
        if has_restarted:
            self._lose(ResyncReason.IDS_RESTARTED, now_ms)
            self._buffer.clear()
        elif update.last_update_id <= last_id:
            if self._book is None or not is_newest or now_ms <= self._joined_ms + RESTART_AFTER_MS:
                return
            # The stream goes on below the book, too long after the snapshot: that one was of the old count.
            self._lose(ResyncReason.IDS_RESTARTED, now_ms)
        elif update.first_update_id > last_id + 1:
            # What is kept joins no snapshot that what comes now joins.
            self._lose(ResyncReason.HOLE, now_ms)
            self._buffer.clear()
        if self._book is not None:
            self._apply(self._book, update, now_ms)
        if self._due_ms is not None or self._book is None:
            self._buffer.append(update)
            if self._due_ms is None:
                self._ask(now_ms)

    def on_snapshot(self, snapshot: PartialDepth, now_ms: int) -> None:
        """The answer of the exchange. It joins when no update is missing between it and the first one kept."""
        if self._due_ms is None:
            return  # a second answer, or one from before the connection was lost
        book = self._joined(snapshot)
        if book is None:
            self.ledger[-1].snapshots_refused += self._book is None
            self._ask(now_ms)
            return
        self._book, self._joined_ms, self._due_ms = book, now_ms, None
        self._buffer.clear()
        if self.ledger[-1].to_ms is None:
            self.state = SyncState.SYNCED
            self.ledger[-1].to_id, self.ledger[-1].to_ms = book.last_update_id, now_ms

    def on_book_ticker(self, ticker: BookTicker, now_ms: int) -> None:
        """The exchange's own best prices: they must be ours at the same update."""
        if self._book is not None and not self._book.agrees_with(ticker):
            self._lose(ResyncReason.TICKER_DIFFERS, now_ms)

    def _joined(self, snapshot: PartialDepth) -> OrderBook | None:
        """The snapshot with all kept updates after it; None when it is too old, or no book comes of it."""
        if self._buffer[0].first_update_id > snapshot.last_update_id + 1:
            return None
        try:
            book = OrderBook(snapshot, self.limit)
            for update in self._buffer:
                if update.last_update_id > book.last_update_id:
                    book.apply(update.bids, update.asks, update.last_update_id)
        except BadBook:
            return None
        return None if book.is_exhausted else book

    def _apply(self, book: OrderBook, update: DepthUpdate, now_ms: int) -> None:
        try:
            book.apply(update.bids, update.asks, update.last_update_id)
        except BadBook:
            self._lose(ResyncReason.BAD_BOOK, now_ms)
            return
        if book.is_exhausted:
            self._lose(ResyncReason.RANGE_LEFT, now_ms)
        elif self._due_ms is None:
            self._attempts = 0
            if book.levels_left(self.limit) * REFRESH_SHARE < self.limit:
                self._ask(now_ms)

    def _lose(self, reason: ResyncReason, now_ms: int) -> None:
        """The book is not exact from here on; nothing new when it was not before."""
        if self._book is not None:
            self.ledger.append(Resync(reason, self._book.last_update_id, now_ms))
            self.state = SyncState.RESYNCING
        self._book = None

    def _ask(self, now_ms: int, at_least_ms: int = 0) -> None:
        """A snapshot, after a random time below a bound that doubles: symbols that lost their books together spread."""
        bound_ms = min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** min(self._attempts, 10))
        self._due_ms = now_ms + at_least_ms + int(self._draw(0, bound_ms))
        self._attempts += 1
