"""Plays a tape: recorded frames as they were, and the klines that it lacks built from its trades.

Time on the tape is the exchange's event time; the pace comes from differences of the receive times, because a
recorder's clock may be wrong but runs evenly. A second is over when an event of a later second comes up.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, Final

from exchange_sim import wire
from exchange_sim.faults import Faults
from exchange_sim.klines import INTERVALS, bar, bars, next_open, open_of
from exchange_sim.settings import SimSettings
from exchange_sim.statistics import Best
from exchange_sim.streams import Hub, split_stream
from exchange_sim.symbols import SymbolSpec
from exchange_sim.tape_book import TapeBook
from exchange_sim.tape_formats import MICROSECONDS_FROM, Tape, TapeLine, event_time_ms
from exchange_sim.tape_log import TapeContents
from exchange_sim.trades import Bar, TradeLog
from runtime.clock import Clock
from runtime.logs import get_logger

DAY_MS: Final = 86_400_000
SECOND_MS: Final = 1_000
OPEN_KLINE_EVERY_MS: Final = 2_000
SUBSCRIBERS_QUIET_S: Final = 1.0
DRAIN_POLL_S: Final = 0.002
DRAIN_POLLS_MAX: Final = 30_000  # a reader that takes nothing for a minute no longer holds the others up
READERS_BEHIND_MAX_BYTES: Final = 262_144
LINES_BETWEEN_YIELDS: Final = 50
KLINE_DELAY_MS: Final = 10
PARTIAL_LEVELS: Final = (5, 10, 20)

log = get_logger(__name__)


class TapeSource:
    """A tape as the exchange's source of data."""

    def __init__(self, tape: Tape, settings: SimSettings, hub: Hub, faults: Faults, clock: Clock) -> None:
        """Reads the tape once. Raises TapeError when it cannot be played."""
        self._tape, self._settings, self._hub, self._faults, self._clock = tape, settings, hub, faults, clock
        self._contents = TapeContents(tape)
        if settings.tape_shift == "days":
            behind_ms = clock.now_ms() - int(self._contents.last_ms)
            self._contents.shift_ms = behind_ms // DAY_MS * DAY_MS
        if self._contents.cut_at_line is not None:
            log.warning("tape_cut", line=self._contents.cut_at_line, tape=str(tape.path))
        self._books = {name: TapeBook(spec) for name, spec in self._contents.symbols.items()}
        self._speed = None if settings.tape_speed == "max" else float(settings.tape_speed)
        self._position_ms = self._contents.first_ms
        self._next_end_ms = -(-int(self._contents.first_ms) // SECOND_MS) * SECOND_MS + SECOND_MS
        self._state = "waiting" if settings.tape_wait else "playing"
        self._subscribed, self._subscribed_s = asyncio.Event(), 0.0

    @property
    def trade_log(self) -> TradeLog:
        """All trades of the tape."""
        return self._contents

    def bars(self, spec: SymbolSpec, edges_ms: list[int], until_ms: int) -> list[Bar]:
        """Klines."""
        return bars(self._contents, spec, edges_ms, until_ms)

    def now_ms(self) -> int:
        """The tape's position, as event time."""
        return int(self._position_ms) + self._contents.shift_ms

    def depth(self, spec: SymbolSpec, limit: int) -> bytes | None:
        """The recorded book at this position; before its snapshot comes up, that snapshot."""
        book = self._books[spec.name]
        if not book.update_id:
            ahead = self._contents.snapshots.get(spec.name)
            if ahead is None:
                return None
            book = TapeBook(spec)
            book.snapshot(ahead.data)
        bids, asks = book.top(limit)
        return wire.partial_depth(book.update_id, (wire.levels(spec, bids), wire.levels(spec, asks)))

    def best(self, spec: SymbolSpec) -> Best | None:
        """Best levels of the recorded book."""
        return self._books[spec.name].best()

    def best_at_hand(self, spec: SymbolSpec) -> Best | None:
        """Best levels of the recorded book; there is always one."""
        return self.best(spec)

    async def followed(self, streams: list[str]) -> None:
        """Somebody listens now: what starts the tape."""
        kinds = [parts[1] for parts in map(split_stream, streams) if parts is not None]
        if any(kind.startswith(("kline_", "trade", "aggTrade")) for kind in kinds):
            self._subscribed_s = self._clock.monotonic_s()
            self._subscribed.set()

    def status(self) -> dict[str, object]:
        """For /sim/status."""
        contents = self._contents
        return {
            "tape": self._tape.path.name,
            "format": self._tape.format,
            "state": self._state,
            "symbols": len(contents.symbols),
            "streams": sorted(contents.streams),
            "first_ms": int(contents.first_ms) + contents.shift_ms,
            "last_ms": int(contents.last_ms) + contents.shift_ms,
            "cut_at_line": contents.cut_at_line,
        }

    async def run(self) -> None:
        """Wait for subscribers, play to the end, then stay silent."""
        if self._state == "waiting":
            await self._until_followed()
        self._state = "playing"
        log.info("tape_starts", tape=str(self._tape.path), format=self._tape.format)
        start_s = self._clock.monotonic_s()
        first_received_ms = self._contents.first_received_ms
        for number, line in enumerate(self._tape):
            event_ms = event_time_ms(line.data) or self._position_ms
            await self._close_seconds(max(event_ms, self._position_ms), start_s)
            await self._pace(line.received_ms - first_received_ms, start_s, number)
            self._position_ms = max(event_ms, self._position_ms)
            self._play(line)
        await self._close_seconds(self._position_ms, start_s)
        self._state = "ended"
        log.info("tape_ended", lines=self._tape.lines_read, cut_at_line=self._tape.cut_at_line)
        await asyncio.Event().wait()

    async def _until_followed(self) -> None:
        """Return once somebody listens and nobody has joined for a while (clients open several connections)."""
        await self._subscribed.wait()
        while True:
            left_s = self._subscribed_s + SUBSCRIBERS_QUIET_S - self._clock.monotonic_s()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    async def _pace(self, after_ms: float, start_s: float, number: int) -> None:
        """Wait until `after_ms` of tape have passed, or at full speed until the readers have caught up."""
        if self._speed is not None:
            wait_s = start_s + after_ms / 1000 / self._speed - self._clock.monotonic_s()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                return
        if number % LINES_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)
            for _ in range(DRAIN_POLLS_MAX if self._speed is None else 0):
                if self._hub.largest_backlog_bytes() <= READERS_BEHIND_MAX_BYTES:
                    break
                await asyncio.sleep(DRAIN_POLL_S)

    async def _close_seconds(self, event_ms: float, start_s: float) -> None:
        """End every second (and every longer bar) that is over at this event time."""
        while self._next_end_ms + KLINE_DELAY_MS <= event_ms:
            end_ms = self._next_end_ms
            self._next_end_ms += SECOND_MS
            await self._pace(end_ms + KLINE_DELAY_MS - self._contents.first_ms, start_s, 0)
            self._position_ms = max(self._position_ms, float(end_ms + KLINE_DELAY_MS))
            self._klines(end_ms + self._contents.shift_ms)

    def _klines(self, end_ms: int) -> None:
        """Kline frames that the tape lacks, for the second that ended at end_ms (moved time)."""
        contents, event_ms = self._contents, self.now_ms() + self._faults.skew_ms()
        for interval in INTERVALS:
            for name, stream in list(self._hub.symbols_of(f"kline_{interval}").items()):
                spec = contents.symbols.get(name)
                if spec is None or stream in contents.streams:
                    continue
                open_ms = open_of(interval, end_ms - 1)
                closed = next_open(interval, open_ms) == end_ms
                if open_ms < contents.oldest_ms or not (closed or end_ms % OPEN_KLINE_EVERY_MS == 0):
                    continue
                made = bar(contents, spec, (open_ms, end_ms), end_ms)
                if made is not None:
                    whole = made._replace(close_ms=next_open(interval, open_ms) - 1)
                    event = partial(_kline, spec, interval, whole, (event_ms, closed))
                    self._hub.publish(stream, event)

    def _play(self, line: TapeLine) -> None:
        """One recorded message."""
        if not line.stream:
            book = self._books.get(line.symbol or next(iter(self._books)))
            if book is not None:
                book.snapshot(line.data)
            return
        if line.data.get("e") == "depthUpdate":
            self._books[line.data["s"]].event(line.data)
            self._partial_depth(line.data["s"])
        shift_ms, skew_ms = self._contents.shift_ms, self._faults.skew_ms()
        self._hub.publish(line.stream, lambda unit: _dump(moved(line.data, shift_ms, shift_ms + skew_ms, unit)))

    def _partial_depth(self, name: str) -> None:
        """depth5, 10 and 20 where the tape has only the diffs."""
        book, spec = self._books[name], self._contents.symbols[name]
        if not book.update_id:
            return
        for count in PARTIAL_LEVELS:
            stream = f"{name.lower()}@depth{count}@100ms"
            if self._hub.wants(stream) and stream not in self._contents.streams:
                bids, asks = book.top(count)
                body = wire.partial_depth(book.update_id, (wire.levels(spec, bids), wire.levels(spec, asks)))
                self._hub.publish(stream, partial(_same, body))


def _kline(spec: SymbolSpec, interval: str, made: Bar, at: tuple[int, bool], unit: int) -> bytes:
    return wire.kline_event(spec, interval, made, (*at, unit))


def _same(body: bytes, unit: int) -> bytes:
    return body


def moved(data: dict[str, Any], shift_ms: int, event_shift_ms: int, unit: int) -> dict[str, Any]:
    """The message with its times moved and in the unit asked for (1 = ms, 1000 = microseconds)."""
    changed = dict(data)
    kind = data.get("e")
    if "E" in data:
        changed["E"] = _time(data["E"], event_shift_ms, unit)
    if kind in ("trade", "aggTrade", "depthUpdate", "bookTicker") and "T" in data:
        changed["T"] = _time(data["T"], shift_ms, unit)
    if kind == "kline":
        inner = dict(data["k"])
        inner["t"] = _time(inner["t"], shift_ms, unit)
        in_micro = data["k"]["T"] >= MICROSECONDS_FROM
        last = data["k"]["T"] + 1
        inner["T"] = _time(last if not in_micro else last // 1000 * 1000, shift_ms, unit) - 1
        changed["k"] = inner
    return changed


def _time(value: int, shift_ms: int, unit: int) -> int:
    if value >= MICROSECONDS_FROM:
        moved_us = value + shift_ms * 1000
        return moved_us if unit == 1000 else moved_us // 1000
    return (value + shift_ms) * unit


def _dump(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
