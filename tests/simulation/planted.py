"""Bugs that are put into the product on purpose, one class each: what cannot find them proves nothing."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from inserter.account import Found
from inserter.batch import Batch, BatchBuilder
from inserter.store import Advance, Checkpoint
from inserter.write import Writer
from market.depth import DepthUpdate, PartialDepth
from market.depth_sync import DepthSync
from market.interval import Interval
from market.kline import Candle, Kline
from market.rollup import roll_up
from producer.dedup import Dedup
from runtime.kafka_client import ConsumerRecord, TopicPartition
from tests.simulation.depth import SimDepth
from tests.simulation.feeding import SimProducer
from tests.simulation.inserting import SimInserter
from tests.simulation.store import MemoryStore
from tests.simulation.upkeep import Upkeep
from tests.simulation.violations import Anomaly
from tests.simulation.world import Classes

ONE_IN = 10_000


class _EarlyCheckpointWriter(Writer):
    """Offset committed before the rows, in a transaction of its own."""

    async def _write_once(self, batch: Batch) -> None:
        async with self._store.transaction():
            await self._store.advance_checkpoints(self._positions.advances(batch))
        await super()._write_once(batch)


class _OnceStore(MemoryStore):
    """Takes each advance once only."""

    _done: frozenset[Advance] = frozenset()

    async def advance_checkpoints(self, advances: Sequence[Advance]) -> None:
        if self._done != frozenset(advances):
            await super().advance_checkpoints(advances)
            self._done = frozenset(advances)


class _EarlyCheckpoint(SimInserter):
    writer_class = _EarlyCheckpointWriter
    store_class = _OnceStore


class OffsetBeforeRows(Classes):
    """Offset committed before rows."""

    inserter = _EarlyCheckpoint


class _LeakyBuilder(BatchBuilder):
    def add(self, partition: TopicPartition, records: Sequence[ConsumerRecord], expected_offset: int) -> None:
        super().add(partition, records, expected_offset)
        for symbol, rows in list(self.batch.rows.items()):
            for open_ms, row in list(rows.items()):
                if zlib.crc32(row.record.value or b"") % ONE_IN == 0:
                    del rows[open_ms]
            if not rows:
                del self.batch.rows[symbol]


class _Leaky(SimInserter):
    builder_class = _LeakyBuilder


class RowDropped(Classes):
    """One row in 10,000 dropped."""

    inserter = _Leaky


class _BlindStore(MemoryStore):
    async def advance_checkpoints(self, advances: Sequence[Advance]) -> None:
        for advance in advances:
            held = self._db.checkpoints[advance.partition]
            point = Checkpoint(advance.topic_id, advance.next_offset, held.epoch)
            self._db.put("checkpoint", self._db.checkpoints, advance.partition, point)


class _Blind(SimInserter):
    store_class = _BlindStore


class CheckpointRegress(Classes):
    """The checkpoint is set without being compared."""

    inserter = _Blind


class _AllNew(Dedup):
    def is_new(self, event: object) -> bool:
        return True


class _Repeating(SimProducer):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for channel in self.feed._channels.values():
            channel.dedup = _AllNew()


class NoDedup(Classes):
    """No de-duplication."""

    producer = _Repeating


class _ImpatientWriter(Writer):
    async def _write_once(self, batch: Batch) -> None:
        for symbol, rows in list(batch.rows.items()):
            for open_ms in [time_ms for time_ms in rows if time_ms < self._watermarks.get(symbol, 0)]:
                del rows[open_ms]
            if not rows:
                del batch.rows[symbol]
        await super()._write_once(batch)


class _Impatient(SimInserter):
    writer_class = _ImpatientWriter


class LateRowIgnored(Classes):
    """Late row ignored."""

    inserter = _Impatient


class _Hasty(SimProducer):
    def on_frame(self, connection: str, frame: bytes) -> None:
        super().on_frame(connection, frame.replace(b'"x":false', b'"x":true'))


class FormingStored(Classes):
    """Forming candle stored as closed."""

    producer = _Hasty


class _SilentWriter(Writer):
    def _account(self, batch: Batch) -> Found:
        found = super()._account(batch)
        found.missing.clear()
        return found


class _Silent(SimInserter):
    writer_class = _SilentWriter


class GapNotWritten(Classes):
    """Gap not written."""

    inserter = _Silent


def _naive_roll_up(parts: Sequence[Kline | Candle], interval: Interval) -> Candle:
    """As many do it: first, highest, lowest of all seconds, quiet ones too."""
    candle = roll_up(parts, interval)
    ordered = sorted(parts, key=lambda part: part.open_time_ms)
    return msgspec.structs.replace(
        candle,
        open=ordered[0].open,
        high=max(part.high for part in ordered),
        low=min(part.low for part in ordered),
    )


class _NaiveUpkeep(Upkeep):
    roll_up = staticmethod(_naive_roll_up)


class QuietSecondsCounted(Classes):
    """Roll-up counts n=0 seconds in open, high and low."""

    upkeep = _NaiveUpkeep


class _GullibleSync(DepthSync):
    def on_update(self, update: DepthUpdate, now_ms: int) -> None:
        last_id = self._book.last_update_id if self._book is not None else update.first_update_id - 1
        if update.first_update_id > last_id + 1:
            update = msgspec.structs.replace(update, first_update_id=last_id + 1)
        super().on_update(update, now_ms)


class _Gullible(SimDepth):
    sync_class = _GullibleSync


class HoleInTheBook(Classes):
    """A missing depth update is not noticed."""

    depth = _Gullible


class _HurriedSync(DepthSync):
    def on_snapshot(self, snapshot: PartialDepth, now_ms: int) -> None:
        self._buffer.clear()
        self._buffer.append(
            DepthUpdate(
                symbol=self.symbol,
                first_update_id=0,
                last_update_id=0,
                bids=[],
                asks=[],
                event_time_ms=0,
            )
        )
        super().on_snapshot(snapshot, now_ms)


class _Hurried(SimDepth):
    sync_class = _HurriedSync


class UpdatesForgotten(Classes):
    """The updates that came before the snapshot are not applied to it."""

    depth = _Hurried


#: Each bug, what it may show up as, and within how many seeds it must be caught.
PLANTED: tuple[tuple[type[Classes], frozenset[Anomaly], int], ...] = (
    (OffsetBeforeRows, frozenset({Anomaly.LOST}), 5),
    (RowDropped, frozenset({Anomaly.LOST}), 600),
    (CheckpointRegress, frozenset({Anomaly.REGRESSED}), 200),
    (NoDedup, frozenset({Anomaly.DUPLICATE}), 20),
    (LateRowIgnored, frozenset({Anomaly.LOST}), 20),
    (FormingStored, frozenset({Anomaly.PHANTOM}), 5),
    (GapNotWritten, frozenset({Anomaly.UNFLAGGED}), 20),
    (QuietSecondsCounted, frozenset({Anomaly.SKEWED}), 20),
    (HoleInTheBook, frozenset({Anomaly.BOOK}), 20),
    (UpdatesForgotten, frozenset({Anomaly.BOOK, Anomaly.STUCK}), 40),
)
