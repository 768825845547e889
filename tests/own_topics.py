"""Topics of one test's own on the shared broker: the declared ones under other names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from market.record_codec import Record, encode_record
from market.topics import Topic, Topics
from runtime.kafka_client import TopicPartition, load_topics, new_consumer, new_producer
from runtime.topic_admin import TopicSettings, apply


def renamed(prefix: str) -> Topics:
    """The declared topics, their names led by `prefix`."""
    topics = load_topics()
    return Topics(
        **{
            field: msgspec.structs.replace(getattr(topics, field), name=f"{prefix}_{getattr(topics, field).name}")
            for field in topics.__struct_fields__
        }
    )


def write_file(topics: Topics, path: Path) -> Path:
    """The topics as a file like kafka/topics.toml, for a process."""
    tables = {field: msgspec.to_builtins(getattr(topics, field)) for field in topics.__struct_fields__}
    path.write_bytes(msgspec.toml.encode(tables))
    return path


async def create(bootstrap_servers: str, topics: Topics) -> None:
    """Make them at the broker; those that exist stay."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await apply(admin, topics, TopicSettings())
    finally:
        await admin.close()


async def delete(bootstrap_servers: str, topic: Topic) -> None:
    """Delete one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic.name])
    finally:
        await admin.close()


async def expire(bootstrap_servers: str, topic: Topic, before: dict[int, int]) -> None:
    """Move the log start, as retention does: `before` is the first offset that stays, by partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(topic.name, partition): RecordsToDelete(before_offset=offset)
                for partition, offset in before.items()
            }
        )
    finally:
        await admin.close()


async def ends(bootstrap_servers: str, topic: Topic) -> dict[int, int]:
    """The next offset of each partition."""
    consumer = new_consumer(bootstrap_servers, "test")
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(topic.name, number) for number in range(topic.partitions)])
    finally:
        await consumer.stop()
    return {partition.partition: offset for partition, offset in found.items()}


async def send(
    bootstrap_servers: str, topic: Topic, records: Sequence[Record | bytes], *, key: bytes | None = None
) -> None:
    """Records (or raw values) in order; the key is the record's symbol unless given. All acknowledged on return."""
    producer = new_producer(bootstrap_servers, "test", linger_ms=0)
    await producer.start()
    try:
        for record in records:
            value = record if isinstance(record, bytes) else encode_record(record)
            symbol = None if isinstance(record, bytes) else getattr(record, "symbol", None)
            await producer.send(topic.name, value, key=key or (symbol.encode() if symbol else b"raw"))
        await producer.flush()
    finally:
        await producer.stop()
