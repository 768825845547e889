"""What a tape holds, found in one pass over it: symbols and their steps, streams, times, and every trade."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from exchange_sim.symbols import WIRE_DECIMALS, WIRE_UNIT, SymbolSpec
from exchange_sim.tape_formats import MICROSECONDS_FROM, Tape, TapeError, TapeLine, event_time_ms
from exchange_sim.trades import Bar, Trades, summary

TRADES_MAX: Final = 20_000_000
SECOND_MS: Final = 1_000
_QUOTES: Final = ("USDT", "FDUSD", "USDC", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "USD")

TradeRow = tuple[int, int, int, int, bool, bool]


def units8(text: str) -> int:
    """A decimal text as a whole number of the eighth decimal."""
    whole, _, part = text.partition(".")
    return int(whole) * WIRE_UNIT + int((part + "0" * WIRE_DECIMALS)[:WIRE_DECIMALS])


def milliseconds(value: int) -> int:
    """A time in ms, given in ms or in microseconds."""
    return value // 1000 if value >= MICROSECONDS_FROM else value


class TapeContents:
    """The trade log of a tape (a TradeLog) and its index. Times are moved by shift_ms."""

    def __init__(self, tape: Tape) -> None:
        """Reads the tape once. Raises TapeError when it holds nothing to play."""
        self.streams: set[str] = set()
        self.snapshots: dict[str, TapeLine] = {}
        self.shift_ms = 0
        self._first_ms: float | None = None
        self.first_received_ms = 0.0
        self.last_ms = 0.0
        self._trades: dict[str, list[TradeRow]] = {}
        self._aggregates: dict[str, list[TradeRow]] = {}
        self._steps: dict[str, list[int]] = {}
        self._aggregate_ids: dict[str, dict[int, int]] = {}
        for line in tape:
            self._take(line)
        self.cut_at_line = tape.cut_at_line
        if self._first_ms is None or not self.streams:
            raise TapeError(f"TAPE {tape.path} holds no exchange message with an event time")
        self.first_ms: float = self._first_ms
        names = Counter(name.partition("@")[0].upper() for name in self.streams if "@" in name)
        if "" in self.snapshots and len(names) == 1:  # an answer recorded without its address
            self.snapshots[next(iter(names))] = self.snapshots.pop("")
        self.symbols: dict[str, SymbolSpec] = {
            name: self._spec(rank, name) for rank, name in enumerate(sorted(names), start=1)
        }
        self._runs: dict[str, Trades] = {name: self._run(spec) for name, spec in self.symbols.items()}

    @property
    def oldest_ms(self) -> int:
        """Start of the first second that the tape holds whole."""
        return int(-(-self.first_ms // SECOND_MS)) * SECOND_MS + self.shift_ms

    def slices(self, spec: SymbolSpec, from_ms: int, to_ms: int) -> Iterator[Trades]:
        """The trades with from_ms <= time < to_ms, as one run."""
        run = self._moved(spec).between(from_ms, to_ms)
        if len(run):
            yield run

    def summaries(self, spec: SymbolSpec, from_ms: int, to_ms: int) -> Iterator[Bar]:
        """The same trades as one bar."""
        for run in self.slices(spec, from_ms, to_ms):
            yield summary(run)

    def last_before(self, spec: SymbolSpec, time_ms: int) -> Trades | None:
        """The last trade before time_ms."""
        run = self._moved(spec)
        stop = run.index_at(time_ms)
        return run.part(stop - 1, stop) if stop else None

    def from_id(self, spec: SymbolSpec, trade_id: int, *, aggregate: bool) -> Iterator[Trades]:
        """All trades from this id on, as one run."""
        run = self._moved(spec)
        if aggregate:
            begins = np.flatnonzero(run.starts)
            index = max(trade_id - run.first_aggregate_id, 0)
            start = int(begins[index]) if index < len(begins) else len(run)
        else:
            start = max(trade_id - run.first_id, 0)
        if start < len(run):
            yield run.part(start, len(run))

    def _moved(self, spec: SymbolSpec) -> Trades:
        run = self._runs[spec.name]
        return Trades(
            run.base_ms + self.shift_ms,
            run.first_id,
            run.first_aggregate_id,
            run.offset_ms,
            run.price,
            run.quantity,
            run.sold,
            run.starts,
        )

    def _take(self, line: TapeLine) -> None:
        data = line.data
        if not line.stream:
            self.snapshots.setdefault(line.symbol, line)
            self._observe(line.symbol, data.get("bids", [])[:50], data.get("asks", [])[:50])
            return
        self.streams.add(line.stream)
        event_ms = event_time_ms(data)
        if event_ms is not None:
            if self._first_ms is None:
                self._first_ms, self.first_received_ms = event_ms, line.received_ms
            self.last_ms = max(self.last_ms, event_ms)
        kind = data.get("e")
        if kind in ("trade", "aggTrade"):
            self._trade(data, kind)
        elif kind == "depthUpdate":
            self._observe(data["s"], data["b"], data["a"])
        elif kind == "kline":
            inner = data["k"]
            self._observe(data["s"], [[inner[price], inner["v"]] for price in "ohlc"])

    def _trade(self, data: dict[str, Any], kind: str) -> None:
        symbol, price, quantity = data["s"], units8(data["p"]), units8(data["q"])
        self._observe(symbol, [[data["p"], data["q"]]], [])
        time_ms, sold = milliseconds(data["T"]), bool(data["m"])
        if kind == "trade":
            self._trades.setdefault(symbol, []).append((data["t"], time_ms, price, quantity, sold, True))
            return
        rows = self._aggregates.setdefault(symbol, [])
        self._aggregate_ids.setdefault(symbol, {})[data["f"]] = data["a"]
        # The ids of one aggregate stand for as many trades; the first carries the quantity of all.
        rows.append((data["f"], time_ms, price, quantity, sold, True))
        rows.extend((i, time_ms, price, 0, sold, False) for i in range(data["f"] + 1, data["l"] + 1))
        if len(rows) > TRADES_MAX:
            raise TapeError(f"the tape has more than {TRADES_MAX} trades of {symbol}")

    def _observe(self, symbol: str, *sides: list[list[str]]) -> None:
        """Remember the finest steps of price and quantity that were seen."""
        steps = self._steps.setdefault(symbol, [0, 0])
        for level in (level for side in sides for level in side):
            for i in (0, 1):
                text = level[i].rstrip("0")
                _, point, part = text.partition(".")
                if point and len(part) > steps[i]:
                    steps[i] = min(len(part), WIRE_DECIMALS)

    def _spec(self, rank: int, name: str) -> SymbolSpec:
        quote = next((q for q in _QUOTES if name.endswith(q) and name != q), name[-3:])
        price_decimals, quantity_decimals = self._steps.get(name, (WIRE_DECIMALS, 0))
        return SymbolSpec(
            name=name,
            base=name[: -len(quote)],
            quote=quote,
            rank=rank,
            price_ticks=1,
            price_decimals=price_decimals,
            quantity_decimals=quantity_decimals,
            block_s=1,
            phase_s=0,
            trades_per_block=1,
            median_lots=1.0,
            key=0,
        )

    def _run(self, spec: SymbolSpec) -> Trades:
        rows = self._trades.pop(spec.name, None) or self._aggregates.pop(spec.name, [])
        unique = sorted({row[0]: row for row in rows}.values())
        ids, times, prices, quantities, sold, starts = zip(*unique, strict=True) if unique else ((),) * 6
        if ids and ids[-1] - ids[0] + 1 != len(ids):
            # A hole in the recording: ids are no longer first + index, so what lies before it is left out.
            cut = max(i for i in range(1, len(ids)) if ids[i] != ids[i - 1] + 1)
            ids, times, prices = ids[cut:], times[cut:], prices[cut:]
            quantities, sold, starts = quantities[cut:], sold[cut:], starts[cut:]
        base_ms = times[0] if times else int(self.first_ms)
        # Match times may step back by a millisecond across ids; a view by time needs them in order.
        offsets = np.maximum.accumulate(np.array(times, dtype=np.int64) - base_ms)
        return Trades(
            base_ms,
            ids[0] if ids else 0,
            self._aggregate_ids.get(spec.name, {}).get(ids[0], ids[0]) if ids else 0,
            offsets.astype(np.int32),
            np.array(prices, dtype=np.int64) // spec.price_unit,
            np.array(quantities, dtype=np.int64) // spec.quantity_unit,
            np.array(sold, dtype=np.bool_),
            np.array(starts, dtype=np.bool_),
        )
