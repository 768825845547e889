"""Klines of five minutes and more, joined from bars of five minutes that are kept.

A client that loads a symbol asks for one past in many intervals; to make its trades anew for each would cost seconds.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from itertools import pairwise
from typing import Final

from exchange_sim.klines import FIXED_INTERVALS_MS, bars
from exchange_sim.symbols import SymbolSpec
from exchange_sim.trades import Bar, TradeLog, join

FINE_MS: Final = FIXED_INTERVALS_MS["5m"]
HOUR_MS: Final = FIXED_INTERVALS_MS["1h"]
#: Twelve days of ten symbols: 35,000 bars, some 20 MB.
HOURS_MAX: Final = 2_880


class KeptBars:
    """Bars of a log whose past never changes and has no beginning. Thread-safe."""

    def __init__(self, log: TradeLog, hours_max: int = HOURS_MAX) -> None:
        self._log = log
        self._hour = lru_cache(hours_max)(self._made_hour)
        self.hours_kept = self._hour.cache_info

    def bars(self, spec: SymbolSpec, edges_ms: list[int], until_ms: int) -> list[Bar]:
        """What klines.bars gives, at less cost where all edges are multiples of FINE_MS; they begin before until_ms."""
        if any(edge_ms % FINE_MS for edge_ms in edges_ms):
            return bars(self._log, spec, edges_ms, until_ms)
        first_ms = edges_ms[0] - edges_ms[0] % HOUR_MS
        # Only hours that are over are kept.
        rest_ms = max(first_ms, min(edges_ms[-1], until_ms) // HOUR_MS * HOUR_MS)
        fine = [made for open_ms in range(first_ms, rest_ms, HOUR_MS) for made in self._hour(spec, open_ms)]
        if rest_ms < edges_ms[-1]:
            fine += bars(self._log, spec, list(range(rest_ms, edges_ms[-1] + 1, FINE_MS)), until_ms)
        return [
            _joined(fine[(open_ms - first_ms) // FINE_MS : (end_ms - first_ms) // FINE_MS], open_ms, end_ms)
            for open_ms, end_ms in pairwise(edges_ms)
        ]

    def _made_hour(self, spec: SymbolSpec, open_ms: int) -> list[Bar]:
        end_ms = open_ms + HOUR_MS
        return bars(self._log, spec, list(range(open_ms, end_ms + 1, FINE_MS)), end_ms)


def _joined(parts: list[Bar], open_ms: int, end_ms: int) -> Bar:
    """One bar of those that follow each other; flat where none has trades."""
    whole = reduce(join, [part for part in parts if part.trade_count] or parts[:1])
    return whole._replace(open_ms=open_ms, close_ms=end_ms - 1)
