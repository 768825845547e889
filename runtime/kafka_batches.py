"""Records to Kafka in batches that the caller builds: one future a batch, not one a record.

The driver's own send() keeps a future for each record and blocks when its accumulator is full. Here the caller
keeps its records until the batch is acknowledged, so nothing is lost with the driver and nothing blocks.
An idempotent batch never expires inside the driver: it is sent again, in order, until the broker takes it.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from typing import Protocol

from aiokafka import AIOKafkaProducer as KafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata

from runtime.health import Health
from runtime.kafka_client import REQUEST_TIMEOUT_MS, start_when_ready
from runtime.lifecycle import Stop
from runtime.retry import Backoff

MAX_BATCH_BYTES = 512 * 1024
ABANDON_TIMEOUT_S = 1.0


class BatchRecord(Protocol):
    """What a record needs to be sent: key, value, and the time it was received (ms)."""

    @property
    def key(self) -> bytes:
        """Key; decides the partition."""
        ...

    @property
    def value(self) -> bytes:
        """The encoded record."""
        ...

    @property
    def received_at_ms(self) -> int:
        """Becomes the record's timestamp where the topic keeps the writer's."""
        ...


def partition_of(key: bytes, partition_count: int) -> int:
    """The partition that Kafka's own clients choose for this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partition_count


class BatchProducer:
    """A started idempotent producer, acks=all, no linger: the caller decides when a batch is due."""

    def __init__(self, client: KafkaProducer) -> None:
        self._client = client

    async def partition_count(self, topic: str) -> int:
        """Partitions of the topic. Raises KafkaError when it does not exist."""
        return len(await self._client.partitions_for(topic))

    async def submit(
        self, topic: str, partition: int, records: Sequence[BatchRecord]
    ) -> tuple[int, Future[RecordMetadata]]:
        """Hand over the first records, as many as one batch holds (at least one).

        Returns how many, and the future that the broker's acknowledgement resolves or a final error fails.
        Waits while an earlier batch of this partition has not left yet.
        """
        batch = self._client.create_batch()
        count = 0
        for record in records:
            if batch.append(timestamp=record.received_at_ms, key=record.key, value=record.value) is None:
                break
            count += 1
        batch.close()
        return count, await self._client.send_batch(batch, topic, partition=partition)

    async def close(self, timeout_s: float) -> None:
        """Send what was handed over, at most `timeout_s`; then let go of it and close all connections."""
        await close_producer(self._client, timeout_s)


async def close_producer(client: KafkaProducer, timeout_s: float) -> None:
    """Send what it holds, at most `timeout_s`; then end its sending task too: left alone that would send, later, what
    the caller sends again."""
    try:
        await asyncio.wait_for(client.stop(), timeout_s)
    except (TimeoutError, KafkaError, OSError):
        for closing in (client._sender.close(), client.client.close()):
            try:
                await asyncio.wait_for(closing, ABANDON_TIMEOUT_S)
            except (TimeoutError, KafkaError, OSError):
                continue


async def open_batches(
    bootstrap_servers: str, client_id: str, health: Health, backoff: Backoff, stop: Stop
) -> BatchProducer | None:
    """A started BatchProducer, waiting for the broker as long as it takes; None when asked to stop meanwhile."""
    client = KafkaProducer(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=8 * MAX_BATCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    if await start_when_ready(client, health, backoff, stop):
        return BatchProducer(client)
    await client.stop()
    return None
