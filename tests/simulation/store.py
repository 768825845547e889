"""`inserter.store.Store` over the tables in memory, with atomic commit and crash at any step.

Every operation suspends once: whoever drives the coroutine may kill, pause or interleave it there.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

from inserter.batch import DeadLetter, Row, WireKline
from inserter.store import Advance, Checkpoint, Suspect, SymbolState
from market.depth import MiniTicker
from market.feed import FeedOutage, GapCause
from market.interval import DAY_MS, SECOND_MS, Interval
from market.kline import Kline, Source
from market.ledger import OPEN, Gap, LedgerChange, Outage
from market.stream import Stream
from runtime.database import OperationalError
from runtime.errors import Fenced
from runtime.kafka_client import TopicPartition
from tests.simulation.tables import Database, StoredOutage, StoredRow

CHAIN_LOOK_BACK_MS = 600_000


@types.coroutine
def pause() -> Generator[None]:
    """A place where the coroutine is suspended once."""
    yield


def kline_of(wire: WireKline) -> Kline:
    """The row with its decimals as numbers."""
    return Kline(
        symbol=wire.symbol,
        interval=Interval.S1,
        open_time_ms=wire.open_time_ms,
        close_time_ms=wire.close_time_ms,
        open=Decimal(wire.open),
        high=Decimal(wire.high),
        low=Decimal(wire.low),
        close=Decimal(wire.close),
        base_volume=Decimal(wire.base_volume),
        quote_volume=Decimal(wire.quote_volume),
        trade_count=wire.trade_count,
        taker_buy_base_volume=Decimal(wire.taker_buy_base_volume),
        taker_buy_quote_volume=Decimal(wire.taker_buy_quote_volume),
        first_trade_id=wire.first_trade_id,
        last_trade_id=wire.last_trade_id,
        is_closed=True,
        event_time_ms=wire.event_time_ms,
        received_at_ms=wire.received_at_ms,
    )


class StoreFaults:
    """What goes wrong in operations; the world sets it."""

    def before(self, operation: str) -> None:
        """Raise OperationalError to make the operation fail."""

    def commit(self) -> bool | None:
        """None: it works; False: it fails; True: it works and the answer is lost."""
        return None


class MemoryStore:
    """One connection to the database."""

    def __init__(self, database: Database, faults: StoreFaults | None = None) -> None:
        self._db = database
        self._faults = faults or StoreFaults()
        self._is_gone = False

    async def _operate(self, name: str) -> None:
        await pause()
        if self._is_gone:
            raise OperationalError("the simulated connection is closed")
        self._faults.before(name)

    def close(self) -> None:
        """The connection ends; an open transaction of it is rolled back."""
        self._is_gone = True
        self._db.abandon(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing."""
        await self._operate("begin")
        self._db.begin(self)
        try:
            yield
            await self._operate("commit")
            outcome = self._faults.commit()
            if outcome is False:
                raise OperationalError("the simulated commit failed")
        except BaseException:
            self._db.abandon(self)
            raise
        self._db.commit()
        if outcome:
            raise OperationalError("the simulated connection broke before the answer to the commit")

    @asynccontextmanager
    async def trial(self) -> AsyncIterator[None]:
        """Always rolled back."""
        is_nested = self._db.holder is self
        if not is_nested:
            self._db.begin(self)
        mark = self._db.mark()
        try:
            yield
        finally:
            self._db.roll_back(mark)
            if not is_nested:
                self._db.abandon(self)

    async def load_symbols(self) -> dict[str, SymbolState]:
        """Every symbol that has a watermark."""
        await self._operate("load_symbols")
        return {symbol: self._state(symbol, watermark) for symbol, watermark in self._db.watermarks.items()}

    def _state(self, symbol: str, watermark_ms: int) -> SymbolState:
        rows = self._db.rows.get(symbol, {})
        times = range(watermark_ms - SECOND_MS, watermark_ms - CHAIN_LOOK_BACK_MS - 1, -SECOND_MS)
        klines = (rows[open_ms].kline for open_ms in times if open_ms in rows)
        traded = next((kline for kline in klines if kline.trade_count > 0), None)
        if traded is None:
            return SymbolState(watermark_ms)
        last_id = traded.last_trade_id if traded.last_trade_id >= 0 else None
        return SymbolState(watermark_ms, last_id, traded.open_time_ms)

    async def load_open_outages(self) -> list[Outage]:
        """Outages of the 1 s klines that are not over."""
        await self._operate("load_open_outages")
        return [
            Outage(symbol, from_ms, None, outage.cause)
            for (symbol, stream, from_ms), outage in sorted(self._db.outages.items())
            if stream == Stream.KLINE_1S and outage.to_ms is None
        ]

    async def load_unfollowed(self) -> set[str]:
        """None in a simulation."""
        await self._operate("load_unfollowed")
        return set()

    async def load_checkpoints(self, topics: Collection[str]) -> dict[TopicPartition, Checkpoint]:
        """Stored checkpoints of the topics."""
        await self._operate("load_checkpoints")
        return {partition: point for partition, point in self._db.checkpoints.items() if partition.topic in topics}

    async def claim_checkpoints(self, claims: Mapping[TopicPartition, Checkpoint]) -> None:
        """Make the missing ones; of the others only the epoch changes."""
        await self._operate("claim_checkpoints")
        for partition, claim in claims.items():
            held = self._db.checkpoints.get(partition)
            new = claim if held is None else replace(held, epoch=claim.epoch)
            self._db.put("checkpoint", self._db.checkpoints, partition, new)

    async def advance_checkpoints(self, advances: Sequence[Advance]) -> None:
        """All of them, or Fenced."""
        await self._operate("advance_checkpoints")
        for advance in advances:
            held = self._db.checkpoints.get(advance.partition)
            if held is None or (held.epoch, held.next_offset) != (advance.epoch, advance.stored_offset):
                raise Fenced("another inserter has taken the checkpoint")
            new = Checkpoint(advance.topic_id, advance.next_offset, advance.epoch)
            self._db.put("checkpoint", self._db.checkpoints, advance.partition, new)

    async def ensure_days(self, days: Collection[int]) -> None:
        """There is always room."""
        await self._operate("ensure_days")
        assert all(day * DAY_MS >= 0 for day in days)

    async def insert_rows(self, rows: Sequence[Row], *, are_new: bool, copy_text: str | None = None) -> int:
        """The newer event wins."""
        written = 0
        for part in range(0, len(rows), 20):
            await self._operate("insert_rows")
            for row in rows[part : part + 20]:
                written += self._db.put_row(StoredRow(kline_of(row.kline), Source.STREAM))
        return written

    async def upsert_minutes(self, minutes: Sequence[Kline]) -> None:
        """The newest event wins."""
        await self._operate("upsert_minutes")
        for kline in minutes:
            key = (kline.symbol, kline.open_time_ms)
            held = self._db.minutes.get(key)
            if held is None or kline.event_time_ms > held.event_time_ms:
                self._db.put("minute", self._db.minutes, key, kline)

    async def write_outages(self, outages: Sequence[FeedOutage]) -> None:
        """The later replaces the earlier; what was open before ends where this one begins."""
        await self._operate("write_outages")
        table = self._db.outages
        for outage in outages:
            key = (outage.symbol, outage.stream, outage.from_time_ms)
            held = table.get(key)
            to_ms = outage.to_time_ms if outage.to_time_ms is not None or held is None else held.to_ms
            self._db.put("outage", table, key, StoredOutage(to_ms, outage.cause))
        for outage in outages:
            for other, stored in list(table.items()):
                is_same = other[:2] == (outage.symbol, outage.stream)
                if is_same and stored.to_ms is None and other[2] < outage.from_time_ms:
                    self._db.put("outage", table, other, StoredOutage(outage.from_time_ms, stored.cause))

    async def write_tickers(self, tickers: Sequence[MiniTicker]) -> None:
        """The newest event wins."""
        await self._operate("write_tickers")
        for ticker in tickers:
            held = self._db.tickers.get(ticker.symbol)
            if held is None or ticker.event_time_ms >= held.event_time_ms:
                self._db.put("ticker", self._db.tickers, ticker.symbol, ticker)

    async def write_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """One a place in the log."""
        await self._operate("write_dead_letters")
        for letter in letters:
            if letter.offset is None:
                self._db.unplaced_letters += 1
                continue
            key = (letter.topic, letter.partition, letter.offset)
            if key not in self._db.letters:
                self._db.put("letter", self._db.letters, key, letter)

    async def lock_ledger(self, symbols: Iterable[str]) -> None:
        """One transaction at a time has it all."""
        await self._operate("lock_ledger")

    async def gaps_touching(self, ranges_ms: Mapping[str, tuple[int, int]]) -> list[Gap]:
        """Gaps that overlap or adjoin the range of their symbol, by symbol and time."""
        await self._operate("gaps_touching")
        return [gap for symbol in sorted(ranges_ms) for gap in self._db.gaps_touching(symbol, *ranges_ms[symbol])]

    async def gaps_of_unknown_cause(self, symbols: Collection[str]) -> list[Gap]:
        """Open gaps with cause unknown."""
        await self._operate("gaps_of_unknown_cause")
        return [
            gap
            for gap in self._db.gaps.values()
            if gap.symbol in symbols and gap.state == OPEN and gap.cause is GapCause.UNKNOWN
        ]

    async def outages_of(self, symbols: Collection[str], ending_after_ms: int) -> list[Outage]:
        """Outages of the 1 s klines that are not over or ended after the time, newest first."""
        await self._operate("outages_of")
        found = [
            Outage(symbol, from_ms, outage.to_ms, outage.cause)
            for (symbol, stream, from_ms), outage in self._db.outages.items()
            if stream == Stream.KLINE_1S
            and symbol in symbols
            and (outage.to_ms is None or outage.to_ms > ending_after_ms)
        ]
        return sorted(found, key=lambda outage: -outage.from_ms)

    async def write_ledger(self, change: LedgerChange) -> None:
        """Delete, update and insert gaps."""
        await self._operate("write_ledger")
        self._db.write_ledger(change)

    async def add_suspects(self, suspects: Sequence[Suspect]) -> None:
        """Those already known change nothing."""
        await self._operate("add_suspects")
        for suspect in suspects:
            key = (suspect.symbol, suspect.from_ms, suspect.to_ms)
            if key not in self._db.suspects:
                self._db.put("suspect", self._db.suspects, key, OPEN)

    async def mark_dirty(
        self, minutes: Collection[tuple[str, int]] = (), hours: Collection[tuple[str, int]] = ()
    ) -> None:
        """Minutes to roll up again, hours to count again."""
        await self._operate("mark_dirty")
        self._db.mark_dirty(minutes)
        for pair in hours:
            self._db.put("dirty_hour", self._db.dirty_hours, pair, self._db.dirty_hours.get(pair, 0) + 1)

    async def advance_watermarks(self, watermarks: Mapping[str, int]) -> None:
        """Never backwards."""
        await self._operate("advance_watermarks")
        for symbol, watermark_ms in watermarks.items():
            if watermark_ms > self._db.watermarks.get(symbol, -1):
                self._db.put("watermark", self._db.watermarks, symbol, watermark_ms)
