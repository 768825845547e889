"""Klines out of trades, by the exchange's rules (binance.md 0, facts 5 to 8), in whole ticks and lots.

A bar's open, high, low and close come from its trades alone; a bar without trades is flat at the close before
it, with f = L = -1. Written apart from the product's own roll-up on purpose: each would show the other's mistake.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np

from exchange_sim.symbols import SymbolSpec
from exchange_sim.trades import Bar, Int64s, TradeLog, Trades, join

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
#: Where the bars begin that are not counted from 1970: weeks on Monday, three days on 1970-01-02.
_ANCHOR_MS: Final = {"3d": _DAY, "1w": 4 * _DAY}
FIXED_INTERVALS_MS: Final = {
    "1s": 1_000,
    "1m": _MINUTE,
    "3m": 3 * _MINUTE,
    "5m": 5 * _MINUTE,
    "15m": 15 * _MINUTE,
    "30m": 30 * _MINUTE,
    "1h": _HOUR,
    "2h": 2 * _HOUR,
    "4h": 4 * _HOUR,
    "6h": 6 * _HOUR,
    "8h": 8 * _HOUR,
    "12h": 12 * _HOUR,
    "1d": _DAY,
    "3d": 3 * _DAY,
    "1w": 7 * _DAY,
}
INTERVALS: Final = (*FIXED_INTERVALS_MS, "1M")
_NO_LOW: Final = 2**62


def open_of(interval: str, time_ms: int, zone_ms: int = 0) -> int:
    """Open time of the bar that holds time_ms; zone_ms moves the grid east of UTC (REST's timeZone)."""
    local = time_ms + zone_ms
    if interval == "1M":
        month = datetime.fromtimestamp(local / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return int(month.timestamp()) * 1000 - zone_ms
    return local - (local - _ANCHOR_MS.get(interval, 0)) % FIXED_INTERVALS_MS[interval] - zone_ms


def next_open(interval: str, open_ms: int, zone_ms: int = 0) -> int:
    """Open time of the bar after the one that opens at open_ms."""
    if interval == "1M":
        return open_of(interval, open_ms + 32 * _DAY, zone_ms)
    return open_ms + FIXED_INTERVALS_MS[interval]


def opens_between(interval: str, from_ms: int, to_ms: int, limit: int, zone_ms: int = 0) -> list[int]:
    """Open times t with from_ms <= t <= to_ms, the first `limit` of them."""
    opens: list[int] = []
    open_ms = open_of(interval, from_ms, zone_ms)
    if open_ms < from_ms:
        open_ms = next_open(interval, open_ms, zone_ms)
    while open_ms <= to_ms and len(opens) < limit:
        opens.append(open_ms)
        open_ms = next_open(interval, open_ms, zone_ms)
    return opens


def bars(log: TradeLog, spec: SymbolSpec, edges_ms: list[int], until_ms: int) -> list[Bar]:
    """The bars [edges[i], edges[i+1]), from the trades before until_ms. Empty while nothing was ever traded."""
    edges = np.array(edges_ms, dtype=np.int64)
    columns = _Columns(len(edges) - 1)
    for run in log.slices(spec, edges_ms[0], min(edges_ms[-1], until_ms)):
        columns.add(run, edges)
    before = log.last_before(spec, edges_ms[0])
    return columns.bars(edges_ms, int(before.price[-1]) if before is not None else None)


def bar(log: TradeLog, spec: SymbolSpec, span_ms: tuple[int, int], until_ms: int) -> Bar | None:
    """One bar over span_ms = (open, end), from the trades before until_ms; None while nothing was ever traded."""
    open_ms, close_ms = span_ms[0], span_ms[1] - 1
    whole: Bar | None = None
    for piece in log.summaries(spec, open_ms, min(span_ms[1], until_ms)):
        whole = piece if whole is None else join(whole, piece)
    if whole is not None:
        return whole._replace(open_ms=open_ms, close_ms=close_ms)
    before = log.last_before(spec, open_ms)
    return None if before is None else flat(open_ms, close_ms, int(before.price[-1]))


def flat(open_ms: int, close_ms: int, price: int) -> Bar:
    """A bar without trades."""
    return Bar(open_ms, close_ms, price, price, price, price, 0, 0, 0, 0, 0, -1, -1)


class _Columns:
    """Bars under construction, one array a column."""

    def __init__(self, size: int) -> None:
        self.open, self.high, self.close = (np.zeros(size, np.int64) for _ in range(3))
        self.low = np.full(size, _NO_LOW, np.int64)
        self.sums = np.zeros((5, size), np.int64)  # count, base, quote, taker base, taker quote
        self.first_id = np.full(size, -1, np.int64)
        self.last_id = np.full(size, -1, np.int64)

    def add(self, run: Trades, edges: Int64s) -> None:
        """Take in a run of trades that lies within the edges."""
        low = max(int(np.searchsorted(edges, run.base_ms + int(run.offset_ms[0]), "right")) - 1, 0)
        high = int(np.searchsorted(edges, run.base_ms + int(run.offset_ms[-1]), "right"))
        offsets = np.clip(edges[low : high + 1] - run.base_ms, -(2**31), 2**31 - 1).astype(np.int32)
        cuts = np.searchsorted(run.offset_ms, offsets)
        filled = np.flatnonzero(cuts[1:] > cuts[:-1])
        starts, ends = cuts[:-1][filled], cuts[1:][filled]
        at = filled + low
        values = run.price * run.quantity
        bought = np.where(run.sold, 0, run.quantity)
        fresh = self.first_id[at] < 0
        self.open[at] = np.where(fresh, run.price[starts], self.open[at])
        self.first_id[at] = np.where(fresh, run.first_id + starts, self.first_id[at])
        self.close[at] = run.price[ends - 1]
        self.last_id[at] = run.first_id + ends - 1
        self.high[at] = np.maximum(self.high[at], np.maximum.reduceat(run.price, starts))
        self.low[at] = np.minimum(self.low[at], np.minimum.reduceat(run.price, starts))
        amounts = (run.quantity, values, bought, bought * run.price)
        self.sums[0, at] += ends - starts
        for row, amount in enumerate(amounts, start=1):
            self.sums[row, at] += np.add.reduceat(amount, starts)

    def bars(self, edges_ms: list[int], price: int | None) -> list[Bar]:
        """The finished bars; empty ones are flat at the close before (`price` before the first)."""
        result: list[Bar] = []
        counts, *amounts = self.sums.tolist()
        prices = [column.tolist() for column in (self.open, self.high, self.low, self.close)]
        ids = [self.first_id.tolist(), self.last_id.tolist()]
        columns = zip(*prices, *amounts[:2], counts, *amounts[2:], *ids, strict=True)
        for i, values in enumerate(columns):
            open_ms, close_ms = edges_ms[i], edges_ms[i + 1] - 1
            if counts[i]:
                made = Bar(open_ms, close_ms, *values)
                price = made.close
                result.append(made)
            elif price is not None:
                result.append(flat(open_ms, close_ms, price))
        return result
