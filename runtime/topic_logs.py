"""What the broker holds of each topic now: its settings there, and how old its oldest and newest records are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import OffsetOutOfRangeError

from market.topics import SEGMENT_BYTES
from runtime.kafka_client import KafkaConsumer, TopicPartition, new_consumer
from runtime.topic_admin import read_configs
from runtime.topic_sizes import read_sizes
from runtime.topic_state import describe

READ_DEADLINE_S = 8.0
POLL_MS = 500
CHECK_INTERVAL = "log.retention.check.interval.ms"


@dataclass(frozen=True)
class TopicLog:
    """One topic on the broker. Times are the broker's, ms since the epoch; None when it holds no record.

    `bytes`: the size of its log files, all partitions; None where the broker does not say.
    """

    topic: str
    partitions: int
    retention_ms: int
    segment_ms: int
    records: int
    oldest_ms: int | None
    newest_ms: int | None
    segment_bytes: int = SEGMENT_BYTES
    delete_delay_ms: int = 60_000
    retention_bytes: int = -1
    is_log_append_time: bool = True
    bytes: int | None = None


@dataclass(frozen=True)
class BrokerLogs:
    """Every asked topic that exists, and how often the broker looks for old segments."""

    check_interval_ms: int
    topics: tuple[TopicLog, ...]


async def read_logs(bootstrap_servers: str, names: Iterable[str]) -> BrokerLogs:
    """Ask the broker. Raises KafkaError when it cannot be reached."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="topic_logs")
    try:
        await admin.start()
        standing = await describe(admin, list(names))
        configs = await read_configs(admin, list(standing)) if standing else {}
        interval_ms = await check_interval_ms(admin)
        sizes = await read_sizes(admin, {name: list(state.partitions) for name, state in standing.items()})
    finally:
        await admin.close()
    partitions = [TopicPartition(name, number) for name, state in standing.items() for number in state.partitions]
    ends = await _ends(bootstrap_servers, partitions)
    topics = []
    for name, state in standing.items():
        found = [ends[partition] for partition in partitions if partition.topic == name]
        oldest = [end.oldest_ms for end in found if end.oldest_ms is not None]
        newest = [end.newest_ms for end in found if end.newest_ms is not None]
        config = configs[name]
        topics.append(
            TopicLog(
                topic=name,
                partitions=len(state.partitions),
                retention_ms=int(config["retention.ms"]),
                segment_ms=int(config["segment.ms"]),
                records=sum(end.records for end in found),
                oldest_ms=min(oldest, default=None),
                newest_ms=max(newest, default=None),
                segment_bytes=int(config["segment.bytes"]),
                delete_delay_ms=int(config["file.delete.delay.ms"]),
                retention_bytes=int(config["retention.bytes"]),
                is_log_append_time=config["message.timestamp.type"] == "LogAppendTime",
                bytes=sizes.get(name),
            )
        )
    return BrokerLogs(interval_ms, tuple(topics))


async def check_interval_ms(admin: AIOKafkaAdminClient) -> int:
    """How often the broker looks for old segments. Raises KafkaError."""
    brokers = (await admin.describe_cluster())["brokers"]
    resource = ConfigResource(ConfigResourceType.BROKER, str(brokers[0]["node_id"]))
    (response,) = await admin.describe_configs([resource])
    entries = response.to_object()["resources"][0]["config_entries"]
    return next(int(entry["config_value"]) for entry in entries if entry["config_names"] == CHECK_INTERVAL)


@dataclass(frozen=True)
class _Ends:
    records: int
    oldest_ms: int | None = None
    newest_ms: int | None = None


async def _ends(bootstrap_servers: str, partitions: list[TopicPartition]) -> dict[TopicPartition, _Ends]:
    consumer = new_consumer(bootstrap_servers, "topic_logs")
    try:
        await consumer.start()
        first = await consumer.beginning_offsets(partitions)
        after_last = await consumer.end_offsets(partitions)
        filled = [partition for partition in partitions if first[partition] < after_last[partition]]
        oldest = await _timestamps(consumer, {partition: first[partition] for partition in filled})
        newest = await _timestamps(consumer, {partition: after_last[partition] - 1 for partition in filled})
    finally:
        await consumer.stop()
    return {
        partition: _Ends(after_last[partition] - first[partition], oldest.get(partition), newest.get(partition))
        for partition in partitions
    }


async def _timestamps(consumer: KafkaConsumer, offsets: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Timestamp of the record at (or next after) each offset; those that vanish meanwhile are left out."""
    found: dict[TopicPartition, int] = {}
    consumer.assign(list(offsets))
    for partition, offset in offsets.items():
        consumer.seek(partition, offset)
    deadline_s = asyncio.get_running_loop().time() + READ_DEADLINE_S
    while len(found) < len(offsets) and asyncio.get_running_loop().time() < deadline_s:
        missing = [partition for partition in offsets if partition not in found]
        try:
            batch = await consumer.getmany(*missing, timeout_ms=POLL_MS, max_records=1)
        except OffsetOutOfRangeError as error:
            vanished = error.args[0]
            return found | await _timestamps(consumer, {p: offsets[p] for p in missing if p not in vanished})
        for partition, records in batch.items():
            found[partition] = records[0].timestamp
    return found
