"""The broker's figures again and again over connections that stay open: what asks each few seconds must cost little.

Ages are read from the heads of record batches; no record is unpacked. Everything that is asked in a round is bounded
by one deadline; after a failure the next round begins with new connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import LeaderNotAvailableError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from runtime.clock import Clock
from runtime.kafka_client import KafkaConsumer, KafkaError, TopicPartition, new_consumer
from runtime.topic_admin import read_configs
from runtime.topic_logs import BrokerLogs, TopicLog, check_interval_ms
from runtime.topic_progress import Progress
from runtime.topic_sizes import read_sizes
from runtime.topic_state import TopicState, describe

#: Settings of topics and of the broker change by hand alone: they are asked for this seldom.
SETTINGS_EVERY_S: Final = 30.0
CLOSE_DEADLINE_S: Final = 2.0
#: So many rounds in a row may be late before the connections are made anew.
MAX_TIMEOUTS: Final = 3
PEEK_BYTES: Final = 64 * 1024
PEEK_MAX_BYTES: Final = 2 * 1024 * 1024
#: Batches larger than PEEK_BYTES are asked for one by one, in one round at most so many of them.
MAX_SINGLE_PEEKS: Final = 8


@dataclass(frozen=True)
class BrokerFigures:
    """One round. `settings`: every setting of each topic that exists, as the broker has it.

    `end_offsets`: the sum over its partitions, which grows with every record. `progress`: of each partition that was
    asked for and exists.
    """

    logs: BrokerLogs
    end_offsets: Mapping[str, int]
    settings: Mapping[str, Mapping[str, str]]
    progress: Mapping[tuple[str, int], Progress]


@dataclass(frozen=True)
class _Settings:
    at_s: float
    check_interval_ms: int
    topics: Mapping[str, TopicState]
    configs: Mapping[str, Mapping[str, str]]


class BrokerWatch:
    """Asks one broker; for one task at a time."""

    def __init__(self, bootstrap_servers: str, client_id: str, clock: Clock) -> None:
        self._bootstrap_servers, self._client_id, self._clock = bootstrap_servers, client_id, clock
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: KafkaConsumer | None = None
        self._settings: _Settings | None = None
        self._timeouts = 0

    async def read(
        self, names: Iterable[str], next_offsets: Mapping[tuple[str, int], int], deadline_s: float
    ) -> BrokerFigures:
        """Figures of the named topics, and of the readers that read `next_offsets` next.

        Raises KafkaError, OSError or TimeoutError; never takes longer than the deadline and twice
        CLOSE_DEADLINE_S.
        """
        try:
            async with asyncio.timeout(deadline_s):
                figures = await self._read(list(names), next_offsets)
                self._timeouts = 0
                return figures
        except TimeoutError:
            # A broker that is only slow answers over the same connections; new ones would take it longer still.
            self._timeouts += 1
            if self._timeouts >= MAX_TIMEOUTS:
                await self.close()
            raise
        except (KafkaError, OSError):
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections; the next read opens new ones."""
        admin, consumer = self._admin, self._consumer
        self._admin = self._consumer = self._settings = None
        self._timeouts = 0
        if admin is not None:
            await _end(admin.close())
        if consumer is not None:
            await _end(consumer.stop())

    async def _read(self, names: list[str], next_offsets: Mapping[tuple[str, int], int]) -> BrokerFigures:
        admin, consumer = await self._connect(names)
        settings = await self._read_settings(admin, names)
        held = settings.topics
        sizes = await read_sizes(admin, {name: list(state.partitions) for name, state in held.items()})
        partitions = [TopicPartition(name, number) for name, state in held.items() for number in state.partitions]
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        filled = [partition for partition in partitions if starts[partition] < ends[partition]]
        oldest = await _peek(consumer, {partition: starts[partition] for partition in filled})
        newest = await _peek(consumer, {partition: ends[partition] - 1 for partition in filled})
        unread = {
            partition: next_offsets[partition]
            for partition in filled
            if starts[partition] <= next_offsets.get(partition, -1) < ends[partition]
        }
        waiting = await _peek(consumer, unread)
        logs = [
            _topic_log(
                state,
                settings.configs[name],
                records=sum(ends[p] - starts[p] for p in partitions if p.topic == name),
                oldest_ms=min((oldest[p] for p in filled if p.topic == name and p in oldest), default=None),
                newest_ms=max((newest[p] for p in filled if p.topic == name and p in newest), default=None),
                size_bytes=sizes.get(name),
            )
            for name, state in held.items()
        ]
        progress = {
            (partition.topic, partition.partition): Progress(starts[partition], ends[partition], waiting.get(partition))
            for partition in partitions
            if partition in next_offsets
        }
        end_offsets = {name: sum(ends[p] for p in partitions if p.topic == name) for name in held}
        return BrokerFigures(
            BrokerLogs(settings.check_interval_ms, tuple(logs)), end_offsets, settings.configs, progress
        )

    async def _connect(self, names: list[str]) -> tuple[AIOKafkaAdminClient, KafkaConsumer]:
        """Both connections, kept only once they stand."""
        if self._admin is None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap_servers, client_id=self._client_id)
            try:
                await admin.start()
            except BaseException:
                await _end(admin.close())
                raise
            self._admin = admin
        if self._consumer is None:
            consumer = new_consumer(self._bootstrap_servers, self._client_id)
            try:
                await consumer.start()
                # Told of all topics at once; else the driver learns of one more with each of its retries.
                await consumer._client.set_topics(names)
            except BaseException:
                await _end(consumer.stop())
                raise
            self._consumer = consumer
        return self._admin, self._consumer

    async def _read_settings(self, admin: AIOKafkaAdminClient, names: list[str]) -> _Settings:
        now_s = self._clock.monotonic_s()
        known = self._settings
        # Topics that are not there yet are about to be made: a start is not the time to wait.
        if known is None or len(known.topics) < len(names) or now_s - known.at_s >= SETTINGS_EVERY_S:
            topics = await describe(admin, names)
            configs = await read_configs(admin, list(topics)) if topics else {}
            known = self._settings = _Settings(now_s, await check_interval_ms(admin), topics, configs)
        return known


async def _end(closing: Awaitable[None]) -> None:
    """Wait for the end of a connection, not for ever; how it ends is of no use to anybody."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(closing, CLOSE_DEADLINE_S)


def _topic_log(
    state: TopicState,
    config: Mapping[str, str],
    *,
    records: int,
    oldest_ms: int | None,
    newest_ms: int | None,
    size_bytes: int | None,
) -> TopicLog:
    return TopicLog(
        topic=state.name,
        partitions=len(state.partitions),
        retention_ms=int(config["retention.ms"]),
        segment_ms=int(config["segment.ms"]),
        records=records,
        oldest_ms=oldest_ms,
        newest_ms=newest_ms,
        segment_bytes=int(config["segment.bytes"]),
        delete_delay_ms=int(config["file.delete.delay.ms"]),
        retention_bytes=int(config["retention.bytes"]),
        is_log_append_time=config["message.timestamp.type"] == "LogAppendTime",
        bytes=size_bytes,
    )


async def _peek(consumer: KafkaConsumer, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Newest timestamp of the batch that holds each offset; what has vanished meanwhile is left out.

    The broker sends a batch that is larger than asked for only to who asks for one partition alone.
    """
    by_leader: dict[int, dict[TopicPartition, int]] = {}
    for partition, offset in offsets.items():
        leader = consumer._client.cluster.leader_for_partition(partition)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"{partition.topic}/{partition.partition} has no leader")
        by_leader.setdefault(leader, {})[partition] = offset
    found: dict[TopicPartition, int] = {}
    for leader, led in by_leader.items():
        found |= await _fetch_heads(consumer, leader, led)
        larger = [partition for partition in led if partition not in found]
        for partition in larger[:MAX_SINGLE_PEEKS]:
            found |= await _fetch_heads(consumer, leader, {partition: led[partition]})
    return found


async def _fetch_heads(
    consumer: KafkaConsumer, leader: int, offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    by_topic: dict[str, list[tuple[int, int, int]]] = {}
    for partition, offset in offsets.items():
        by_topic.setdefault(partition.topic, []).append((partition.partition, offset, PEEK_BYTES))
    request = FetchRequest(0, 0, PEEK_MAX_BYTES, 0, list(by_topic.items()))
    response = await consumer._client.send(leader, request)
    found: dict[TopicPartition, int] = {}
    for topic, answers in response.topics:
        for number, error_code, *_, data in answers:
            batches = MemoryRecords(data or b"")
            if error_code == 0 and batches.has_next():
                found[TopicPartition(topic, number)] = batches.next_batch().max_timestamp
    return found
