"""Where to read from: checkpoints in the database against what the log still holds, and whose they are.

Fencing: each start takes a higher epoch for all partitions in one transaction. A writer whose epoch is no longer
the stored one cannot advance a checkpoint and ends with Fenced.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from inserter import meter
from inserter.batch import Batch
from inserter.store import Advance, Checkpoint, Store
from market.feed import GapCause
from runtime.errors import Fenced
from runtime.kafka_batches import partition_of
from runtime.kafka_client import TopicPartition
from runtime.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class LogRange:
    """What the broker holds of a partition: first offset and end (exclusive), and the topic's id."""

    topic_id: uuid.UUID
    beginning: int
    end: int


@dataclass
class Position:
    """Where reading goes on. `stored_offset` is what the database has: the compare of compare-and-set. The two
    differ from finding a hole in the log to the first commit after it, so that a crash in between finds it again."""

    topic_id: uuid.UUID
    stored_offset: int
    read_offset: int


@dataclass
class Loss:
    """Records of a partition were lost; each symbol's next row tells which of its seconds."""

    cause: GapCause
    seen_symbols: set[str] = field(default_factory=set)


def resolve(stored: Checkpoint | None, on_broker: LogRange) -> tuple[Position, GapCause | None]:
    """Where to go on, and why records in between are lost if they are.

    No checkpoint (the first start, or its row was lost): the earliest; whether what had expired before was read, the
    watermarks tell. Topic made again (its id differs): the earliest of the new one. Log start past the checkpoint:
    the earliest. Log end before the checkpoint (the broker lost its tail): the earliest too, since offsets will be
    given out a second time and reading twice is harmless.
    """
    earliest = on_broker.beginning
    if stored is None:
        return Position(on_broker.topic_id, earliest, earliest), GapCause.LOG_EXPIRED if earliest else None
    if stored.topic_id != on_broker.topic_id or stored.next_offset < on_broker.beginning:
        return Position(on_broker.topic_id, stored.next_offset, earliest), GapCause.LOG_EXPIRED
    if stored.next_offset > on_broker.end:
        return Position(on_broker.topic_id, stored.next_offset, earliest), GapCause.OFFSET_JUMP
    return Position(on_broker.topic_id, stored.next_offset, stored.next_offset), None


class Positions:
    """The read positions of one inserter and its epoch."""

    def __init__(self) -> None:
        self.epoch = 0
        self.by_partition: dict[TopicPartition, Position] = {}
        self._losses: dict[TopicPartition, Loss] = {}

    async def claim(self, store: Store, topics: Collection[str]) -> None:
        """Take the stored checkpoints of the topics: from now on no inserter that began earlier can move them.

        The broker must be asked for the ends of its logs after this: an end asked before may lie below a checkpoint
        that another inserter has set since, and would look as if the broker had lost records.
        Raises Fenced when a newer inserter holds them.
        """
        async with store.transaction():
            stored = await store.load_checkpoints(topics)
            epoch = self._epoch_among(stored.values())
            await store.claim_checkpoints({p: replace(checkpoint, epoch=epoch) for p, checkpoint in stored.items()})
        # Not before the commit: a number whose claim was rolled back may be given to another.
        self.epoch = epoch

    async def take(self, store: Store, on_broker: Mapping[TopicPartition, LogRange]) -> None:
        """After `claim`: find where to go on, and make the checkpoints that are missing.

        Raises Fenced when a newer inserter holds them.
        """
        async with store.transaction():
            stored = await store.load_checkpoints({partition.topic for partition in on_broker})
            epoch = self._epoch_among(stored.values())
            for partition, log_range in on_broker.items():
                self._resolve(partition, stored.get(partition), log_range)
            await store.claim_checkpoints(
                {
                    partition: Checkpoint(position.topic_id, position.stored_offset, epoch)
                    for partition, position in self.by_partition.items()
                }
            )

    async def rewind(self, store: Store, offsets: Mapping[TopicPartition, int]) -> int:
        """Set checkpoints back within the caller's transaction, under a new epoch: whatever was read before this can
        no longer be committed. The epoch, for `rewound` after the commit. Raises Fenced."""
        stored = await store.load_checkpoints({partition.topic for partition in self.by_partition})
        epoch = self._epoch_among(stored.values()) + 1
        await store.claim_checkpoints({p: replace(checkpoint, epoch=epoch) for p, checkpoint in stored.items()})
        await store.advance_checkpoints(
            [Advance(p, stored[p].topic_id, epoch, stored[p].next_offset, offset) for p, offset in offsets.items()]
        )
        return epoch

    def rewound(self, epoch: int) -> None:
        """The checkpoints are set back; reading must begin anew."""
        self.epoch = epoch

    def _epoch_among(self, stored: Collection[Checkpoint]) -> int:
        """Ours, or the next one when we have none yet. Raises Fenced."""
        highest = max((checkpoint.epoch for checkpoint in stored), default=0)
        if 0 < self.epoch < highest:
            raise Fenced(f"epoch {highest} holds the checkpoints, ours is {self.epoch}")
        return self.epoch or highest + 1

    def _resolve(self, partition: TopicPartition, stored: Checkpoint | None, log_range: LogRange) -> None:
        position, cause = resolve(stored, log_range)
        self.by_partition[partition] = position
        if cause is None:
            return
        self._losses[partition] = Loss(cause)
        meter.OUT_OF_RANGE.inc()
        log.warning(
            "log_start_past_checkpoint",
            topic=partition.topic,
            partition=partition.partition,
            checkpoint=position.stored_offset,
            going_on_at=position.read_offset,
            cause=cause.value,
        )

    def loss_seen_by(
        self, partition: TopicPartition, symbol: str, newly: Collection[TopicPartition] = ()
    ) -> GapCause | None:
        """Why a hole before this symbol's row can come from the log itself; None when nothing was lost there."""
        loss = self._losses.get(partition)
        if loss is not None and symbol not in loss.seen_symbols:
            return loss.cause
        return GapCause.OFFSET_JUMP if partition in newly else None

    def unseen(self, topic: str, symbols: Collection[str]) -> set[str]:
        """Those of the symbols whose partition of the topic lost records and that have not come since."""
        lost = {p.partition: loss for p, loss in self._losses.items() if p.topic == topic}
        if not lost:
            return set()
        count = sum(partition.topic == topic for partition in self.by_partition)
        seen: set[str] = set().union(*(loss.seen_symbols for loss in lost.values()))
        return {symbol for symbol in symbols if symbol not in seen and partition_of(symbol.encode(), count) in lost}

    def loss_of(self, topic: str, symbol: str) -> GapCause | None:
        """The cause of the loss for which `symbol` is unseen; None when it is not."""
        if not self.unseen(topic, (symbol,)):
            return None
        count = sum(partition.topic == topic for partition in self.by_partition)
        return self._losses[TopicPartition(topic, partition_of(symbol.encode(), count))].cause

    def advances(self, batch: Batch) -> list[Advance]:
        """The compare-and-set of every partition that the batch has records of.

        A batch that lists unheard seconds says all that is known of lost records, so every position is stored; and
        it is fenced though it may have no record.
        """
        targets = {partition: progress.next_offset for partition, progress in batch.progress.items()}
        if batch.unheard_until_ms:
            targets = {p: position.read_offset for p, position in self.by_partition.items()} | targets
        positions = self.by_partition
        return [
            Advance(p, positions[p].topic_id, self.epoch, positions[p].stored_offset, next_offset)
            for p, next_offset in targets.items()
        ]

    def committed(self, batch: Batch) -> None:
        """The batch is in the database: positions and losses move on with it."""
        for partition in batch.jumped:
            meter.OFFSET_JUMPS.inc()
            self._losses.setdefault(partition, Loss(GapCause.OFFSET_JUMP))
        for advance in self.advances(batch):
            position, partition = self.by_partition[advance.partition], advance.partition
            position.stored_offset = position.read_offset = advance.next_offset
            meter.CHECKPOINT.labels(partition.topic, str(partition.partition)).set(advance.next_offset)
        if self._losses:
            for symbol, rows in batch.rows.items():
                record = next(iter(rows.values())).record
                loss = self._losses.get(TopicPartition(record.topic, record.partition))
                if loss is not None:
                    loss.seen_symbols.add(symbol)
