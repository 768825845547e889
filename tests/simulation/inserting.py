"""An inserter process in a simulation: the product's BatchBuilder, Positions and Writer in the order of consume.py.

`turn` is a coroutine that suspends at every operation of the store. Whoever drives it may kill the process there,
leave it there for a while, or let another one go on in between.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, cast

from inserter.batch import Batch, BatchBuilder
from inserter.positions import LogRange, Positions
from inserter.unheard import ExchangeClock, LogEnds
from inserter.write import Writer
from market.topics import Topics
from runtime.database import OperationalError, is_retryable
from runtime.errors import Fenced
from runtime.kafka_client import ConsumerRecord, KafkaError, OffsetOutOfRangeError, TopicPartition
from tests.simulation.broker import MemoryBroker
from tests.simulation.clock import SimClock
from tests.simulation.store import MemoryStore, StoreFaults, pause
from tests.simulation.tables import Database

COMPARE_IDS_EVERY_S = 30.0
ASK_ENDS_EVERY_S = 5.0
RETRY_AFTER_S = 1.0
#: A turn that comes back to the store more often than this never ends.
MAX_STEPS = 100_000
BATCHES_A_TURN = 200


class PositionsLost(Exception):
    """The log no longer has what was to be read."""


class SimInserter:
    """One life of an inserter."""

    #: tests that plant a bug put their own in
    writer_class: type[Writer] = Writer
    builder_class: type[BatchBuilder] = BatchBuilder
    store_class: type[MemoryStore] = MemoryStore

    def __init__(
        self, topics: Topics, parts: tuple[MemoryBroker, Database, SimClock], faults: StoreFaults, batch_rows: int
    ) -> None:
        self._topics, self._faults, self._batch_rows = topics, faults, batch_rows
        self._broker, self._database, self._clock = parts
        names = [topics.kline_1s.name, topics.feed_outage.name, topics.dead_frame.name]
        self._names = names
        self._positions = Positions()
        self._exchange_clock = ExchangeClock()
        self._store: MemoryStore | None = None
        self._writer: Writer | None = None
        self._offsets: dict[TopicPartition, int] = {}
        self._ids: dict[str, object] = {}
        self._log_ends: LogEnds | None = None
        self._compare_ids_at_s = self._ask_ends_at_s = 0.0
        self._not_before_s = 0.0
        self._collected: Batch | None = None
        self._turn: Coroutine[Any, Any, None] | None = None
        self.paused_until_s = 0.0
        self.is_dead = False
        self.is_fenced = False

    def tick(self, orders: Mapping[int, str]) -> None:
        """Go on until nothing is left to read; `orders` say at which suspension to `kill` or `pause` it."""
        if self.is_dead or self._clock.monotonic_s() < max(self._not_before_s, self.paused_until_s):
            return
        turn = self._turn or self._work()
        self._turn = None
        for step in range(MAX_STEPS):
            try:
                turn.send(None)
            except StopIteration:
                return
            order = orders.get(step)
            if order == "kill":
                self._turn = turn
                self.kill()
                return
            if order == "pause":
                self._turn = turn
                return
        raise AssertionError("the inserter's turn does not end")

    def kill(self) -> None:
        """kill -9: the database rolls back what was open, nothing else happens."""
        self.is_dead = True
        if self._store is not None:
            self._store.close()
        if self._turn is not None:
            self._turn.close()

    @property
    def is_reading(self) -> bool:
        """Whether it has its positions and no error since."""
        return self._writer is not None

    async def _work(self) -> None:
        """What `Inserter.run` does with errors."""
        try:
            if self._writer is None:
                await self._start()
            for _ in range(BATCHES_A_TURN):
                if not await self._one_batch():
                    return
        except PositionsLost:
            self._end_session()
        except Fenced:
            self.is_dead = self.is_fenced = True
            self._end_session()
        except (OperationalError, KafkaError) as error:
            if isinstance(error, OperationalError) and not is_retryable(error):
                raise
            self._end_session()
            self._not_before_s = self._clock.monotonic_s() + RETRY_AFTER_S

    async def _start(self) -> None:
        """A session: the checkpoints, where to go on, a writer."""
        self._store = self.store_class(self._database, self._faults)
        await self._positions.claim(self._store, self._names)
        # Asking the broker takes time in which anything may happen.
        await pause()
        if self._broker.is_away:
            raise KafkaError("no broker")
        partitions = [partition for name in self._names for partition in self._broker.partitions(name)]
        self._ids = {name: self._broker.topic_ids[name] for name in self._names}
        logs = self._broker.logs
        ranges = {p: LogRange(self._broker.topic_ids[p.topic], logs[p].start, logs[p].end) for p in partitions}
        await self._positions.take(self._store, ranges)
        self._offsets = {p: position.read_offset for p, position in self._positions.by_partition.items()}
        self._collected = None
        writer = self.writer_class(self._store, self._positions, self._topics, self._clock, self._exchange_clock)
        await writer.load()
        self._writer = writer
        now_s = self._clock.monotonic_s()
        self._compare_ids_at_s, self._ask_ends_at_s, self._log_ends = now_s + COMPARE_IDS_EVERY_S, now_s, None

    async def _one_batch(self) -> bool:
        """Write what was collected while the next is collected already. False when there was nothing."""
        assert self._writer is not None
        if self._collected is None:
            self._collected = self._collect()
        batch = self._collected
        self._watch()
        self._collected = self._collect()
        await self._writer.list_unheard(batch, self._log_ends)
        if not batch.record_count and not batch.unheard_until_ms:
            return self._collected.record_count > 0
        await self._writer.write(batch)
        return True

    def _collect(self) -> Batch:
        builder = self.builder_class(self._topics)
        for partition, offset in self._offsets.items():
            try:
                records = self._broker.fetch(partition, offset, self._batch_rows)
            except OffsetOutOfRangeError as error:
                raise PositionsLost(str(error)) from error
            if records:
                builder.add(partition, cast(list[ConsumerRecord], records), offset)
                self._offsets[partition] = records[-1].offset + 1
        return builder.batch

    def _watch(self) -> None:
        """What the watch does every five seconds, and every half minute."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._ask_ends_at_s and not self._broker.is_away:
            self._ask_ends_at_s = now_s + ASK_ENDS_EVERY_S
            self._log_ends = LogEnds(self._clock.monotonic_s(), {p: self._broker.logs[p].end for p in self._offsets})
        if now_s >= self._compare_ids_at_s:
            self._compare_ids_at_s = now_s + COMPARE_IDS_EVERY_S
            if any(self._broker.topic_ids[name] != topic_id for name, topic_id in self._ids.items()):
                raise PositionsLost("a topic was made again")

    def _end_session(self) -> None:
        self._writer = self._collected = None
        if self._store is not None:
            self._store.close()
            self._store = None
