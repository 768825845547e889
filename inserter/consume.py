"""The loop: Kafka to PostgreSQL, exactly once in effect.

Order, and what a kill -9 at each place means:

 1. collect a batch             nothing is written; the next start reads the same records again
 2. begin, lock the ledger      "
 3. upsert rows                 rolled back with the transaction
 4. gap ledger, suspects        "
 5. dirty minutes, watermarks   "
 6. compare-and-set checkpoint  "; a second inserter finds no row to update and ends (Fenced)
 7. commit                      from here the next start goes on after the batch
 8. tell Kafka                  for lag displays only; the truth is in the database

On start: read the checkpoints, seek, continue. So a start is recovery, whatever the end was.
While one batch is being written the next is already collected and decoded; after an error both are thrown away
and reading goes on from the database's checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib

from inserter import meter
from inserter.batch import Batch, BatchBuilder, rows_of
from inserter.operate import CheckpointMoved, Operator
from inserter.positions import LogRange, Positions
from inserter.postgres_store import PostgresStore
from inserter.rows import copy_text
from inserter.settings import InserterSettings
from inserter.unheard import ExchangeClock
from inserter.watch import BadShare, Watch
from inserter.write import Writer
from market.topics import Topics
from runtime.clock import Clock, new_random
from runtime.crash import crash_point
from runtime.database import AsyncConnection, DatabaseError, TupleRow, connect_when_ready, is_retryable
from runtime.health import Health
from runtime.kafka_client import (
    KafkaConsumer,
    KafkaError,
    OffsetOutOfRangeError,
    TopicPartition,
    TopicState,
    load_topics,
    new_consumer,
    partitions_of,
    start_when_ready,
    topic_states,
)
from runtime.lifecycle import Stop, end
from runtime.logs import get_logger
from runtime.operations.room_control import RoomControl
from runtime.retry import ENGINE_MAX_DELAY_S, Backoff

GROUP = "inserter"
IDLE_WAIT_MS = 500
#: So many records in one piece are a backlog, not the live stream.
CATCH_UP_RECORDS = 500
OFFSETS_TIMEOUT_S = 10.0
CONSUMER_STOP_TIMEOUT_S = 2.0
#: Rows handled before the writer gets its turn: with more, the database would wait for us between two statements.
TURN_ROWS = 1_000
PAUSE_POLL_S = 0.5
GROUP_COMMIT_EVERY_S = 1.0
GROUP_COMMIT_TIMEOUT_S = 5.0

log = get_logger(__name__)


class PositionsLost(Exception):
    """The log no longer has what we want to read: look at it again."""


class Inserter:
    """One consumer of every partition, one database connection, one epoch."""

    def __init__(
        self,
        settings: InserterSettings,
        health: Health,
        clock: Clock,
        stop: Stop,
        *,
        topics: Topics | None = None,
    ) -> None:
        self._settings = settings
        self._health = health
        self._clock = clock
        self._stop = stop
        self._backoff = Backoff(new_random(), max_delay_s=ENGINE_MAX_DELAY_S)
        self._positions = Positions()
        self._exchange_clock = ExchangeClock()
        self._topics = topics or load_topics()
        self._names = [
            topic.name
            for topic in (
                self._topics.kline_1s,
                self._topics.kline_1m,
                self._topics.feed_outage,
                self._topics.mini_ticker,
                self._topics.dead_frame,
            )
        ]
        self._bad_share = BadShare(settings.inserter_bad_max_share)
        self._group_committed_s = 0.0
        self._control = RoomControl(settings.database_url, "inserter", settings.data_dir, health)

    async def run(self) -> None:
        """Until asked to stop. Raises Fenced when another inserter has taken over."""
        self._control.start()
        try:
            await self._run_sessions()
        finally:
            self._control.stop()

    async def _run_sessions(self) -> None:
        await asyncio.to_thread(self._control.wait_first)
        while not self._stop.is_set:
            try:
                await self._session()
            except PositionsLost as error:
                log.warning("positions_lost", reason=str(error))
            except CheckpointMoved as moved:
                log.warning("checkpoint_moved", reason=str(moved))
            except (DatabaseError, KafkaError, OSError, TimeoutError) as error:
                if isinstance(error, DatabaseError) and not is_retryable(error):
                    raise
                delay_s = self._backoff.next_delay_s()
                self._health.set_problem("inserter", f"{type(error).__name__}: {error}".strip())
                log.warning("batch_failed", error=str(error), retry_in_s=round(delay_s, 1))
                await self._stop.wait(delay_s)

    async def _session(self) -> None:
        """From a fresh connection, a fresh consumer and the database's checkpoints until an error or the stop."""
        settings, health = self._settings, self._health
        connection = await connect_when_ready(settings.database_url, "inserter", health, self._backoff, self._stop)
        if connection is None:
            return
        servers = settings.kafka_bootstrap_servers
        async with connection:
            states = await topic_states(servers, self._names, health, self._backoff, self._stop)
            if not states:
                return
            consumer = new_consumer(servers, "inserter", group_id=GROUP)
            try:
                if await start_when_ready(consumer, health, self._backoff, self._stop):
                    await self._read_from_checkpoints(connection, consumer, states)
            finally:
                with contextlib.suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(consumer.stop(), CONSUMER_STOP_TIMEOUT_S)

    async def _read_from_checkpoints(
        self, connection: AsyncConnection[TupleRow], consumer: KafkaConsumer, states: dict[str, TopicState]
    ) -> None:
        """Take the checkpoints, seek, and read until an error or the stop."""
        settings = self._settings
        partitions = partitions_of(states.values())
        consumer.assign(partitions)
        store = PostgresStore(connection, settings.inserter_copy_min_rows, settings.inserter_partitions_ahead_days)
        await self._positions.claim(store, states.keys())
        beginnings = await asyncio.wait_for(consumer.beginning_offsets(partitions), OFFSETS_TIMEOUT_S)
        ends = await asyncio.wait_for(consumer.end_offsets(partitions), OFFSETS_TIMEOUT_S)
        await self._positions.take(
            store, {p: LogRange(states[p.topic].topic_id, beginnings[p], ends[p]) for p in partitions}
        )
        for partition, position in self._positions.by_partition.items():
            consumer.seek(partition, position.read_offset)
        writer = Writer(store, self._positions, self._topics, self._clock, self._exchange_clock)
        await writer.load()
        watch = Watch(settings, self._topics, self._health, self._clock, states)
        watching = asyncio.create_task(watch.run(consumer, self._positions))
        self._health.clear_problem("inserter")
        self._health.set_ready()
        log.info("reading", epoch=self._positions.epoch, partitions=len(partitions))
        try:
            await self._read(consumer, writer, watch, Operator(store, connection, writer, self._positions))
        finally:
            await end(watching)

    async def _read(self, consumer: KafkaConsumer, writer: Writer, watch: Watch, operator: Operator) -> None:
        """Collect the next batch while the one before is being written; between two of them serve the operators."""
        offsets = {p: position.read_offset for p, position in self._positions.by_partition.items()}
        collecting: asyncio.Task[Batch] | None = None
        try:
            while not self._stop.is_set:
                if collecting is None:
                    await self._while_paused(consumer, operator)
                    collecting = asyncio.create_task(self._collect(consumer, offsets))
                    continue
                batch, collecting = await collecting, None
                if watch.topic_changed:
                    raise PositionsLost("a topic was made again or has grown")
                if not self._control.told.is_paused:
                    collecting = asyncio.create_task(self._collect(consumer, offsets))
                if not await self._write(consumer, writer, watch, batch):
                    return
                await operator.serve(consumer, self._topics, self._clock)
        finally:
            if collecting is not None:
                await end(collecting)

    async def _write(self, consumer: KafkaConsumer, writer: Writer, watch: Watch, batch: Batch) -> bool:
        """The batch, if there is anything in it. False when too much of what comes is bad."""
        await writer.list_unheard(batch, watch.log_ends)
        if not batch.record_count and not batch.unheard_until_ms:
            return True
        if self._bad_share.is_too_large(batch):
            await self._halt()
            return False
        started_s = watch.writing_since_s = self._clock.monotonic_s()
        await writer.write(batch)
        watch.writing_since_s = None
        meter.BATCH_SECONDS.observe(self._clock.monotonic_s() - started_s)
        self._backoff.reset()
        self._health.clear_problem("inserter")
        watch.committed(batch)
        await self._tell_kafka(consumer)
        return True

    async def _while_paused(self, consumer: KafkaConsumer, operator: Operator) -> None:
        """Until the room may read. The place is kept, the broker goes on being watched, operators go on being
        served."""
        while self._control.told.is_paused and not self._stop.is_set:
            self._control.applied(is_paused=True)
            await operator.serve(consumer, self._topics, self._clock)
            await self._stop.wait(PAUSE_POLL_S)
        self._control.applied(is_paused=False)

    async def _collect(self, consumer: KafkaConsumer, offsets: dict[TopicPartition, int]) -> Batch:
        """The next batch; its COPY text is made here, while the database works on the batch before."""
        batch = await self._collect_records(consumer, offsets)
        rows = rows_of(batch)
        if len(rows) >= self._settings.inserter_copy_min_rows:
            texts = []
            for first in range(0, len(rows), TURN_ROWS):
                texts.append(copy_text(rows[first : first + TURN_ROWS]))
                await asyncio.sleep(0)
            batch.copy_text = "".join(texts)
        return batch

    async def _collect_records(self, consumer: KafkaConsumer, offsets: dict[TopicPartition, int]) -> Batch:
        """Records until a limit of the batch is reached, or a short while after its first. May be empty.

        `offsets` (next expected of each partition) moves on with what was taken.
        """
        settings = self._settings
        builder = BatchBuilder(self._topics)
        batch = builder.batch
        wait_ms, deadline_s = IDLE_WAIT_MS, 0.0
        while batch.record_count < settings.inserter_batch_max_rows:
            try:
                records = await consumer.getmany(
                    timeout_ms=wait_ms,
                    max_records=min(TURN_ROWS, settings.inserter_batch_max_rows - batch.record_count),
                )
            except OffsetOutOfRangeError as error:
                raise PositionsLost(f"offset out of range: {error}") from error
            for partition, of_partition in records.items():
                builder.add(partition, of_partition, offsets[partition])
                offsets[partition] = of_partition[-1].offset + 1
            await asyncio.sleep(0)
            if not batch.record_count or batch.byte_count >= settings.inserter_batch_max_bytes:
                return batch
            now_s = self._clock.monotonic_s()
            deadline_s = deadline_s or now_s + settings.inserter_batch_wait_ms / 1000
            wait_ms = max(0, int((deadline_s - now_s) * 1000))
            # In catch-up there is always more: fill the batch rather than cut it by time.
            if wait_ms == 0 and sum(map(len, records.values())) < CATCH_UP_RECORDS:
                return batch
        return batch

    async def _halt(self) -> None:
        """Too many bad records: something is wrong that dead letters cannot mend. Stay, say so, write nothing."""
        reason = f"more than {self._settings.inserter_bad_max_share:.0%} of the newest records are bad: stopped"
        self._health.set_problem("bad records", reason)
        log.error("too_many_bad_records", reason=reason)
        await self._stop.wait()

    async def _tell_kafka(self, consumer: KafkaConsumer) -> None:
        """Commit to the group so that Kafka's own tools show the lag; never needed for truth, so never fatal."""
        now_s = self._clock.monotonic_s()
        if now_s - self._group_committed_s < GROUP_COMMIT_EVERY_S:
            return
        self._group_committed_s = now_s
        offsets = {p: position.stored_offset for p, position in self._positions.by_partition.items()}
        try:
            await asyncio.wait_for(consumer.commit(offsets), GROUP_COMMIT_TIMEOUT_S)
        except (KafkaError, TimeoutError) as error:
            log.warning("group_commit_failed", error=str(error))
        crash_point("after_kafka_commit")
