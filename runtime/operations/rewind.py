"""Where the checkpoints of a topic would go for a time: from the broker's own times."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runtime.kafka_client import KafkaConsumer, TopicPartition, new_consumer

DEADLINE_S: Final = 8.0


@dataclass(frozen=True)
class Target:
    """One partition: the stored offset, and the first one that would be read again (never after the stored one)."""

    partition: int
    stored_offset: int
    offset: int

    @property
    def records(self) -> int:
        """Records to read again."""
        return self.stored_offset - self.offset


@dataclass(frozen=True)
class Rewind:
    """All partitions of a topic."""

    targets: tuple[Target, ...]

    @property
    def records(self) -> int:
        """Records to read again."""
        return sum(target.records for target in self.targets)

    def words(self) -> str:
        """For people."""
        places = ", ".join(f"partition {t.partition}: {t.stored_offset} to {t.offset}" for t in self.targets)
        return f"{self.records} records will be read again ({places})."


async def targets_of(
    consumer: KafkaConsumer, topic: str, stored: Mapping[int, int], time_ms: int
) -> tuple[Target, ...]:
    """For each stored partition the first record of that time that the broker still has, or the stored offset."""
    partitions = [TopicPartition(topic, number) for number in sorted(stored)]
    starts = await consumer.beginning_offsets(partitions)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, time_ms))
    targets = []
    for partition in partitions:
        offset, at = stored[partition.partition], found.get(partition)
        first = offset if at is None else max(at.offset, starts[partition])
        targets.append(Target(partition.partition, offset, min(first, offset)))
    return tuple(targets)


async def find_targets(
    bootstrap_servers: str, topic: str, stored: Mapping[int, int], time_ms: int
) -> tuple[Target, ...]:
    """The same with a consumer of its own. Raises KafkaError, OSError or TimeoutError."""
    consumer = new_consumer(bootstrap_servers, "rewind")
    try:
        async with asyncio.timeout(DEADLINE_S):
            await consumer.start()
            return await targets_of(consumer, topic, stored, time_ms)
    finally:
        await consumer.stop()
