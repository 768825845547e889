"""The order book of one symbol: absolute levels in, sorted sides out. Pure state; market/depth_sync.py keeps it true.

A book holds exactly what is known to be complete. A snapshot is cut off at its limit, so what lies beyond its last
price is unknown until it changes: such levels are not kept (they would be a book with holes, and grow for ever), and
`known_to` says how far each side may be believed. Times and ids are the caller's; prices and quantities are Decimal.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final

from market.depth import BookTicker, Level, PartialDepth
from market.errors import MarketError

#: Levels of one side that are kept; the worst go first, and the known range ends where they were.
MAX_LEVELS: Final = 10_000
#: So many are dropped at once: one by one would cost a search for each new level.
PRUNE_LEVELS: Final = 1_000


class BadBook(MarketError):
    """Levels that no order book can have: a price or quantity that is no number, below zero, a crossed book."""


class BookSide:
    """One side, best price first in `top`. Complete from the best price to `known_to` (None = to its end)."""

    def __init__(self, *, is_bid: bool, levels: Sequence[Level], limit: int, max_levels: int = MAX_LEVELS) -> None:
        """From the side of a snapshot that was asked for with `limit` levels. Raises BadBook."""
        self._is_bid = is_bid
        self._max_levels = max_levels
        #: ascending; the best price is the last of the bids, the first of the asks
        self._prices: list[Decimal] = []
        self._quantities: dict[Decimal, Decimal] = {}
        self.known_to: Decimal | None = None
        self.apply(levels)
        if len(self._prices) != len(levels):
            raise BadBook("the snapshot repeats a price or holds a level without quantity")
        if self._prices and len(levels) >= limit:
            self.known_to = self._prices[0] if is_bid else self._prices[-1]

    def __len__(self) -> int:
        return len(self._prices)

    @property
    def best(self) -> Level | None:
        """Best price and its quantity; None when the side is empty, or no level is left of the known range."""
        if not self._prices:
            return None
        price = self._prices[-1 if self._is_bid else 0]
        return price, self._quantities[price]

    @property
    def is_exhausted(self) -> bool:
        """The best price has left the known range: there may be levels that we do not know."""
        return self.known_to is not None and not self._prices

    def top(self, count: int) -> list[Level]:
        """The best `count` levels (fewer where the known range ends), best first."""
        prices = self._prices[: -count - 1 : -1] if self._is_bid else self._prices[:count]
        return [(price, self._quantities[price]) for price in prices]

    def apply(self, levels: Iterable[Level]) -> None:
        """Set absolute quantities; 0 removes (also what is not there: normal). Raises BadBook, then it is unusable."""
        quantities, known_to = self._quantities, self.known_to
        for price, quantity in levels:
            if not (price.is_finite() and quantity.is_finite()) or price <= 0 or quantity < 0:
                raise BadBook(f"a level of {quantity} at {price}")
            if known_to is not None and (price < known_to if self._is_bid else price > known_to):
                continue
            if quantity:
                if price not in quantities:
                    self._prices.insert(bisect_left(self._prices, price), price)
                quantities[price] = quantity
            elif quantities.pop(price, None) is not None:
                del self._prices[bisect_left(self._prices, price)]
        if len(self._prices) > self._max_levels:
            self._prune()

    def _prune(self) -> None:
        keep = max(1, self._max_levels - PRUNE_LEVELS)
        if self._is_bid:
            dropped, self._prices = self._prices[:-keep], self._prices[-keep:]
            self.known_to = self._prices[0]
        else:
            self._prices, dropped = self._prices[:keep], self._prices[keep:]
            self.known_to = self._prices[-1]
        for price in dropped:
            del self._quantities[price]

    def check(self) -> None:
        """Every invariant, the whole side (for tests and simulation). Raises BadBook."""
        prices, quantities = self._prices, self._quantities
        if any(left >= right for left, right in pairwise(prices)):
            raise BadBook("prices are not sorted")
        if len(prices) != len(quantities) or any(quantities.get(price, 0) <= 0 for price in prices):
            raise BadBook("prices and quantities do not agree")
        if len(prices) > self._max_levels:
            raise BadBook("more levels than are kept")


class OrderBook:
    """Both sides as they were after update `last_update_id`. Never crossed."""

    def __init__(self, snapshot: PartialDepth, limit: int, max_levels: int = MAX_LEVELS) -> None:
        """From a REST snapshot asked for with `limit` levels a side. Raises BadBook."""
        self.symbol = snapshot.symbol
        self.last_update_id = snapshot.last_update_id
        self.bids = BookSide(is_bid=True, levels=snapshot.bids, limit=limit, max_levels=max_levels)
        self.asks = BookSide(is_bid=False, levels=snapshot.asks, limit=limit, max_levels=max_levels)
        self._refuse_crossed()

    def apply(self, bids: Iterable[Level], asks: Iterable[Level], last_update_id: int) -> None:
        """One update of the exchange as a whole. Raises BadBook; the book is unusable then."""
        if last_update_id <= self.last_update_id:
            raise BadBook(f"update {last_update_id} after {self.last_update_id}")
        self.bids.apply(bids)
        self.asks.apply(asks)
        self._refuse_crossed()
        self.last_update_id = last_update_id

    @property
    def is_exhausted(self) -> bool:
        """A side has nothing left of what was known."""
        return self.bids.is_exhausted or self.asks.is_exhausted

    def levels_left(self, otherwise: int) -> int:
        """Levels of the shorter side of those that are known only in part; `otherwise` when both are complete."""
        return min((len(side) for side in (self.bids, self.asks) if side.known_to is not None), default=otherwise)

    def agrees_with(self, ticker: BookTicker) -> bool:
        """True unless the exchange names another best bid or ask for this very update (a check that costs nothing).

        A side that is empty has no best price to compare.
        """
        if ticker.update_id != self.last_update_id:
            return True
        named = ((ticker.bid_price, ticker.bid_quantity), (ticker.ask_price, ticker.ask_quantity))
        held = (self.bids.best, self.asks.best)
        return all(ours is None or ours == theirs for ours, theirs in zip(held, named, strict=True))

    def check(self) -> None:
        """Every invariant, the whole book (for tests and simulation). Raises BadBook."""
        self.bids.check()
        self.asks.check()
        self._refuse_crossed()

    def _refuse_crossed(self) -> None:
        bid, ask = self.bids.best, self.asks.best
        if bid is not None and ask is not None and bid[0] >= ask[0]:
            raise BadBook(f"crossed: bid {bid[0]}, ask {ask[0]}")
