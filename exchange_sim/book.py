"""A limit order book whose orders fit the trade log: each trade finds its price at the top and consumes it."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Final

from exchange_sim.symbols import SymbolSpec
from exchange_sim.wire import Row

LEVELS_WISHED: Final = 1_000
LEVELS_MAX: Final = 1_200
LEVELS_MIN: Final = 200
IDS_PER_MS: Final = 2
GAP_SHARE: Final = 2e-6
RESTING_FACTOR: Final = 4.0

Levels = list[tuple[int, int]]


class Side:
    """One side: quantity by price, prices ascending."""

    def __init__(self) -> None:
        self.lots: dict[int, int] = {}
        self.prices: list[int] = []

    def set(self, price: int, lots: int) -> None:
        """Set the level, or delete it when lots is 0."""
        if lots:
            if price not in self.lots:
                insort(self.prices, price)
            self.lots[price] = lots
        elif self.lots.pop(price, None) is not None:
            del self.prices[bisect_left(self.prices, price)]


class Diff:
    """Levels changed since the last depth event, and the id up to which events were sent."""

    def __init__(self, sent_id: int) -> None:
        self.sent_id = sent_id
        self.changed: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def take(self, update_id: int) -> tuple[tuple[int, int], Levels, Levels] | None:
        """((U, u), bids, asks) since the last call; None when nothing happened."""
        if update_id == self.sent_id:
            return None
        ids = (self.sent_id + 1, update_id)
        bids = sorted(self.changed[0].items(), reverse=True)
        asks = sorted(self.changed[1].items())
        self.sent_id = update_id
        self.changed = ({}, {})
        return ids, bids, asks


class Book:
    """The order book of one symbol. Every change of a level takes one update id; ids never skip."""

    def __init__(self, spec: SymbolSpec, source: random.Random, start: tuple[int, int, bool]) -> None:
        """start = (time ms, price of the last trade in ticks, taker sold)."""
        self._spec = spec
        self._random = source
        start_ms, price, sold = start
        self._gap = max(1.0, price * GAP_SHARE)
        self._resting = spec.median_lots * RESTING_FACTOR
        self._rate_per_ms = (20 + 2 * spec.trades_per_block / spec.block_s) / 1000
        self._owed = 0.0
        self.update_id = start_ms * IDS_PER_MS
        self.bids, self.asks = Side(), Side()
        self.fast, self.slow = Diff(self.update_id), Diff(self.update_id)
        best_bid = price if sold else price - 1
        for side, step, best in ((self.bids, -1, best_bid), (self.asks, 1, best_bid + 1)):
            level = best
            while level > 0 and len(side.lots) < LEVELS_WISHED:
                side.lots[level] = self._quantity()
                level += step * self._distance()
            side.prices = sorted(side.lots)

    def best(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """((best bid, lots), (best ask, lots))."""
        bid, ask = self.bids.prices[-1], self.asks.prices[0]
        return (bid, self.bids.lots[bid]), (ask, self.asks.lots[ask])

    def top(self, count: int) -> tuple[Levels, Levels]:
        """The first `count` levels of each side, best first."""
        bids, asks = self.bids, self.asks
        return (
            [(p, bids.lots[p]) for p in reversed(bids.prices[-count:])],
            [(p, asks.lots[p]) for p in asks.prices[:count]],
        )

    def advance(self, trades: Iterable[Row], passed_ms: int) -> None:
        """Play these trades, then `passed_ms` worth of orders that rest or are withdrawn."""
        for _, _, price, quantity, sold in trades:
            self._trade(price, quantity, sold)
        self._owed = min(self._owed + passed_ms * self._rate_per_ms, 500.0)
        while self._owed >= 1:
            self._owed -= 1
            self._rest_or_withdraw(self._random.random() < 0.5)

    def _trade(self, price: int, quantity: int, sold: bool) -> None:
        """Before it the book is at the trade's price with enough on it; the trade takes its part away."""
        self._clear_better(price, sold)
        side = self.bids if sold else self.asks
        there = side.lots.get(price, 0)
        if there < quantity:
            there = quantity + (self._quantity() if self._random.random() < 0.7 else 0)
            self._set(sold, price, there)
        self._set(sold, price, there - quantity)
        other = price + 1 if sold else price - 1
        others = self.asks if sold else self.bids
        if other > 0 and other not in others.lots:
            self._set(not sold, other, self._quantity())
        if not side.prices:
            self._set(sold, max(1, price - 1) if sold else price + 1, self._quantity())

    def _clear_better(self, price: int, sold: bool) -> None:
        """Withdraw what stands between the book and a trade at this price, on both sides."""
        bids, asks = self.bids.prices, self.asks.prices
        too_high = bids[bisect_right(bids, price) if sold else bisect_left(bids, price) :]
        too_low = asks[: bisect_right(asks, price) if sold else bisect_left(asks, price)]
        for level in too_high:
            self._set(True, level, 0)
        for level in too_low:
            self._set(False, level, 0)

    def _rest_or_withdraw(self, is_bid: bool) -> None:
        side = self.bids if is_bid else self.asks
        size = len(side.prices)
        index = min(int(self._random.expovariate(8 / size)), size - 1)
        level = side.prices[-1 - index if is_bid else index]
        if size > LEVELS_MAX:
            self._set(is_bid, side.prices[0 if is_bid else -1], 0)
        dice = self._random.random()
        if dice < 0.5:
            self._set(is_bid, level, self._quantity())
        elif dice < 0.75 and size > LEVELS_MIN and index:
            self._set(is_bid, level, 0)
        else:
            price = level + (-1 if is_bid else 1) * self._distance()
            if price > 0:
                self._set(is_bid, price, self._quantity())

    def _set(self, is_bid: bool, price: int, lots: int) -> None:
        (self.bids if is_bid else self.asks).set(price, lots)
        self.update_id += 1
        side = 0 if is_bid else 1
        self.fast.changed[side][price] = lots
        self.slow.changed[side][price] = lots

    def _quantity(self) -> int:
        return max(1, int(self._resting * self._random.lognormvariate(0.0, 1.2)))

    def _distance(self) -> int:
        return max(1, int(self._random.expovariate(1 / self._gap) + 0.5))
