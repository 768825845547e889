"""The log that every stream and every REST answer is a view of: trades in order of time, per symbol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from exchange_sim.symbols import SymbolSpec

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Ticks = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Trades:
    """A run of consecutive trades.

    offset_ms counts from base_ms; price in ticks, quantity in lots; `sold` is true where the taker sold (the
    protocol's `m`); `starts` is true at the first trade of each aggregate trade. Trade i has the id
    first_id + i; the aggregate that trade i belongs to has first_aggregate_id + cumsum(starts)[i] - 1.
    """

    base_ms: int
    first_id: int
    first_aggregate_id: int
    offset_ms: Int32s
    price: Ticks
    quantity: Int64s
    sold: Bools
    starts: Bools

    def __len__(self) -> int:
        return len(self.offset_ms)

    def index_at(self, time_ms: int) -> int:
        """Index of the first trade at or after time_ms (len(self) when there is none)."""
        offset = min(max(time_ms - self.base_ms, -(2**31)), 2**31 - 1)
        return int(np.searchsorted(self.offset_ms, np.int32(offset)))

    def between(self, from_ms: int, to_ms: int) -> Trades:
        """The trades with from_ms <= time < to_ms."""
        return self.part(self.index_at(from_ms), self.index_at(to_ms))

    def part(self, start: int, stop: int) -> Trades:
        """The trades with start <= index < stop. `start` must begin an aggregate for its ids to be right,
        otherwise the part's first aggregate is the one that its first trade belongs to."""
        aggregates = int(np.count_nonzero(self.starts[:start]))
        if start < len(self) and not self.starts[start]:
            aggregates -= 1
        return Trades(
            self.base_ms,
            self.first_id + start,
            self.first_aggregate_id + aggregates,
            self.offset_ms[start:stop],
            self.price[start:stop],
            self.quantity[start:stop],
            self.sold[start:stop],
            self.starts[start:stop],
        )

    def rows(self) -> Iterator[tuple[int, int, int, int, bool]]:
        """(trade id, time_ms, price, quantity, sold) of each trade, as Python numbers."""
        columns = zip(
            self.offset_ms.tolist(),
            self.price.tolist(),
            self.quantity.tolist(),
            self.sold.tolist(),
            strict=True,
        )
        for i, (offset, price, quantity, sold) in enumerate(columns):
            yield self.first_id + i, self.base_ms + offset, price, quantity, sold


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
    trade_count: int
    taker_base: int
    taker_quote: int
    first_id: int
    last_id: int


def summary(run: Trades) -> Bar:
    """The bar of a run that is not empty; its times are the first and the last trade's."""
    values = run.price * run.quantity
    bought = np.where(run.sold, 0, run.quantity)
    return Bar(
        run.base_ms + int(run.offset_ms[0]),
        run.base_ms + int(run.offset_ms[-1]),
        int(run.price[0]),
        int(run.price.max()),
        int(run.price.min()),
        int(run.price[-1]),
        int(run.quantity.sum()),
        int(values.sum()),
        len(run),
        int(bought.sum()),
        int((bought * run.price).sum()),
        run.first_id,
        run.first_id + len(run) - 1,
    )


def join(first: Bar, second: Bar) -> Bar:
    """The bar of two that have trades and follow each other."""
    return Bar(
        first.open_ms,
        second.close_ms,
        first.open,
        max(first.high, second.high),
        min(first.low, second.low),
        second.close,
        first.base + second.base,
        first.quote + second.quote,
        first.trade_count + second.trade_count,
        first.taker_base + second.taker_base,
        first.taker_quote + second.taker_quote,
        first.first_id,
        second.last_id,
    )


class TradeLog(Protocol):
    """Where trades come from: the seeded market or a tape."""

    @property
    def symbols(self) -> dict[str, SymbolSpec]:
        """Listed symbols by name, most traded first."""
        ...

    @property
    def oldest_ms(self) -> int:
        """Nothing before this moment is served."""
        ...

    def slices(self, spec: SymbolSpec, from_ms: int, to_ms: int) -> Iterator[Trades]:
        """All trades with from_ms <= time < to_ms, in runs, in order. Also what lies in the future, if known."""
        ...

    def summaries(self, spec: SymbolSpec, from_ms: int, to_ms: int) -> Iterator[Bar]:
        """Bars of consecutive parts, all with trades, that together hold the trades of slices()."""
        ...

    def last_before(self, spec: SymbolSpec, time_ms: int) -> Trades | None:
        """The last trade before time_ms as a run of one."""
        ...

    def from_id(self, spec: SymbolSpec, trade_id: int, *, aggregate: bool) -> Iterator[Trades]:
        """Runs from this trade (or aggregate trade) id on."""
        ...


def aggregates(runs: Iterable[Trades]) -> Iterator[tuple[tuple[int, int, int, int, bool], tuple[int, int]]]:
    """Aggregate trades of runs that split none: ((aggregate id, time, price, quantity, sold), (first, last id))."""
    for run in runs:
        begins = np.flatnonzero(run.starts)
        if not len(begins):
            continue
        quantities = np.add.reduceat(run.quantity, begins).tolist()
        ends = [*begins[1:].tolist(), len(run)]
        offsets, prices = run.offset_ms[begins].tolist(), run.price[begins].tolist()
        solds = run.sold[begins].tolist()
        for i, (start, end) in enumerate(zip(begins.tolist(), ends, strict=True)):
            row = (run.first_aggregate_id + i, run.base_ms + offsets[i], prices[i], quantities[i], solds[i])
            yield row, (run.first_id + start, run.first_id + end - 1)
