"""The live loop of the seeded market: as real time passes, the log turns into stream events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from exchange_sim import wire
from exchange_sim.book import Book, Diff
from exchange_sim.faults import Faults
from exchange_sim.klines import INTERVALS, bar, next_open, open_of
from exchange_sim.market import SeededMarket
from exchange_sim.statistics import Best, day_statistics
from exchange_sim.streams import ALL_MINI_TICKERS, Hub
from exchange_sim.symbols import SymbolSpec, stable_hash
from exchange_sim.trades import Bar, aggregates
from runtime.clock import Clock, new_random
from runtime.logs import get_logger

TICK_MS: Final = 25
DEPTH_FAST_MS: Final = 100
SECOND_MS: Final = 1_000
OPEN_KLINE_EVERY_MS: Final = 2_000
DAY_MS: Final = 86_400_000
EVENT_DELAY_MAX_MS: Final = 43
CATCH_UP_MAX_MS: Final = 120_000
BOOK_UNUSED_MAX_MS: Final = 60_000
SYMBOLS_BETWEEN_YIELDS: Final = 200
PARTIAL_LEVELS: Final = (5, 10, 20)

Build = Callable[[tuple[int, int]], bytes]

log = get_logger(__name__)


class LiveMarket:
    """Publishes the market's log to the hub. One loop, no state but cursors and order books."""

    def __init__(self, market: SeededMarket, hub: Hub, faults: Faults, clock: Clock) -> None:
        self._market, self._hub, self._faults, self._clock = market, hub, faults, clock
        self._books: dict[str, Book] = {}
        self._book_used_ms: dict[str, int] = {}
        self._tickers: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
        self._done_ms = clock.now_ms() // TICK_MS * TICK_MS

    async def run(self) -> None:
        """Tick for ever. A tick that comes late makes up for what was missed, up to CATCH_UP_MAX_MS."""
        while True:
            now = self._clock.now_ms()
            if now - self._done_ms > CATCH_UP_MAX_MS:
                log.warning("clock_jumped", skipped_ms=now - self._done_ms)
                self._done_ms = now // TICK_MS * TICK_MS
                self._books.clear()
            while self._done_ms + TICK_MS <= self._clock.now_ms():
                await self._tick(self._done_ms, self._done_ms + TICK_MS)
                self._done_ms += TICK_MS
                await asyncio.sleep(0)
            await asyncio.sleep((self._done_ms + TICK_MS - self._clock.now_ms() + 1) / 1000)

    def book(self, spec: SymbolSpec) -> Book:
        """The order book as of the last tick; made from the log when nobody has asked for it yet."""
        self._book_used_ms[spec.name] = self._done_ms
        book = self._books.get(spec.name)
        if book is None:
            last = self._market.last_before(spec, self._done_ms)
            price, sold = (spec.price_ticks, True) if last is None else (int(last.price[0]), bool(last.sold[0]))
            source = new_random(stable_hash(self._market.seed, spec.key, self._done_ms))
            book = self._books[spec.name] = Book(spec, source, (self._done_ms, price, sold))
        return book

    def best_at_hand(self, spec: SymbolSpec) -> Best | None:
        """Best levels if a book of the symbol is being kept."""
        book = self._books.get(spec.name)
        return None if book is None else book.best()

    def warm(self, names: Iterable[str]) -> None:
        """Compute what the next ticks need of these symbols (call it in a thread: it may take a while)."""
        for name in names:
            spec = self._market.symbols.get(name)
            if spec is not None:
                self._market.keep_live(spec, self._clock.now_ms())

    async def _tick(self, from_ms: int, to_ms: int) -> None:
        hub, symbols = self._hub, self._market.symbols
        fast: dict[str, SymbolSpec] = {}
        for kind in hub.active_kinds():
            if kind.startswith(("trade", "aggTrade", "bookTicker", "depth")):
                for name in hub.symbols_of(kind):
                    if name in symbols:
                        fast[name] = symbols[name]
                        if not kind.startswith(("trade", "aggTrade")):
                            self.book(symbols[name])
        for name in self._books:
            fast[name] = symbols[name]
        for name, spec in fast.items():
            self._advance(name, spec, from_ms, to_ms)
        if to_ms % DEPTH_FAST_MS == 0:
            self._depth(to_ms)
        if to_ms % SECOND_MS == 0:
            await self._second(to_ms)

    def _advance(self, name: str, spec: SymbolSpec, from_ms: int, to_ms: int) -> None:
        """Trades of one symbol in [from, to), its book after them, and its best bid and ask if they moved."""
        runs = list(self._market.slices(spec, from_ms, to_ms))
        lower = name.lower()
        if self._hub.wants(f"{lower}@trade"):
            for row in (row for run in runs for row in run.rows()):
                self._publish(f"{lower}@trade", partial(wire.trade_event, spec, row))
        if self._hub.wants(f"{lower}@aggTrade"):
            # The fills of one aggregate share one millisecond, so a window of whole ms never splits one.
            for row, ids in aggregates(runs):
                self._publish(f"{lower}@aggTrade", partial(wire.aggregate_event, spec, row, ids))
        book = self._books.get(name)
        if book is None:
            return
        book.advance((row for run in runs for row in run.rows()), to_ms - from_ms)
        if self._hub.wants(f"{lower}@bookTicker"):
            best = book.best()
            if self._tickers.get(name) != best:
                self._tickers[name] = best
                body = wire.book_ticker_event(spec, book.update_id, *best)
                self._publish(f"{lower}@bookTicker", partial(_timeless, body))

    def _depth(self, now_ms: int) -> None:
        for name, book in list(self._books.items()):
            self._depth_of(self._market.symbols[name], book, "@100ms", book.fast)
            if now_ms % SECOND_MS == 0:
                self._depth_of(self._market.symbols[name], book, "", book.slow)

    def _depth_of(self, spec: SymbolSpec, book: Book, speed: str, diff: Diff) -> None:
        """The depth streams of one symbol and speed, all of the same moment."""
        lower = spec.name.lower()
        taken = diff.take(book.update_id)
        if taken is not None and self._hub.wants(f"{lower}@depth{speed}"):
            ids, bids, asks = taken
            sides = (wire.levels(spec, bids), wire.levels(spec, asks))
            self._publish(f"{lower}@depth{speed}", partial(wire.depth_event, spec, ids, sides))
        for count in PARTIAL_LEVELS:
            stream = f"{lower}@depth{count}{speed}"
            if self._hub.wants(stream):
                bids, asks = book.top(count)
                body = wire.partial_depth(book.update_id, (wire.levels(spec, bids), wire.levels(spec, asks)))
                self._publish(stream, partial(_timeless, body))

    async def _second(self, end_ms: int) -> None:
        """What happens once a second, for the second that ended at end_ms."""
        self._forget_unused(end_ms)
        market, hub = self._market, self._hub
        followed = {name for kind in hub.active_kinds() for name in hub.symbols_of(kind)}
        for name in followed | set(self._books):
            if name in market.symbols:
                market.keep_live(market.symbols[name], end_ms)
        for number, (name, stream) in enumerate(list(hub.symbols_of("kline_1s").items()), start=1):
            if number % SYMBOLS_BETWEEN_YIELDS == 0:
                await asyncio.sleep(0)
            spec = market.symbols.get(name)
            made = spec and bar(market, spec, (end_ms - SECOND_MS, end_ms), end_ms)
            if spec and made:
                self._kline(stream, spec, "1s", made, closed=True)
        for interval in INTERVALS[1:]:
            for number, (name, stream) in enumerate(list(hub.symbols_of(f"kline_{interval}").items()), start=1):
                if number % SYMBOLS_BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)
                if name in market.symbols:
                    self._longer_kline(stream, market.symbols[name], interval, end_ms)
        self._tickers_of_the_day(end_ms)

    def _longer_kline(self, stream: str, spec: SymbolSpec, interval: str, end_ms: int) -> None:
        """The closing frame at the end of a bar, and the open one every two seconds."""
        open_ms = open_of(interval, end_ms - 1)
        close_ms = open_of(interval, end_ms)
        if close_ms > open_ms:
            made = bar(self._market, spec, (open_ms, end_ms), end_ms)
            if made is not None:
                self._kline(stream, spec, interval, made, closed=True)
        elif end_ms % OPEN_KLINE_EVERY_MS == 0:
            made = bar(self._market, spec, (open_ms, end_ms), end_ms)
            if made is not None:
                whole = made._replace(close_ms=next_open(interval, open_ms) - 1)
                self._kline(stream, spec, interval, whole, closed=False)

    def _kline(self, stream: str, spec: SymbolSpec, interval: str, made: Bar, *, closed: bool) -> None:
        if closed:
            event_ms = min(max(self._clock.now_ms(), made.close_ms + 2), made.close_ms + 1 + EVENT_DELAY_MAX_MS)
        else:
            event_ms = self._clock.now_ms()
        event_ms += self._faults.skew_ms()
        self._hub.publish(stream, lambda unit: wire.kline_event(spec, interval, made, (event_ms, closed, unit)))

    def _tickers_of_the_day(self, end_ms: int) -> None:
        """Rolling 24 h, of the symbols that traded in the second that ended at end_ms."""
        hub, symbols = self._hub, self._market.symbols
        everything = hub.wants(ALL_MINI_TICKERS)
        names = symbols if everything else {**hub.symbols_of("miniTicker"), **hub.symbols_of("ticker")}
        minis: list[tuple[SymbolSpec, Bar]] = []
        for name in names:
            spec = symbols.get(name)
            if spec is None or not any(self._market.slices(spec, end_ms - SECOND_MS, end_ms)):
                continue
            day = bar(self._market, spec, (end_ms - DAY_MS, end_ms), end_ms)
            if day is None:
                continue
            minis.append((spec, day))
            lower = name.lower()
            self._publish(f"{lower}@miniTicker", partial(wire.mini_ticker_event, spec, day))
            if hub.wants(f"{lower}@ticker"):
                self._publish(f"{lower}@ticker", self._full_ticker(spec, day))
        if everything and minis:
            self._publish(ALL_MINI_TICKERS, partial(_mini_ticker_list, minis))

    def _full_ticker(self, spec: SymbolSpec, day: Bar) -> Build:
        book = self.book(spec).best()
        stats = day_statistics(self._market, spec, day, book)
        return partial(wire.ticker_event, spec, stats)

    def _publish(self, stream: str, build: Build) -> None:
        """Publish one event; build((event time ms, unit)) makes its payload."""
        event_ms = self._clock.now_ms() + self._faults.skew_ms()
        self._hub.publish(stream, lambda unit: build((event_ms, unit)))

    def _forget_unused(self, now_ms: int) -> None:
        """Order books that nobody follows stop; so do blocks held for symbols without listeners."""
        followed = {name for kind in self._hub.active_kinds() for name in self._hub.symbols_of(kind)}
        for name, used_ms in list(self._book_used_ms.items()):
            if now_ms - used_ms > BOOK_UNUSED_MAX_MS:
                self._books.pop(name, None)
                self._tickers.pop(name, None)
                del self._book_used_ms[name]
        self._market.keep_only_live(followed | set(self._books))


def _timeless(body: bytes, at: tuple[int, int]) -> bytes:
    """Payloads that carry no time are the same in both units."""
    return body


def _mini_ticker_list(rows: list[tuple[SymbolSpec, Bar]], at: tuple[int, int]) -> bytes:
    return b"[" + b",".join(wire.mini_ticker_event(spec, day, at) for spec, day in rows) + b"]"
