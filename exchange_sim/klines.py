"""Klines out of trades, by the exchange's rules (binance.md 0, facts 5 to 8), in whole ticks and lots.

A bar's open, high, low and close come from its trades alone; a bar without trades is flat at the close before
it, with f = L = -1. Written apart from the product's own roll-up on purpose: each would show the other's mistake.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np

from exchange_sim.symbols import SymbolSpec
from exchange_sim.trades import Int64s, TradeLog, Trades

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_MONDAY_MS: Final = 4 * _DAY
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


class Bar(NamedTuple):
    """One kline: prices in ticks, base amounts in lots, quote amounts in tick x lot."""

    open_ms: int
    close_ms: int
    open: int
    high: int
    low: int
    close: int
    base: int
    quote: int
    count: int
    taker_base: int
    taker_quote: int
    first_id: int
    last_id: int


def open_of(interval: str, time_ms: int, zone_ms: int = 0) -> int:
    """Open time of the bar that holds time_ms; zone_ms moves the grid east of UTC (REST's timeZone)."""
    local = time_ms + zone_ms
    if interval == "1M":
        month = datetime.fromtimestamp(local / 1000, UTC).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        return int(month.timestamp()) * 1000 - zone_ms
    anchor = _MONDAY_MS if interval == "1w" else 0
    return local - (local - anchor) % FIXED_INTERVALS_MS[interval] - zone_ms


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
    first: Trades | None = None
    last: Trades | None = None
    high, low = 0, _NO_LOW
    base = quote = taker_base = taker_quote = count = 0
    for run in log.slices(spec, span_ms[0], min(span_ms[1], until_ms)):
        first = first or run
        last = run
        count += len(run)
        high = max(high, int(run.price.max()))
        low = min(low, int(run.price.min()))
        values = run.price * run.quantity
        base += int(run.quantity.sum())
        quote += int(values.sum())
        bought = ~run.sold
        taker_base += int(run.quantity[bought].sum())
        taker_quote += int(values[bought].sum())
    open_ms, close_ms = span_ms[0], span_ms[1] - 1
    if first is None or last is None:
        before = log.last_before(spec, open_ms)
        if before is None:
            return None
        return flat(open_ms, close_ms, int(before.price[-1]))
    prices = (int(first.price[0]), high, low, int(last.price[-1]))
    last_id = last.first_id + len(last) - 1
    return Bar(
        open_ms, close_ms, *prices, base, quote, count, taker_base, taker_quote, first.first_id, last_id
    )


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
        count, base, quote, taker_base, taker_quote = self.sums.tolist()
        opens, highs, lows, closes = (c.tolist() for c in (self.open, self.high, self.low, self.close))
        firsts, lasts = self.first_id.tolist(), self.last_id.tolist()
        for i, open_ms in enumerate(edges_ms[:-1]):
            close_ms = edges_ms[i + 1] - 1
            if count[i]:
                price = closes[i]
                result.append(
                    Bar(
                        open_ms,
                        close_ms,
                        opens[i],
                        highs[i],
                        lows[i],
                        closes[i],
                        base[i],
                        quote[i],
                        count[i],
                        taker_base[i],
                        taker_quote[i],
                        firsts[i],
                        lasts[i],
                    )  # fmt: skip
                )
            elif price is not None:
                result.append(flat(open_ms, close_ms, price))
        return result
