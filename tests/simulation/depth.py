"""One symbol's order book in a simulation: the exchange's true book, the way to us, and the product's DepthSync.

Prices and quantities are small whole numbers. The true book as it was after each update id is kept, so that a book of
ours can be compared with the very state that it claims to be.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

import msgspec

from market.book import BookSide, OrderBook
from market.depth import BookTicker, DepthUpdate, Level, PartialDepth
from market.depth_sync import DepthSync, ResyncReason, SyncState
from tests.simulation.plan import Kind
from tests.simulation.violations import Anomaly, Violation

#: Levels of a snapshot; fewer than the true book has, so that its range can be left.
LIMIT = 12
REACH = 20
FIRST_PRICE, FIRST_ID = 10_000, 1_000
LATE_MAX_S = 3
STALE_MAX_S = 5
RETRY_AFTER_MAX_S = 4
RECONNECT_S = 2
#: A new snapshot is there so soon.
RANGE_LEFT_S = 5
#: Update ids begin anew here, below all that were given before.
RESTARTED_ID = 100
TRUTHS_KEPT = 400
#: A wrong book stays wrong for longer.
COMPARE_EVERY_S = 4
_NUMBERS = [Decimal(number) for number in range(60)]

_What = TypeVar("_What")
Side = dict[int, int]


@dataclass
class TrueBook:
    """What the exchange has. `history`: update id -> both sides after it."""

    rng: random.Random
    last_id: int = FIRST_ID
    mid: int = FIRST_PRICE
    bids: Side = field(default_factory=dict)
    asks: Side = field(default_factory=dict)
    history: dict[int, tuple[Side, Side]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in range(1, REACH + 1):
            self.bids[self.mid - step] = self.asks[self.mid + step] = step
        self._keep()

    def _keep(self) -> None:
        self.history[self.last_id] = (dict(self.bids), dict(self.asks))
        self.history.pop(self.last_id - TRUTHS_KEPT, None)

    def move(self, symbol: str, event_time_ms: int) -> DepthUpdate:
        """What happens in a second, in two steps of which the message tells the sum."""
        first_id = self.last_id + 1
        changed: tuple[Side, Side] = ({}, {})
        for _ in range(2):
            self._step(changed)
            self.last_id += 1
            self._keep()
        bids, asks = ([_level(price, side[price]) for price in side] for side in changed)
        return DepthUpdate(
            symbol=symbol,
            first_update_id=first_id,
            last_update_id=self.last_id,
            bids=bids,
            asks=asks,
            event_time_ms=event_time_ms,
        )

    def _step(self, changed: tuple[Side, Side]) -> None:
        draw = self.rng.random
        self.mid += int(draw() * 5) - 2
        for sign, side, of_side in ((-1, self.bids, changed[0]), (1, self.asks, changed[1])):
            gone = [price for price in side if not 0 < (price - self.mid) * sign <= REACH]
            for price in gone:
                del side[price]
                of_side[price] = 0
            for _ in range(2):
                price = self.mid + sign * (1 + int(draw() * REACH))
                quantity = int(draw() * 60) if draw() < 0.8 else 0
                of_side[price] = quantity
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    def snapshot(self, symbol: str, update_id: int) -> PartialDepth:
        """The best levels as they were then."""
        bids, asks = self.history[update_id]
        return PartialDepth(
            symbol=symbol,
            last_update_id=update_id,
            bids=[_level(price, bids[price]) for price in sorted(bids, reverse=True)[:LIMIT]],
            asks=[_level(price, asks[price]) for price in sorted(asks)[:LIMIT]],
        )

    def ticker(self, symbol: str) -> BookTicker | None:
        """Best bid and ask now; None while a side is empty."""
        if not self.bids or not self.asks:
            return None
        bid, ask = max(self.bids), min(self.asks)
        (bid_price, bid_quantity), (ask_price, ask_quantity) = _level(bid, self.bids[bid]), _level(ask, self.asks[ask])
        return BookTicker(
            symbol=symbol,
            update_id=self.last_id,
            bid_price=bid_price,
            bid_quantity=bid_quantity,
            ask_price=ask_price,
            ask_quantity=ask_quantity,
        )


def _level(price: int, quantity: int) -> Level:
    return _price(price), _NUMBERS[quantity]


_price = lru_cache(1_000)(Decimal)


class SimDepth:
    """The exchange's side, the network and the owner of a DepthSync."""

    #: tests that plant a bug put their own in
    sync_class: type[DepthSync] = DepthSync

    def __init__(self, symbol: str, rng: random.Random, level: Callable[[Kind], float]) -> None:
        """`level`: how bad a fault is now, 0 = not at all."""
        self._symbol, self._rng, self._level = symbol, rng, level
        self._true = TrueBook(rng)
        self._sync = self.sync_class(symbol, rng.uniform, 0, LIMIT)
        self._is_connected = False
        self._connect_at_s = 0
        #: (second, what) on the way to us, in the order of sending
        self._updates: list[tuple[int, DepthUpdate]] = []
        self._answers: list[tuple[int, PartialDepth | None]] = []
        self.fault_count = 0

    def cut(self, now_s: int) -> None:
        """The connection breaks; what is on its way over it is lost."""
        if self._is_connected:
            self._sync.connection_lost(now_s * 1000)
            self._is_connected, self._connect_at_s = False, now_s + RECONNECT_S
            self._updates.clear()

    def restart(self) -> None:
        """The exchange counts its updates anew."""
        if self._true.last_id > FIRST_ID:
            self._true.last_id = RESTARTED_ID

    def tick(self, now_s: int) -> None:
        """A second at the exchange, on the way, and with us."""
        now_ms = now_s * 1000
        update = self._true.move(self._symbol, now_ms)
        if not self._is_connected and now_s >= self._connect_at_s and not self._level(Kind.UNREACHABLE):
            self._is_connected = True
            self._sync.connected()
        if self._is_connected and not self._level(Kind.SILENCE):
            self._send(update, now_s)
        for what in self._due(self._updates, now_s):
            self._sync.on_update(what, now_ms)
        for answer in self._due(self._answers, now_s):
            if answer is None:
                self._sync.snapshot_failed(now_ms, self._rng.random() * RETRY_AFTER_MAX_S)
            else:
                self._sync.on_snapshot(answer, now_ms)
        if self._sync.wants_snapshot(now_ms):
            self._ask(now_s)
        if now_s % COMPARE_EVERY_S == 0:
            ticker = self._true.ticker(self._symbol)
            if ticker is not None and self._is_connected and not self._level(Kind.SILENCE):
                self._sync.on_book_ticker(ticker, now_ms)
            self._check_levels()
        self._check_state()

    @staticmethod
    def _due(queue: list[tuple[int, _What]], now_s: int) -> list[_What]:
        due = [what for at_s, what in queue if at_s <= now_s]
        if due:
            queue[:] = [entry for entry in queue if entry[0] > now_s]
        return due

    def _strikes(self, kind: Kind, worst: float) -> bool:
        level = self._level(kind)
        if not level or self._rng.random() >= level * worst:
            return False
        self.fault_count += 1
        return True

    def _send(self, update: DepthUpdate, now_s: int) -> None:
        if self._strikes(Kind.DROP, 0.3):
            return
        for _ in range(1 + self._strikes(Kind.DUPLICATE, 0.3)):
            late_s = 1 + int(self._rng.random() * LATE_MAX_S) if self._strikes(Kind.REORDER, 0.3) else 0
            self._updates.append((now_s + late_s, update))

    def _ask(self, now_s: int) -> None:
        """GET /api/v3/depth: refused, never answered, late, of a state that is past, or one that cannot be."""
        true = self._true
        if self._level(Kind.UNREACHABLE) or self._strikes(Kind.REST_ERRORS, 0.7):
            if self._rng.random() < 0.7:
                self._answers.append((now_s + 1, None))
            return
        update_id = true.last_id - int(self._rng.random() * 2)
        at_s = now_s
        if self._strikes(Kind.REST_PARTIAL, 1.0):
            update_id -= 2 * int(self._rng.random() * STALE_MAX_S)
            at_s += int(self._rng.random() * STALE_MAX_S)
        known_id = update_id if update_id in true.history else true.last_id
        snapshot = true.snapshot(self._symbol, known_id)
        if self._strikes(Kind.REST_BAD, 0.7):
            snapshot = _spoiled(snapshot, self._rng)
        self._answers.append((at_s, snapshot))

    def _check_state(self) -> None:
        """A book is there exactly while it is said to be true."""
        sync = self._sync
        book = sync.book
        is_flagged = sync.ledger[-1].to_ms is None
        if (book is None) is (sync.state is SyncState.SYNCED) or is_flagged is not (book is None):
            raise Violation(Anomaly.BOOK, f"a book is {'not ' if book is None else ''}there, state {sync.state}")

    def _check_levels(self) -> None:
        """What is said to be true is."""
        book = self._sync.book
        if book is None:
            return
        truth = self._true.history.get(book.last_update_id)
        if truth is None:
            raise Violation(Anomaly.BOOK, f"no update {book.last_update_id} is known at the exchange")
        self._compare(book, book.bids, truth[0], is_bid=True)
        self._compare(book, book.asks, truth[1], is_bid=False)

    @staticmethod
    def _compare(book: OrderBook, ours: BookSide, truth: Side, *, is_bid: bool) -> None:
        known_to = ours.known_to
        if known_to is not None:
            truth = {p: q for p, q in truth.items() if (p >= known_to if is_bid else p <= known_to)}
        held = ours.top(len(truth) + 1)
        if len(held) != len(truth) or any(truth.get(int(price)) != quantity for price, quantity in held):
            raise Violation(Anomaly.BOOK, f"after {book.last_update_id}: {held}, at the exchange {truth}")

    def check_end(self, now_s: int) -> None:
        """Everything was healed for long: synced, and as new as the exchange, unless a lively market has just left
        the known range."""
        book, last = self._sync.book, self._sync.ledger[-1]
        if book is None and last.reason is ResyncReason.RANGE_LEFT and last.from_ms > (now_s - RANGE_LEFT_S) * 1000:
            return
        if book is None or book.last_update_id != self._true.last_id:
            state = self._sync.state
            raise Violation(Anomaly.STUCK, f"the order book is {state} at {book and book.last_update_id}")
        book.check()


def _spoiled(snapshot: PartialDepth, rng: random.Random) -> PartialDepth:
    """A snapshot that cannot be: crossed, a price twice, a level without quantity, or no number."""
    bids, asks = list(snapshot.bids), list(snapshot.asks)
    kind = rng.randrange(4)
    if kind == 0 or not bids or not asks:
        bids, asks = asks, bids
        if not bids or not asks:
            bids = asks = [(Decimal(1), Decimal(1))]
    elif kind == 1:
        bids[-1] = bids[0]
        asks[-1] = asks[0]
        bids.append(bids[0])
    elif kind == 2:
        bids[0] = (bids[0][0], Decimal(0))
    else:
        asks[0] = (Decimal("NaN"), asks[0][1])
    return msgspec.structs.replace(snapshot, bids=bids, asks=asks)
