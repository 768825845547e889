"""Where to read from: checkpoints in the database against what the log still holds, and whose they are.

Fencing: each start takes a higher epoch for all partitions in one transaction. A writer whose epoch is no longer
the stored one cannot advance a checkpoint and ends with Fenced.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from inserter import meter
from inserter.batch import Batch
from inserter.store import Advance, Checkpoint, Store
from market.feed import GapCause
from runtime.errors import Fenced
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

    No checkpoint: the earliest. Topic made again (its id differs): the earliest of the new one. Log start past
    the checkpoint: the earliest. Log end before the checkpoint (the broker lost its tail): the earliest too,
    since offsets will be given out a second time and reading twice is harmless.
    """
    earliest = on_broker.beginning
    if stored is None:
        return Position(on_broker.topic_id, earliest, earliest), None
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

    async def take(self, store: Store, on_broker: Mapping[TopicPartition, LogRange]) -> None:
        """Claim the checkpoints (first time) or check that they are still ours, and find where to go on.

        Raises Fenced when a newer inserter holds them.
        """
        async with store.transaction():
            stored = await store.load_checkpoints({partition.topic for partition in on_broker})
            highest = max((checkpoint.epoch for checkpoint in stored.values()), default=0)
            if self.epoch == 0:
                self.epoch = highest + 1
            elif highest > self.epoch:
                raise Fenced(f"epoch {highest} holds the checkpoints, ours is {self.epoch}")
            for partition, log_range in on_broker.items():
                self._resolve(partition, stored.get(partition), log_range)
            await store.claim_checkpoints(
                {
                    partition: Checkpoint(position.topic_id, position.stored_offset, self.epoch)
                    for partition, position in self.by_partition.items()
                }
            )

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

    def advances(self, batch: Batch) -> list[Advance]:
        """The compare-and-set of every partition that the batch has records of."""
        found = []
        for partition, progress in batch.progress.items():
            position = self.by_partition[partition]
            found.append(
                Advance(partition, position.topic_id, self.epoch, position.stored_offset, progress.next_offset)
            )
        return found

    def committed(self, batch: Batch) -> None:
        """The batch is in the database: positions and losses move on with it."""
        for partition in batch.jumped:
            meter.OFFSET_JUMPS.inc()
            self._losses.setdefault(partition, Loss(GapCause.OFFSET_JUMP))
        for partition, progress in batch.progress.items():
            position = self.by_partition[partition]
            position.stored_offset = position.read_offset = progress.next_offset
            meter.CHECKPOINT.labels(partition.topic, str(partition.partition)).set(progress.next_offset)
        if self._losses:
            for symbol, rows in batch.rows.items():
                record = next(iter(rows.values())).record
                loss = self._losses.get(TopicPartition(record.topic, record.partition))
                if loss is not None:
                    loss.seen_symbols.add(symbol)
