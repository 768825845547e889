"""The seeded market: its trades are a pure function of (seed, symbol, absolute time), readable at any place.

Time is cut into blocks per symbol. A block holds a fixed number of trades, so that ids have a closed form.
Arrival times follow a multiplicative cascade (bursts and quiet seconds at every scale), prices a sum of
lattice noises with periods from seconds to weeks, anchored at absolute time so that neighbouring blocks agree.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from exchange_sim.symbols import MAX_PRICE_TICKS, SymbolSpec, stable_hash
from exchange_sim.trades import Bar, Int64s, Trades, summary

Floats = NDArray[np.float64]

HISTORY_CACHE_BYTES: Final = 4_000_000
SUMMARIES_MAX: Final = 30_000
LATTICE_BASES_MAX: Final = 4_096
LIVE_BLOCKS_PER_SYMBOL: Final = 2
LIVE_BLOCKS_IDLE_MAX_S: Final = 30
BYTES_PER_TRADE: Final = 18
DAY_MS: Final = 86_400_000

_CASCADE_SHARE: Final = 0.63
_CASCADE_LEVELS_MAX: Final = 12
_OCTAVE_PERIODS_S: Final = tuple(4**k for k in range(1, 12))
_SIGMA_PER_DAY: Final = 0.018
_FAST_UP_TO_S: Final = 1_024
_CALMING_PERIOD_S: Final = 1_777
_CALM: Final = 0.9
_PERIODS_S: Final = (*_OCTAVE_PERIODS_S, _CALMING_PERIOD_S)
_OCTAVE_SIZES: Final = _SIGMA_PER_DAY * (np.array(_OCTAVE_PERIODS_S) / 86_400) ** 0.5
_GRID_ABOVE_AGGREGATES: Final = 4_096
_MAX_LOTS: Final = 9_000_000_000


class SeededMarket:
    """All trades of all listed symbols, past and future. Thread-safe."""

    def __init__(self, seed: int, specs: Sequence[SymbolSpec], now_ms: Callable[[], int], history_days: int) -> None:
        self.seed = seed
        self._now_ms = now_ms
        self._history_ms = history_days * DAY_MS
        self._symbols = {spec.name: spec for spec in specs}
        self._lock = threading.Lock()
        self._history: OrderedDict[tuple[str, int], Trades] = OrderedDict()
        self._history_bytes = 0
        self._summaries: OrderedDict[tuple[str, int], Bar] = OrderedDict()
        self._live: dict[str, dict[int, Trades]] = {}
        self._idle_s: dict[str, int] = {}

    @property
    def symbols(self) -> dict[str, SymbolSpec]:
        """Listed symbols by name, most traded first."""
        return self._symbols

    @property
    def oldest_ms(self) -> int:
        """Start of the UTC day `history_days` ago."""
        start = self._now_ms() - self._history_ms
        return start - start % DAY_MS

    def slices(self, spec: SymbolSpec, from_ms: int, to_ms: int) -> Iterator[Trades]:
        """All trades with from_ms <= time < to_ms, in runs, in order."""
        if to_ms <= from_ms:
            return
        for index in range(self._index_at(spec, from_ms), self._index_at(spec, to_ms - 1) + 1):
            run = self.block(spec, index).between(from_ms, to_ms)
            if len(run):
                yield run

    def summaries(self, spec: SymbolSpec, from_ms: int, to_ms: int) -> Iterator[Bar]:
        """Bars of consecutive parts; those of whole blocks come from a cache."""
        if to_ms <= from_ms:
            return
        first, last = self._index_at(spec, from_ms), self._index_at(spec, to_ms - 1)
        for index in range(first, last + 1):
            start_ms = (index * spec.block_s + spec.phase_s) * 1000
            if from_ms <= start_ms and start_ms + spec.block_s * 1000 <= to_ms:
                yield self._summary(spec, index)
                continue
            run = self.block(spec, index).between(from_ms, to_ms)
            if len(run):
                yield summary(run)

    def _summary(self, spec: SymbolSpec, index: int) -> Bar:
        key = (spec.name, index)
        found = self._summaries.get(key)
        if found is None:
            found = summary(self.block(spec, index))
            with self._lock:
                if len(self._summaries) >= SUMMARIES_MAX:
                    self._summaries.popitem(last=False)
                self._summaries[key] = found
        return found

    def last_before(self, spec: SymbolSpec, time_ms: int) -> Trades | None:
        """The last trade before time_ms as a run of one. There always is one: no block is empty."""
        index = self._index_at(spec, time_ms)
        while True:
            block = self.block(spec, index)
            stop = block.index_at(time_ms)
            if stop:
                return block.part(stop - 1, stop)
            index -= 1

    def from_id(self, spec: SymbolSpec, trade_id: int, *, aggregate: bool) -> Iterator[Trades]:
        """Runs from this id on, without end."""
        per_block = spec.aggregates_per_block if aggregate else spec.trades_per_block
        index, offset = divmod(trade_id, per_block)
        if aggregate:
            starts = np.flatnonzero(self.block(spec, index).starts)
            offset = int(starts[offset])
        while True:
            block = self.block(spec, index)
            yield block.part(offset, len(block))
            index, offset = index + 1, 0

    def keep_live(self, spec: SymbolSpec, time_ms: int) -> None:
        """Hold the block around time_ms (and the next near its end) for the live loop, past any cache bound."""
        index = self._index_at(spec, time_ms)
        held = self._live.get(spec.name, {})
        if index not in held or len(held) > LIVE_BLOCKS_PER_SYMBOL:
            fresh = {i: b for i, b in held.items() if i == index - 1}
            fresh[index] = self.block(spec, index)
            self._live[spec.name] = fresh

    def keep_only_live(self, names: set[str]) -> None:
        """Called once a second: let go of the blocks of symbols that nobody has followed for a while.

        Not at once, because what was just computed for a new subscriber is not followed yet.
        """
        for name in list(self._live):
            idle_s = 0 if name in names else self._idle_s.get(name, 0) + 1
            self._idle_s[name] = idle_s
            if idle_s > LIVE_BLOCKS_IDLE_MAX_S:
                self._live.pop(name, None)
                self._idle_s.pop(name, None)

    def block(self, spec: SymbolSpec, index: int) -> Trades:
        """Block number `index` of the symbol, from a cache or made anew."""
        live = self._live.get(spec.name)
        if live is not None and index in live:
            return live[index]
        key = (spec.name, index)
        with self._lock:
            found = self._history.get(key)
            if found is not None:
                self._history.move_to_end(key)
                return found
        made = make_block(self.seed, spec, index)
        with self._lock:
            if key not in self._history:
                self._history[key] = made
                self._history_bytes += len(made) * BYTES_PER_TRADE
            while self._history_bytes > HISTORY_CACHE_BYTES and len(self._history) > 1:
                _, oldest = self._history.popitem(last=False)
                self._history_bytes -= len(oldest) * BYTES_PER_TRADE
        return made

    def _index_at(self, spec: SymbolSpec, time_ms: int) -> int:
        return (time_ms // 1000 - spec.phase_s) // spec.block_s


def make_block(seed: int, spec: SymbolSpec, index: int) -> Trades:
    """The trades of one block, from nothing but the arguments."""
    generator = Generator(PCG64(SeedSequence((seed, spec.key, index))))
    count, aggregates = spec.trades_per_block, spec.aggregates_per_block
    start_s = index * spec.block_s + spec.phase_s
    starts = np.ones(count, dtype=np.bool_)
    starts[1 + generator.permutation(count - 1)[: spec.continuations_per_block]] = False
    sweeps = generator.random(aggregates) < 0.16
    sweeps[0] = False
    order = np.maximum.accumulate(np.where(sweeps, 0, np.arange(aggregates)))
    offset_ms = _arrivals(generator, spec, aggregates)[order]
    requoted = generator.random(aggregates) < 0.55
    requoted[0] = True
    quoted = np.maximum.accumulate(np.where(requoted & ~sweeps, np.arange(aggregates), 0))
    middle = _middle_ticks(seed, spec, start_s, offset_ms)[quoted[order]]
    sold = (_side_bias(generator, aggregates) > generator.random(aggregates))[order]
    depth_in_sweep = np.arange(aggregates) - order
    price = np.where(sold, middle - depth_in_sweep, middle + 1 + depth_in_sweep)
    price = np.clip(price, 1, MAX_PRICE_TICKS)
    lots = np.exp(generator.standard_normal(count) * 1.45) * spec.median_lots
    per_trade = np.cumsum(starts) - 1
    return Trades(
        base_ms=start_s * 1000,
        first_id=index * count,
        first_aggregate_id=index * aggregates,
        offset_ms=offset_ms[per_trade].astype(np.int32),
        price=price[per_trade].astype(np.int32),
        quantity=np.clip(lots, 1, _MAX_LOTS).astype(np.int64),
        sold=sold[per_trade],
        starts=starts,
    )


def _arrivals(generator: Generator, spec: SymbolSpec, count: int) -> Int64s:
    """`count` sorted times (ms from the block's start), uniform in a cascade's measure."""
    mass = np.ones(1)
    levels = min(_CASCADE_LEVELS_MAX, max(4, count.bit_length()))
    for _ in range(levels):
        left = np.where(generator.random(len(mass)) < 0.5, _CASCADE_SHARE, 1 - _CASCADE_SHARE)
        mass = np.column_stack((mass * left, mass * (1 - left))).ravel()
    edges = np.linspace(0.0, spec.block_s * 1000.0, len(mass) + 1)
    reached = np.concatenate(([0.0], np.cumsum(mass)))
    waits = np.cumsum(generator.standard_exponential(count + 1))
    times = np.interp(waits[:-1] / waits[-1] * reached[-1], reached, edges)
    return np.asarray(np.clip(times.astype(np.int64), 0, spec.block_s * 1000 - 1))


def _side_bias(generator: Generator, count: int) -> Floats:
    """Share of sellers, drifting in runs of 256 aggregates so that flow has a direction for a while."""
    runs = generator.random(count // 256 + 1) * 0.5 + 0.25
    return np.repeat(runs, 256)[:count]


def _middle_ticks(seed: int, spec: SymbolSpec, start_s: int, offset_ms: Int64s) -> Int64s:
    """Best bid in ticks at each time."""
    if len(offset_ms) > _GRID_ABOVE_AGGREGATES:
        grid_s = np.arange(spec.block_s + 1, dtype=np.float64)
        path = np.interp(offset_ms / 1000.0, grid_s, _log_price(seed, spec, start_s, grid_s))
    else:
        path = _log_price(seed, spec, start_s, offset_ms / 1000.0)
    return np.asarray(np.floor(spec.price_ticks * np.exp(path)).astype(np.int64))


def _log_price(seed: int, spec: SymbolSpec, start_s: int, after_s: Floats) -> Floats:
    """Logarithm of the price relative to the symbol's anchor, `after_s` seconds after start_s."""
    bases = _lattice_bases(seed, spec.key)
    if len(after_s) > _GRID_ABOVE_AGGREGATES:
        lattice = np.stack([_dense_lattice(b, p, start_s, after_s) for b, p in zip(bases, _PERIODS_S, strict=True)])
    else:
        lattice = _sparse_lattices(bases, start_s, after_s)
    sized = lattice[:-1] * _OCTAVE_SIZES[:, None]
    fast = _OCTAVE_PERIODS_S.index(_FAST_UP_TO_S) + 1
    return np.asarray(sized[fast:].sum(axis=0) + sized[:fast].sum(axis=0) * np.exp(_CALM * lattice[-1] - 0.3))


@lru_cache(maxsize=LATTICE_BASES_MAX)
def _lattice_bases(seed: int, key: int) -> tuple[int, ...]:
    """What each lattice of a symbol is hashed with, in the order of _PERIODS_S."""
    return tuple(stable_hash(seed, key, period_s) for period_s in _PERIODS_S)


def _dense_lattice(base: int, period_s: int, start_s: int, after_s: Floats) -> Floats:
    """Noise of unit variance, linear between independent values at multiples of the period; many points."""
    first, rest = divmod(start_s + base % period_s, period_s)
    position = (after_s + rest) / period_s
    cell = position.astype(np.int64)
    part = position - cell
    nodes = _noise(np.uint64(base), first + np.arange(int(cell.max(initial=0)) + 2, dtype=np.int64))
    return np.asarray(nodes[cell] * (1 - part) + nodes[cell + 1] * part)


def _sparse_lattices(bases: tuple[int, ...], start_s: int, after_s: Floats) -> Floats:
    """All lattices at once (one row each), hashing only the nodes around the points."""
    firsts, rests = zip(*(divmod(start_s + b % p, p) for b, p in zip(bases, _PERIODS_S, strict=True)), strict=True)
    periods = np.array(_PERIODS_S, dtype=np.float64)[:, None]
    position = (after_s[None, :] + np.array(rests, dtype=np.float64)[:, None]) / periods
    cell = position.astype(np.int64)
    part = position - cell
    nodes = cell + np.array(firsts, dtype=np.int64)[:, None]
    salt = np.array(bases, dtype=np.uint64)[:, None]
    return np.asarray(_noise(salt, nodes) * (1 - part) + _noise(salt, nodes + 1) * part)


def _noise(base: np.uint64 | NDArray[np.uint64], positions: Int64s) -> Floats:
    """Uniform in +-sqrt(3) (unit variance), a hash of each lattice position (splitmix64)."""
    with np.errstate(over="ignore"):
        z = positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + base
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.asarray(((z >> np.uint64(11)).astype(np.float64) / 2**52 - 1) * 3**0.5)
