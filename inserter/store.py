"""What the inserter keeps and reads back, as a protocol: PostgreSQL in production, memory in the simulation.

Data in, data out: nothing here knows of SQL. The logic (accounting, ledger, fencing) is in write.py, account.py,
ledger.py and positions.py and is the same over every store.

How it is used, by one caller at a time:

    async with store.transaction():     all or nothing; commits at the end, rolls back when the block raises
        ...                             every read and write below except `ensure_days`, which has its own
    async with store.trial():           inside or outside a transaction: always rolled back, errors are raised

A store that never waits makes coroutines that never suspend, so `Writer.write` can be driven by one `send(None)`.

Errors of every method: Unusable when the store refuses the values themselves (the caller looks for the record),
Retryable faults as the driver raises them (the caller throws store, writer and positions' claims away and starts
over from what is stored), Fenced from `advance_checkpoints`. After a crash a new store must show exactly what the
committed transactions wrote. All times are ms UTC, ends exclusive.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from inserter.batch import DeadLetter, Row
from market.depth import MiniTicker
from market.feed import FeedOutage
from market.kline import Kline
from market.ledger import Gap, LedgerChange, Outage
from runtime.kafka_client import TopicPartition


@dataclass(frozen=True)
class SymbolState:
    """How far a symbol has come. The last two are None when unknown."""

    watermark_ms: int
    #: the newest second with trades: its last trade id and its open time
    last_trade_id: int | None = None
    last_trade_open_ms: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A row of kline_checkpoint."""

    topic_id: uuid.UUID
    next_offset: int
    epoch: int


@dataclass(frozen=True)
class Advance:
    """Compare and set of one checkpoint: only where epoch and `stored_offset` are still what is stored."""

    partition: TopicPartition
    topic_id: uuid.UUID
    epoch: int
    stored_offset: int
    next_offset: int


@dataclass(frozen=True)
class Suspect:
    """Stored seconds that may be wrong, because the trade ids around them do not join."""

    symbol: str
    from_ms: int
    to_ms: int


class Store(Protocol):
    """The tables that the inserter writes."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All or nothing."""
        ...

    def trial(self) -> AbstractAsyncContextManager[None]:
        """Never committed: only tells, by raising Unusable, whether the values would be taken."""
        ...

    async def load_symbols(self) -> dict[str, SymbolState]:
        """Every symbol that has a watermark."""
        ...

    async def load_open_outages(self) -> list[Outage]:
        """Outages of the 1 s klines that are not over."""
        ...

    async def load_unfollowed(self) -> set[str]:
        """Symbols that are known and no longer followed: nothing of theirs is missing."""
        ...

    async def load_checkpoints(self, topics: Collection[str]) -> dict[TopicPartition, Checkpoint]:
        """Stored checkpoints of the topics; until the end of the transaction nobody else can load or claim."""
        ...

    async def claim_checkpoints(self, claims: Mapping[TopicPartition, Checkpoint]) -> None:
        """Make the missing ones; of those that are there only the epoch changes."""
        ...

    async def advance_checkpoints(self, advances: Sequence[Advance]) -> None:
        """All of them, or Fenced: somebody else has claimed or moved one."""
        ...

    async def ensure_days(self, days: Collection[int]) -> None:
        """Make room for rows of these days (since the epoch, UTC). Outside of transactions; may do nothing."""
        ...

    async def insert_rows(self, rows: Sequence[Row], *, are_new: bool, copy_text: str | None = None) -> int:
        """1 s rows, one a key; where the key is there the newer event wins and the same event changes nothing.

        Returns how many were new or newer. `are_new`: no row lies below its symbol's watermark, so most likely
        none is there. `copy_text`: the same rows made ready for PostgreSQL; others ignore it.
        """
        ...

    async def upsert_minutes(self, minutes: Sequence[Kline]) -> None:
        """The exchange's own closed minutes; the newest event wins."""
        ...

    async def write_outages(self, outages: Sequence[FeedOutage]) -> None:
        """In order: by (symbol, stream, from) the later replaces the earlier and keeps its end unless it has one;
        whatever of the same symbol and stream was still open and began earlier ends where this one begins."""
        ...

    async def write_tickers(self, tickers: Sequence[MiniTicker]) -> None:
        """One a symbol; the newest event wins."""
        ...

    async def write_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """One a (topic, partition, offset); those without offset are always added."""
        ...

    async def lock_ledger(self, symbols: Iterable[str]) -> None:
        """Until the end of the transaction nobody else changes gaps of these symbols (the repair does too)."""
        ...

    async def gaps_touching(self, ranges_ms: Mapping[str, tuple[int, int]]) -> list[Gap]:
        """Gaps, whatever their state, that overlap or adjoin the range (from, to) of their symbol; by symbol and
        time."""
        ...

    async def gaps_of_unknown_cause(self, symbols: Collection[str]) -> list[Gap]:
        """Open gaps of the symbols with cause unknown."""
        ...

    async def outages_of(self, symbols: Collection[str], ending_after_ms: int) -> list[Outage]:
        """Outages of the 1 s klines of the symbols that are not over or ended after the time."""
        ...

    async def write_ledger(self, change: LedgerChange) -> None:
        """Delete, update and insert gaps; a gap that leaves state open is resolved now."""
        ...

    async def add_suspects(self, suspects: Sequence[Suspect]) -> None:
        """Those already known change nothing."""
        ...

    async def mark_dirty(
        self, minutes: Collection[tuple[str, int]] = (), hours: Collection[tuple[str, int]] = ()
    ) -> None:
        """(symbol, open time) pairs: minutes to roll up again, hours whose completeness must be counted again."""
        ...

    async def advance_watermarks(self, watermarks: Mapping[str, int]) -> None:
        """Never backwards."""
        ...
