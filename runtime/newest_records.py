"""The newest records of topics, by key, read when somebody asks: no checkpoint, no cost while nobody does.

The first question reads the last records of the topic, each later one what has come since. So a question is as good as
what the broker has at that moment, and a key is known as long as its newest record is among those that were read.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecord

from runtime.clock import Clock
from runtime.errors import Retryable
from runtime.kafka_client import (
    KafkaConsumer,
    KafkaError,
    TopicPartition,
    new_consumer,
    partitions_of,
    topic_states_now,
)
from runtime.log_tail import by_leader, fetch
from runtime.logs import get_logger

#: Records of one partition that a question reads at the most.
MAX_RECORDS: Final = 5_000
#: A question gets what was read so short a while ago, without asking the broker.
KEEP_MS: Final = 250
#: After a failure the broker is left alone for so long; questions fail at once meanwhile.
RETRY_MS: Final = 2_000
DEADLINE_S: Final = 2.0
#: For what is done after the deadline: closing the connection.
CLOSE_S: Final = 1.0

log = get_logger(__name__)


class BrokerAway(Retryable):
    """The broker does not answer, or lacks the topic."""


@dataclass(frozen=True, slots=True)
class Held:
    """A record's value, and the broker's time of it."""

    timestamp_ms: int
    value: bytes


class NewestRecords:
    """The newest `per_key` records of every key of one topic. Thread-safe."""

    def __init__(self, bootstrap_servers: str, topic: str, per_key: int, clock: Clock) -> None:
        self._servers, self._topic, self._per_key, self._clock = bootstrap_servers, topic, per_key, clock
        self._lock = threading.Lock()
        self._held: dict[TopicPartition, dict[str, deque[Held]]] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._partitions: list[TopicPartition] = []
        self._consumer: KafkaConsumer | None = None
        self._read_at_ms = self._failed_at_ms = -(10**9)
        self._failure = ""

    def by_key(self) -> dict[str, list[Held]]:
        """What is held of each key, oldest first. Raises BrokerAway, after DEADLINE_S + CLOSE_S at the latest."""
        with self._lock:
            self._refresh()
            return {key: list(held) for part in self._held.values() for key, held in part.items()}

    def of(self, key: str) -> list[Held]:
        """What is held of one key, oldest first. Raises BrokerAway."""
        with self._lock:
            self._refresh()
            return [record for part in self._held.values() for record in part.get(key, ())]

    def close(self) -> None:
        """Give the connection back; a later question opens it again."""
        with self._lock:
            _LOOP.run(self._close())

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            async with asyncio.timeout(CLOSE_S):
                await consumer.stop()

    def _refresh(self) -> None:
        now_ms = int(self._clock.monotonic_s() * 1000)
        if now_ms - self._read_at_ms < KEEP_MS:
            return
        if now_ms - self._failed_at_ms < RETRY_MS:
            raise BrokerAway(self._failure)
        try:
            _LOOP.run(self._read())
        except (KafkaError, OSError, TimeoutError) as error:
            self._failure = str(error) or type(error).__name__
            self._failed_at_ms = int(self._clock.monotonic_s() * 1000)
            log.warning("newest_records_failed", topic=self._topic, error=self._failure)
            raise BrokerAway(self._failure) from error
        self._read_at_ms = int(self._clock.monotonic_s() * 1000)

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._read_to_end()
        except BaseException:
            await self._close()
            raise

    async def _read_to_end(self) -> None:
        consumer = await self._connected()
        partitions = list(self._partitions)
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for partition in partitions:
            oldest = max(starts[partition], ends[partition] - MAX_RECORDS)
            position = self._positions.get(partition)
            if position is None or not oldest <= position <= ends[partition]:
                # Skipped, expired, or the topic was made again: what is held does not join what comes.
                self._held[partition] = {}
                self._positions[partition] = oldest
        for leader, of_leader in by_leader(consumer, partitions).items():
            while behind := {p: self._positions[p] for p in of_leader if self._positions[p] < ends[p]}:
                for partition, records in (await fetch(consumer, leader, behind)).items():
                    self._hold(partition, records)

    def _hold(self, partition: TopicPartition, records: list[DefaultRecord]) -> None:
        for record in records:
            if record.key is not None and record.value is not None:
                key = bytes(record.key).decode("utf-8", "replace")
                held = self._held[partition].setdefault(key, deque(maxlen=self._per_key))
                held.append(Held(record.timestamp, bytes(record.value)))
        self._positions[partition] = records[-1].offset + 1

    async def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            # Asked for offsets of a topic that is not there, the driver would wait for it to appear.
            states = await topic_states_now(self._servers, [self._topic])
            if self._topic not in states:
                raise KafkaError(f"the broker has no topic {self._topic}")
            self._partitions = partitions_of(states.values())
            self._consumer = new_consumer(self._servers, "newest_records")
            await self._consumer.start()
        return self._consumer


class _Loop:
    """An event loop in a thread of its own, started by the first question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for the work, which has a deadline itself."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="newest_records", daemon=True).start()
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


_LOOP: Final = _Loop()
