"""What a topic holds, told while the broker deletes from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import cast

from aiokafka.errors import OffsetOutOfRangeError

from runtime.kafka_client import KafkaConsumer, TopicPartition
from runtime.topic_logs import _timestamps


@dataclass
class Record:
    timestamp: int


@dataclass
class DeletingConsumer:
    """Its partition 0 has lost the record asked for since its offsets were asked."""

    positions: dict[TopicPartition, int] = field(default_factory=dict)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.positions = {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def getmany(self, *partitions: TopicPartition, **_: int) -> dict[TopicPartition, list[Record]]:
        for partition in partitions:
            if partition.partition == 0:
                raise OffsetOutOfRangeError({partition: self.positions[partition]})
        return {partition: [Record(1_000 + self.positions[partition])] for partition in partitions}


def test_a_record_deleted_meanwhile_is_left_out_and_the_others_are_told() -> None:
    wanted = {TopicPartition("short", number): 7 for number in range(3)}
    found = asyncio.run(_timestamps(cast(KafkaConsumer, DeletingConsumer()), wanted))
    assert found == {TopicPartition("short", 1): 1_007, TopicPartition("short", 2): 1_007}
