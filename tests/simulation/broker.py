"""An in-memory broker with what short retention makes of one (reliability: deletion by segment, never by record).

A segment rolls only on append, by the time between its first record and the new one. Retention looks every
`check_ms`: segments go whose newest record is past `retention_ms`; the active one too, after an empty one was rolled.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from market.topics import Topics
from runtime.clock import Clock
from runtime.kafka_batches import BatchRecord, partition_of
from runtime.kafka_client import KafkaError, OffsetOutOfRangeError, TopicPartition


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record with the fields that readers use; `timestamp` is when it was appended."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes


@dataclass
class Segment:
    """Records from `base_offset` on."""

    base_offset: int
    records: list[Record] = field(default_factory=list)


@dataclass
class Log:
    """One partition."""

    segments: list[Segment]

    @property
    def start(self) -> int:
        """The first offset that can be read."""
        return self.segments[0].base_offset

    @property
    def end(self) -> int:
        """The offset that the next record gets."""
        last = self.segments[-1]
        return last.base_offset + len(last.records)

    def at(self, offset: int) -> Record | None:
        """The record at an offset, if it is still there."""
        for segment in reversed(self.segments):
            if offset >= segment.base_offset:
                index = offset - segment.base_offset
                return segment.records[index] if index < len(segment.records) else None
        return None


@dataclass(frozen=True)
class Retention:
    """R, G and C in ms."""

    retention_ms: int
    segment_ms: int
    check_ms: int


class MemoryBroker:
    """All topics. Raises what the driver raises; `is_away` makes every call fail."""

    def __init__(self, topics: Topics, clock: Clock, retention: Retention, rng: random.Random) -> None:
        self._clock, self.retention, self._rng = clock, retention, rng
        self._partitions_of_key: dict[tuple[bytes, int], int] = {}
        self.topic_ids: dict[str, uuid.UUID] = {}
        self.logs: dict[TopicPartition, Log] = {}
        self.is_away = False
        self._next_check_ms = clock.now_ms()
        #: told of every record as it is appended
        self.on_append: Callable[[Record], None] = lambda _: None
        for topic in topics.all():
            self.make_topic(topic.name, topic.partitions)

    def make_topic(self, name: str, partitions: int) -> None:
        """A topic with a new id, empty; one of that name is deleted first."""
        self.topic_ids[name] = uuid.UUID(int=self._rng.getrandbits(128))
        for number in range(partitions):
            self.logs[TopicPartition(name, number)] = Log([Segment(0)])

    def partition_of(self, topic: str, key: bytes) -> TopicPartition:
        """Where records of this key go."""
        count = len(self.partitions(topic))
        number = self._partitions_of_key.get((key, count))
        if number is None:
            number = self._partitions_of_key[key, count] = partition_of(key, count)
        return TopicPartition(topic, number)

    def partitions(self, topic: str) -> list[TopicPartition]:
        """The topic's partitions."""
        found: list[TopicPartition] = []
        while (partition := TopicPartition(topic, len(found))) in self.logs:
            found.append(partition)
        return found

    def append(self, partition: TopicPartition, records: Sequence[BatchRecord]) -> None:
        """Store the records in order."""
        self._require()
        log, now_ms = self.logs[partition], self._clock.now_ms()
        for entry in records:
            active = log.segments[-1]
            if active.records and now_ms - active.records[0].timestamp >= self.retention.segment_ms:
                active = Segment(log.end)
                log.segments.append(active)
            offset = active.base_offset + len(active.records)
            record = Record(partition.topic, partition.partition, offset, now_ms, entry.key, entry.value)
            active.records.append(record)
            self.on_append(record)

    def fetch(self, partition: TopicPartition, offset: int, max_records: int) -> list[Record]:
        """Records from the offset on; empty at the end. Raises OffsetOutOfRangeError."""
        self._require()
        log = self.logs[partition]
        end = log.end
        if offset == end:
            return []
        if not log.start <= offset < end:
            raise OffsetOutOfRangeError({partition: offset})
        found: list[Record] = []
        for segment in log.segments:
            if segment.base_offset + len(segment.records) > offset:
                first = max(0, offset - segment.base_offset)
                found.extend(segment.records[first : first + max_records - len(found)])
                if len(found) == max_records:
                    break
        return found

    def tick(self) -> None:
        """Delete what is too old, when it is time to look."""
        now_ms = self._clock.now_ms()
        if now_ms < self._next_check_ms:
            # Checks go by a timer: a wall clock that was set back does not stop them.
            self._next_check_ms = min(self._next_check_ms, now_ms + self.retention.check_ms)
            return
        self._next_check_ms = now_ms + self.retention.check_ms
        for log in self.logs.values():
            self._delete_old(log, now_ms)

    def _delete_old(self, log: Log, now_ms: int) -> None:
        while (oldest := log.segments[0]).records:
            if now_ms - oldest.records[-1].timestamp <= self.retention.retention_ms:
                return
            if len(log.segments) == 1:
                log.segments.append(Segment(log.end))
            del log.segments[0]

    def lose_tail(self, partition: TopicPartition, count: int) -> int:
        """The newest records vanish, as after a power cut: their offsets are given out again. Returns how many."""
        log = self.logs[partition]
        lost = 0
        while lost < count:
            active = log.segments[-1]
            if active.records:
                active.records.pop()
                lost += 1
            elif len(log.segments) > 1:
                log.segments.pop()
            else:
                break
        return lost

    def _require(self) -> None:
        if self.is_away:
            raise KafkaError("the simulated broker is away")
