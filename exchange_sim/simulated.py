"""The seeded market as a source of data for the exchange."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from exchange_sim import wire
from exchange_sim.kept_bars import KeptBars
from exchange_sim.live import LiveMarket
from exchange_sim.market import SeededMarket
from exchange_sim.statistics import Best
from exchange_sim.streams import split_stream
from exchange_sim.symbols import SymbolSpec
from exchange_sim.trades import Bar, TradeLog
from runtime.clock import Clock


class SimulatedSource:
    """Joins the log, the live loop and the books."""

    def __init__(self, market: SeededMarket, live: LiveMarket, clock: Clock) -> None:
        self._market, self._live, self._clock = market, live, clock
        self._kept_bars = KeptBars(market)
        self._warmer = ThreadPoolExecutor(1, thread_name_prefix="warm")

    @property
    def trade_log(self) -> TradeLog:
        """All trades."""
        return self._market

    def bars(self, spec: SymbolSpec, edges_ms: list[int], until_ms: int) -> list[Bar]:
        """Klines; those of wide intervals without making their trades each time."""
        return self._kept_bars.bars(spec, edges_ms, until_ms)

    def now_ms(self) -> int:
        """Real time."""
        return self._clock.now_ms()

    def depth(self, spec: SymbolSpec, limit: int) -> bytes:
        """Body of REST depth."""
        book = self._live.book(spec)
        bids, asks = book.top(limit)
        return wire.partial_depth(book.update_id, (wire.levels(spec, bids), wire.levels(spec, asks)))

    def best(self, spec: SymbolSpec) -> Best:
        """Best levels."""
        return self._live.book(spec).best()

    def best_at_hand(self, spec: SymbolSpec) -> Best | None:
        """Best levels of a book that is being kept."""
        return self._live.best_at_hand(spec)

    async def followed(self, streams: list[str]) -> None:
        """Compute the blocks these streams need before they begin, outside the loop."""
        names = {parts[0] for parts in map(split_stream, streams) if parts is not None}
        await asyncio.get_running_loop().run_in_executor(self._warmer, self._live.warm, names)

    def status(self) -> dict[str, object]:
        """For /sim/status."""
        return {"symbols": len(self._market.symbols), "oldest_ms": self._market.oldest_ms}
