"""The tables in memory: what is committed, and the one transaction that is open.

One transaction at a time writes (another one that wants to is refused, as by lock_timeout). Writes go straight into
the tables with an undo log, so a roll-back or a crash leaves exactly what was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from inserter.batch import DeadLetter
from inserter.store import Checkpoint
from market.depth import MiniTicker
from market.feed import GapCause
from market.interval import Interval
from market.kline import Candle, Kline, Source
from market.ledger import Gap, LedgerChange
from runtime.clock import Clock
from runtime.database import LockNotAvailable
from runtime.kafka_client import TopicPartition

_NOTHING = object()


class StoredRow(NamedTuple):
    """A row of kline_1s."""

    kline: Kline
    source: Source


class Change(NamedTuple):
    """One key of one table that a transaction changed; None = was or is not there."""

    table: str
    key: Any
    old: Any
    new: Any


@dataclass
class StoredOutage:
    """A row of feed_outage."""

    to_ms: int | None
    cause: GapCause


@dataclass
class Database:
    """What is committed, and the one transaction that is open."""

    clock: Clock
    rows: dict[str, dict[int, StoredRow]] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[TopicPartition, Checkpoint] = field(default_factory=dict)
    gaps: dict[int, Gap] = field(default_factory=dict)
    outages: dict[tuple[str, str, int], StoredOutage] = field(default_factory=dict)
    tickers: dict[str, MiniTicker] = field(default_factory=dict)
    minutes: dict[tuple[str, int], Kline] = field(default_factory=dict)
    suspects: dict[tuple[str, int, int], str] = field(default_factory=dict)
    dirty: dict[tuple[str, int], int] = field(default_factory=dict)
    dirty_hours: dict[tuple[str, int], int] = field(default_factory=dict)
    candles: dict[tuple[str, Interval, int], Candle] = field(default_factory=dict)
    letters: dict[tuple[str, int, int], DeadLetter] = field(default_factory=dict)
    unplaced_letters: int = 0
    #: told of every commit; an exception of it is a violation
    on_commit: Callable[[list[Change]], None] = lambda _: None
    holder: object | None = None
    _undo: list[tuple[MutableMapping[Any, Any], str, Any, Any]] = field(default_factory=list)
    _next_gap_id: int = 1

    def put(self, name: str, table: MutableMapping[Any, Any], key: Any, value: Any) -> None:
        """Set (None: delete) a key within the open transaction. `name` is what Change calls it."""
        self._undo.append((table, name, key, table.get(key, _NOTHING)))
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value

    def begin(self, holder: object) -> None:
        """Raises LockNotAvailable while another transaction is open."""
        if self.holder is not None:
            raise LockNotAvailable("another transaction holds the tables")
        self.holder = holder

    def mark(self) -> int:
        """Where a later `roll_back` may go back to."""
        return len(self._undo)

    def roll_back(self, mark: int = 0) -> None:
        """Undo everything since the mark."""
        while len(self._undo) > mark:
            table, _, key, old = self._undo.pop()
            if old is _NOTHING:
                table.pop(key, None)
            else:
                table[key] = old

    def commit(self) -> None:
        """Make it last, tell `on_commit`."""
        undo, self._undo = self._undo, []
        self.holder = None
        first: dict[tuple[int, Any], tuple[str, Any, Any, Any]] = {}
        for table, name, key, old in undo:
            first.setdefault((id(table), key), (name, table, key, None if old is _NOTHING else old))
        changes = [Change(name, key, old, table.get(key)) for name, table, key, old in first.values()]
        self.on_commit(changes)

    def abandon(self, holder: object) -> None:
        """The connection is gone: its transaction, if it is the open one, is rolled back."""
        if self.holder is holder:
            self.roll_back()
            self.holder = None

    def new_gap_id(self) -> int:
        """Ids are never given twice, not even after a roll-back."""
        self._next_gap_id += 1
        return self._next_gap_id - 1

    def put_row(self, row: StoredRow) -> bool:
        """Insert, or replace where this event is newer. Returns whether the table changed."""
        kline = row.kline
        of_symbol = self.rows.get(kline.symbol)
        if of_symbol is None:
            of_symbol = self.rows[kline.symbol] = {}
        held = of_symbol.get(kline.open_time_ms)
        if held is not None and kline.event_time_ms <= held.kline.event_time_ms:
            return False
        self._undo.append((of_symbol, "row", kline.open_time_ms, _NOTHING if held is None else held))
        of_symbol[kline.open_time_ms] = row
        return True

    def write_ledger(self, change: LedgerChange) -> None:
        """Delete, update and insert gaps."""
        for gap_id in change.deleted_ids:
            self.put("gap", self.gaps, gap_id, None)
        for gap in change.written:
            gap_id = gap.gap_id if gap.gap_id is not None else self.new_gap_id()
            detected_ms = gap.detected_at_ms if gap.detected_at_ms is not None else self.clock.now_ms()
            self.put("gap", self.gaps, gap_id, replace(gap, gap_id=gap_id, detected_at_ms=detected_ms))

    def gaps_touching(self, symbol: str, from_ms: int, to_ms: int) -> list[Gap]:
        """Gaps that overlap or adjoin the range, by time."""
        found = [g for g in self.gaps.values() if g.symbol == symbol and g.from_ms <= to_ms and g.to_ms >= from_ms]
        return sorted(found, key=lambda gap: gap.from_ms)

    def mark_dirty(self, minutes: Iterable[tuple[str, int]]) -> None:
        """These minutes have to be rolled up again."""
        for pair in minutes:
            self.put("dirty", self.dirty, pair, self.dirty.get(pair, 0) + 1)
