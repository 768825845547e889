"""How far a reader is behind on a partition: offsets of the broker and the age of the record it has to read next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

PEEK_MAX_BYTES = 4_096
PEEK_WAIT_MS = 300


@dataclass(frozen=True)
class Progress:
    """State of one partition beside the reader's `next_offset`.

    `next_timestamp_ms`: the broker's time of the record at `next_offset`, None when there is none.
    """

    log_start_offset: int
    log_end_offset: int
    next_timestamp_ms: int | None


async def read_progress(
    bootstrap_servers: str, next_offsets: Mapping[tuple[str, int], int], deadline_s: float
) -> dict[tuple[str, int], Progress]:
    """Progress of each (topic, partition) whose topic exists. Raises KafkaError, OSError or TimeoutError; never takes
    longer than the deadline, plus what it takes to close the connection."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        client_id="topic_progress",
        enable_auto_commit=False,
        auto_offset_reset="none",
        request_timeout_ms=int(deadline_s * 1000),
        max_partition_fetch_bytes=PEEK_MAX_BYTES,
        fetch_max_wait_ms=PEEK_WAIT_MS,
    )
    try:
        async with asyncio.timeout(deadline_s):
            await consumer.start()
            # Asked for a topic that is not there, the broker's driver would wait for it to appear.
            existing = await consumer.topics()
            partitions = [TopicPartition(*key) for key in next_offsets if key[0] in existing]
            starts = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            unread = {}
            for partition in partitions:
                offset = next_offsets[partition.topic, partition.partition]
                if starts[partition] <= offset < ends[partition]:
                    unread[partition] = offset
            timestamps = await _peek(consumer, unread)
            return {
                (partition.topic, partition.partition): Progress(
                    starts[partition], ends[partition], timestamps.get(partition)
                )
                for partition in partitions
            }
    finally:
        await consumer.stop()


async def _peek(consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Timestamps of the records at these offsets; of those that answer at once."""
    if not offsets:
        return {}
    consumer.assign(list(offsets))
    for partition, offset in offsets.items():
        consumer.seek(partition, offset)
    found: dict[TopicPartition, int] = {}
    for _ in offsets:
        for partition, records in (await consumer.getmany(timeout_ms=PEEK_WAIT_MS)).items():
            if records:
                found.setdefault(partition, records[0].timestamp)
        if len(found) == len(offsets):
            break
    return found
