"""Store and broker, in memory and real, behind one face each: what the contract suite runs over both."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg

from aggregator.roll_up import roll_up
from inserter.postgres_store import PostgresStore
from inserter.store import Store
from market.kline import VALUE_COLUMNS
from runtime.clock import ManualClock, new_random
from runtime.database import connect, connect_async
from runtime.kafka_client import OffsetOutOfRangeError, TopicPartition, new_consumer, topic_states_now
from tests import own_topics
from tests.conftest import Engines
from tests.simulation.broker import MemoryBroker, Retention
from tests.simulation.clock import SimClock
from tests.simulation.store import MemoryStore
from tests.simulation.tables import Database
from tests.simulation.upkeep import Upkeep

COPY_MIN_ROWS = 5
Tables = dict[str, list[tuple[Any, ...]]]


class StoreBench(Protocol):
    """A store whose tables can be looked at."""

    def open(self) -> Any:
        """An async context manager that gives a Store; leaving it ends the connection."""
        ...

    def roll_up(self) -> None:
        """What the aggregator's task does."""
        ...

    def tables(self) -> Tables:
        """Everything committed, by table, in a fixed order; numbers as Decimal, times in ms."""
        ...


class MemoryBench:
    """The simulation's."""

    def __init__(self) -> None:
        self._database = Database(SimClock())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """A connection."""
        store = MemoryStore(self._database)
        try:
            yield store
        finally:
            store.close()

    def roll_up(self) -> None:
        """The simulation's."""
        Upkeep(self._database, {}, new_random(0)).roll_up_dirty()

    def tables(self) -> Tables:
        """What is in the dictionaries."""
        db = self._database
        assert db.holder is None
        return {
            "rows": sorted(
                (s, t, *(getattr(row.kline, name) for name in VALUE_COLUMNS), row.kline.event_time_ms, str(row.source))
                for s, rows in db.rows.items()
                for t, row in rows.items()
            ),
            "gaps": sorted((g.symbol, g.from_ms, g.to_ms, str(g.cause), g.state, g.detector) for g in db.gaps.values()),
            "watermarks": sorted(db.watermarks.items()),
            "checkpoints": sorted((*p, c.topic_id, c.next_offset, c.epoch) for p, c in db.checkpoints.items()),
            "outages": sorted((*key, outage.to_ms, str(outage.cause)) for key, outage in db.outages.items()),
            "dirty": sorted((*key, marks) for key, marks in db.dirty.items()),
            "candles": sorted(
                (
                    *(c.symbol, str(c.interval), c.open_time_ms),
                    *(getattr(c, name) for name in VALUE_COLUMNS),
                    *(c.row_count, c.is_complete, c.is_closed, c.revision),
                )
                for c in db.candles.values()
            ),
        }


def _ms(column: str) -> str:
    return f"(extract(epoch from {column}) * 1000)::bigint"


_VALUES = ", ".join(VALUE_COLUMNS)
_QUERIES = {
    "rows": f"select symbol, {_ms('open_time')}, {_VALUES}, {_ms('event_time')}, source from kline_1s",
    "gaps": f"select symbol, {_ms('from_time')}, {_ms('to_time')}, cause, state, detector from kline_gap",
    "watermarks": f"select symbol, {_ms('event_time')} from symbol_watermark",
    "checkpoints": "select topic, partition, topic_id, next_offset, epoch from kline_checkpoint",
    "outages": f"select symbol, stream, {_ms('from_time')}, {_ms('to_time')}, cause from feed_outage",
    "dirty": f"select symbol, {_ms('open_time')}, marks from dirty_minute",
    "candles": f"select symbol, interval, {_ms('open_time')}, {_VALUES}, row_count, is_complete, is_closed, revision"
    " from aggregated_kline",
}


class PostgresBench:
    """The real one."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """A connection."""
        connection = await connect_async(self._url, "test")
        try:
            yield PostgresStore(connection, COPY_MIN_ROWS, 0)
        finally:
            await connection.close()

    def roll_up(self) -> None:
        """The aggregator's."""
        with connect(self._url, "test") as connection:
            roll_up(connection)

    def tables(self) -> Tables:
        """What is in the tables."""
        with psycopg.connect(self._url) as connection:
            return {name: sorted(connection.execute(query).fetchall()) for name, query in _QUERIES.items()}


class BrokerBench(Protocol):
    """One topic of two partitions; everything goes to the partition of the key `one`."""

    async def send(self, values: Sequence[bytes]) -> None:
        """Append."""
        ...

    async def ends(self) -> tuple[int, int]:
        """Log start and log end."""
        ...

    async def fetch(self, offset: int) -> list[tuple[int, bytes]]:
        """(offset, value) from there on. Raises OffsetOutOfRangeError."""
        ...

    async def expire(self) -> None:
        """Everything that is in the log goes, as by retention."""
        ...

    async def recreate(self) -> None:
        """Delete the topic and make it again."""
        ...

    async def topic_id(self) -> uuid.UUID:
        """Its id."""
        ...


@dataclass(frozen=True)
class _Entry:
    key: bytes
    value: bytes
    received_at_ms: int = 0


class MemoryBrokerBench:
    """The simulation's."""

    def __init__(self) -> None:
        self._clock = ManualClock(1_000_000)
        self._topics = own_topics.renamed("contract")
        self._topic = self._topics.kline_1s
        self._broker = MemoryBroker(self._topics, self._clock, Retention(60_000, 60_000, 10_000), new_random(1))
        self._partition = self._broker.partition_of(self._topic.name, b"one")

    async def send(self, values: Sequence[bytes]) -> None:
        """Append."""
        self._broker.append(self._partition, [_Entry(b"one", value) for value in values])

    async def ends(self) -> tuple[int, int]:
        """Log start and log end."""
        log = self._broker.logs[self._partition]
        return log.start, log.end

    async def fetch(self, offset: int) -> list[tuple[int, bytes]]:
        """From there on."""
        return [(record.offset, record.value) for record in self._broker.fetch(self._partition, offset, 100)]

    async def expire(self) -> None:
        """Time passes."""
        self._clock.advance(100_000)
        self._broker.tick()

    async def recreate(self) -> None:
        """Delete the topic and make it again."""
        self._broker.make_topic(self._topic.name, self._topic.partitions)

    async def topic_id(self) -> uuid.UUID:
        """Its id."""
        return self._broker.topic_ids[self._topic.name]


class KafkaBench:
    """The real one."""

    def __init__(self, engines: Engines) -> None:
        self._servers = engines.kafka_bootstrap_servers
        self._topics = own_topics.renamed(f"contract{uuid.uuid4().hex[:8]}")
        self._topic = self._topics.kline_1s
        memory = MemoryBroker(self._topics, ManualClock(), Retention(1, 1, 1), new_random(1))
        #: the key's partition by the product's own rule; the driver's choice must be the same one
        self._partition = TopicPartition(*memory.partition_of(self._topic.name, b"one"))

    async def start(self) -> None:
        """Make the topics."""
        await own_topics.create(self._servers, self._topics)

    async def send(self, values: Sequence[bytes]) -> None:
        """Append."""
        await own_topics.send(self._servers, self._topic, list(values), key=b"one")

    async def ends(self) -> tuple[int, int]:
        """Log start and log end."""
        consumer = new_consumer(self._servers, "test")
        await consumer.start()
        try:
            starts = await consumer.beginning_offsets([self._partition])
            ends = await consumer.end_offsets([self._partition])
            return starts[self._partition], ends[self._partition]
        finally:
            await consumer.stop()

    async def fetch(self, offset: int) -> list[tuple[int, bytes]]:
        """From there on."""
        _, end = await self.ends()
        if offset == end:
            return []
        consumer = new_consumer(self._servers, "test")
        await consumer.start()
        try:
            consumer.assign([self._partition])
            consumer.seek(self._partition, offset)
            found: list[tuple[int, bytes]] = []
            while offset + len(found) < end or offset > end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found.extend((record.offset, record.value or b"") for record in records)
            return found
        finally:
            await consumer.stop()

    async def expire(self) -> None:
        """Move the log start to the end."""
        _, end = await self.ends()
        await own_topics.expire(self._servers, self._topic, {self._partition.partition: end})

    async def recreate(self) -> None:
        """Delete the topic and make it again."""
        await own_topics.delete(self._servers, self._topic)
        while self._topic.name in await topic_states_now(self._servers, [self._topic.name]):
            pass
        await own_topics.create(self._servers, self._topics)

    async def topic_id(self) -> uuid.UUID:
        """Its id."""
        return (await topic_states_now(self._servers, [self._topic.name]))[self._topic.name].topic_id


__all__ = ["BrokerBench", "KafkaBench", "MemoryBench", "MemoryBrokerBench", "OffsetOutOfRangeError", "PostgresBench"]
