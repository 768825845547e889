"""Klines of five minutes and more, joined from bars of five minutes that are kept.

A client that loads a symbol asks for one past in many intervals; to make its trades anew for each would cost seconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import reduce
from itertools import pairwise
from typing import Final

from exchange_sim.klines import bars
from exchange_sim.symbols import SymbolSpec
from exchange_sim.trades import Bar, TradeLog, join

FINE_MS: Final = 300_000
#: Of all symbols; the one asked last is kept whole (12 days are 3,456).
BARS_MAX: Final = 40_000


class KeptBars:
    """Bars of a log whose past never changes. Thread-safe."""

    def __init__(self, log: TradeLog, bars_max: int = BARS_MAX) -> None:
        self._log, self._bars_max = log, bars_max
        self._lock = threading.Lock()
        #: Whole bars by open time, by symbol; the symbol used last is the last one.
        self._kept: OrderedDict[str, dict[int, Bar]] = OrderedDict()

    def bars(self, spec: SymbolSpec, edges_ms: list[int], until_ms: int) -> list[Bar]:
        """What klines.bars gives, at less cost where all edges are multiples of FINE_MS."""
        if any(edge_ms % FINE_MS for edge_ms in edges_ms):
            return bars(self._log, spec, edges_ms, until_ms)
        over_ms = max(edges_ms[0], min(edges_ms[-1], until_ms - until_ms % FINE_MS))
        fine = self._whole(spec, edges_ms[0], over_ms)
        if over_ms < edges_ms[-1]:
            fine += bars(self._log, spec, list(range(over_ms, edges_ms[-1] + 1, FINE_MS)), until_ms)
        first_ms = edges_ms[0]
        return [
            _joined(fine[(open_ms - first_ms) // FINE_MS : (end_ms - first_ms) // FINE_MS], open_ms, end_ms)
            for open_ms, end_ms in pairwise(edges_ms)
        ]

    def _whole(self, spec: SymbolSpec, from_ms: int, to_ms: int) -> list[Bar]:
        """The bars of FINE_MS in the span, which is over."""
        opens = range(from_ms, to_ms, FINE_MS)
        with self._lock:
            kept = dict(self._kept.get(spec.name, {}))
        missing = [open_ms for open_ms in opens if open_ms not in kept]
        if missing:
            edges_ms = list(range(missing[0], missing[-1] + FINE_MS + 1, FINE_MS))
            kept |= {made.open_ms: made for made in bars(self._log, spec, edges_ms, to_ms)}
        with self._lock:
            self._kept.setdefault(spec.name, {}).update(kept)
            self._kept.move_to_end(spec.name)
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > self._bars_max:
                self._kept.popitem(last=False)
        return [kept[open_ms] for open_ms in opens]


def _joined(parts: list[Bar], open_ms: int, end_ms: int) -> Bar:
    """One bar of those that follow each other; flat where none has trades."""
    whole = reduce(join, [part for part in parts if part.trade_count] or parts[:1])
    return whole._replace(open_ms=open_ms, close_ms=end_ms - 1)
