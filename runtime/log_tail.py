"""What is appended to a topic, as soon as it is: one fetch at a time on the driver's own connections.

For readers that need every record at once and keep no offsets. The driver's consumer spends 0.8 ms of Python on each
fetch however small it is (a task for each fetch, a wait on all futures, another wake-up for who reads); this 0.45 ms
(bench/relay.py). Requests, responses, records, metadata and connections are the driver's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka.errors import (
    CorruptRecordException,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecord
from aiokafka.record.memory_records import MemoryRecords

from runtime.kafka_client import KafkaConsumer, TopicPartition

#: An idle topic answers so late. Below the driver's request timeout.
MAX_WAIT_MS: Final = 4_000
MAX_BYTES: Final = 4 * 1024 * 1024
#: At most so much of one partition at once: the fan-out serves nobody while it works on a batch.
PARTITION_BYTES: Final = 256 * 1024
_READ_UNCOMMITTED: Final = 0


def by_leader(consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[int, list[TopicPartition]]:
    """The partitions of one topic by the broker that leads them: each broker is asked for its own.

    Raises LeaderNotAvailableError. The consumer must have asked for offsets of these partitions before.
    """
    found: dict[int, list[TopicPartition]] = {}
    for partition in partitions:
        leader = consumer._client.cluster.leader_for_partition(partition)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"{partition.topic}/{partition.partition} has no leader")
        found.setdefault(leader, []).append(partition)
    return found


async def fetch(
    consumer: KafkaConsumer, leader: int, positions: Mapping[TopicPartition, int]
) -> dict[TopicPartition, list[DefaultRecord]]:
    """What follows the positions, of those partitions that have something; waits for it at most MAX_WAIT_MS.

    The partitions are of one topic and led by `leader`; nobody writes transactions to it (a control batch at the end
    would be fetched for ever). Raises OffsetOutOfRangeError for a position outside the log, any other KafkaError (the
    leader has moved, the topic is gone, no answer) for a reader to begin again.
    """
    topic = next(iter(positions)).topic
    wanted = [(partition.partition, offset, PARTITION_BYTES) for partition, offset in positions.items()]
    request = FetchRequest(MAX_WAIT_MS, 1, MAX_BYTES, _READ_UNCOMMITTED, [(topic, wanted)])
    response = await consumer._client.send(leader, request)
    found: dict[TopicPartition, list[DefaultRecord]] = {}
    for _, answers in response.topics:
        for number, error_code, *_, batches in answers:
            partition = TopicPartition(topic, number)
            if error_code == OffsetOutOfRangeError.errno:
                raise OffsetOutOfRangeError({partition: positions[partition]})
            if error_code:
                raise for_code(error_code)(f"{topic}/{number}")
            records = _records(MemoryRecords(batches), positions[partition], partition)
            if records:
                found[partition] = records
    return found


def _records(batches: MemoryRecords, from_offset: int, partition: TopicPartition) -> list[DefaultRecord]:
    """A batch comes whole, even where a position lies in its middle; control batches carry no data."""
    records: list[DefaultRecord] = []
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"{partition.topic}/{partition.partition}: a batch with a wrong checksum")
        if not batch.is_control_batch:
            records += [record for record in batch if record.offset >= from_offset]
    return records
