"""The order book of a tape: a recorded snapshot with the recorded depth events since."""

from __future__ import annotations

from collections import deque
from heapq import nlargest, nsmallest
from typing import Any, Final

from exchange_sim.statistics import Best
from exchange_sim.symbols import SymbolSpec
from exchange_sim.tape_log import units8

EARLY_EVENTS_MAX: Final = 5_000

Levels = list[tuple[int, int]]


class TapeBook:
    """Quantity by price in ticks and lots. `update_id` is 0 until a snapshot has been joined."""

    def __init__(self, spec: SymbolSpec) -> None:
        self._spec = spec
        self._sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._early: deque[dict[str, Any]] = deque(maxlen=EARLY_EVENTS_MAX)
        self.update_id = 0

    def snapshot(self, data: dict[str, Any]) -> None:
        """A recorded REST answer: becomes the book, then the events already seen go on top of it."""
        if int(data["lastUpdateId"]) <= self.update_id:
            return
        self._sides = ({}, {})
        self.update_id = int(data["lastUpdateId"])
        self._apply(data["bids"], data["asks"])
        early, self._early = list(self._early), deque(maxlen=EARLY_EVENTS_MAX)
        for event in early:
            self.event(event)

    def event(self, data: dict[str, Any]) -> None:
        """A recorded depth event. One that leaves a hole makes the book unknown until the next snapshot."""
        if not self.update_id:
            self._early.append(data)
        elif data["U"] > self.update_id + 1:
            self.update_id = 0
            self._early.append(data)
        elif data["u"] > self.update_id:
            self._apply(data["b"], data["a"])
            self.update_id = int(data["u"])

    def top(self, count: int) -> tuple[Levels, Levels]:
        """The first `count` levels of each side, best first."""
        bids, asks = self._sides
        return nlargest(count, bids.items()), nsmallest(count, asks.items())

    def best(self) -> Best | None:
        """Best levels, None while unknown or one-sided."""
        bids, asks = self.top(1)
        return (bids[0], asks[0]) if self.update_id and bids and asks else None

    def _apply(self, *sides: list[list[str]]) -> None:
        for levels, book in zip(sides, self._sides, strict=True):
            for price, quantity in levels:
                ticks = units8(price) // self._spec.price_unit
                lots = units8(quantity) // self._spec.quantity_unit
                if lots:
                    book[ticks] = lots
                else:
                    book.pop(ticks, None)
