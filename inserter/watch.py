"""What the inserter watches beside its loop: the broker, its lag and headroom, topics made again, bad records."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping

from inserter import meter
from inserter.batch import Batch
from inserter.positions import Positions
from inserter.settings import InserterSettings
from inserter.unheard import LogEnds
from market.topics import Topics
from runtime.clock import Clock
from runtime.health import Health
from runtime.kafka_client import KafkaConsumer, KafkaError, TopicPartition, TopicState, topic_states_now
from runtime.logs import get_logger
from runtime.retention import FOREVER_MS
from runtime.topic_admin import retention_now

GROUP = "inserter"
ASK_EVERY_S = 2.0
ASK_TIMEOUT_S = 5.0
#: A batch takes well under a second; the database's own limits end what takes half a minute.
SLOW_WRITE_S = 10.0
#: Every this many rounds the ids of the topics are compared too.
IDS_EVERY_ROUNDS = 15
BAD_WINDOW_RECORDS = 1_000
BAD_MIN_RECORDS = 200

log = get_logger(__name__)


class BadShare:
    """The share of bad records among the newest BAD_WINDOW_RECORDS."""

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        #: (records, bad) of each batch, none empty: at most BAD_WINDOW_RECORDS + 1 of them
        self._batches: deque[tuple[int, int]] = deque()
        self._records = self._bad = 0

    def is_too_large(self, batch: Batch) -> bool:
        """Take in the batch; true when too many of the newest records are bad to go on."""
        self._batches.append((batch.record_count, batch.bad_count))
        self._records += batch.record_count
        self._bad += batch.bad_count
        while self._records - self._batches[0][0] >= BAD_WINDOW_RECORDS:
            records, bad = self._batches.popleft()
            self._records -= records
            self._bad -= bad
        return self._records >= BAD_MIN_RECORDS and self._bad > self._max_share * self._records


class Watch:
    """Asks the broker now and then; sets health and metrics."""

    def __init__(
        self,
        settings: InserterSettings,
        topics: Topics,
        health: Health,
        clock: Clock,
        states: Mapping[str, TopicState],
    ) -> None:
        self.topic_changed = False
        #: where the logs ended when they were last asked for
        self.log_ends: LogEnds | None = None
        #: monotonic time at which the batch that is being written was handed to the database
        self.writing_since_s: float | None = None
        self._settings = settings
        self._health = health
        self._clock = clock
        self._states = states
        #: declared; the broker's own as soon as it has been asked, because operators alter it while we run
        self._retention_ms = {topic.name: settings.kafka_retention_ms or topic.retention_ms for topic in topics.all()}
        #: broker's time of the newest committed record
        self._committed_at_ms: dict[TopicPartition, int] = {}

    async def run(self, consumer: KafkaConsumer, positions: Positions) -> None:
        """Until cancelled."""
        rounds = 0
        while True:
            try:
                await self._ask(consumer, positions)
                if rounds % IDS_EVERY_ROUNDS == IDS_EVERY_ROUNDS - 1:
                    await self.compare_topics()
            except (KafkaError, OSError, TimeoutError) as error:
                self._health.set_problem("kafka", f"broker does not answer: {type(error).__name__} {error}".strip())
            else:
                self._health.clear_problem("kafka")
            self.judge_database()
            rounds += 1
            await asyncio.sleep(ASK_EVERY_S)

    def judge_database(self) -> None:
        """Show a database that holds a batch for long: a stopped server says nothing, not even an error."""
        since_s = self.writing_since_s
        waited_s = 0.0 if since_s is None else self._clock.monotonic_s() - since_s
        if waited_s > SLOW_WRITE_S:
            self._health.set_problem("database", f"no answer for {waited_s:.0f} s")
        else:
            self._health.clear_problem("database")

    def committed(self, batch: Batch) -> None:
        """A batch is in the database."""
        for partition, progress in batch.progress.items():
            self._committed_at_ms[partition] = progress.newest_append_ms
        for rows in batch.rows.values():
            row = next(iter(rows.values()))
            if row.kline.received_at_ms:
                meter.observe_hops(
                    row.kline.event_time_ms, row.kline.received_at_ms, row.record.timestamp, self._clock.now_ms()
                )
            break

    async def _ask(self, consumer: KafkaConsumer, positions: Positions) -> None:
        partitions = list(positions.by_partition)
        asked_at_s = self._clock.monotonic_s()
        async with asyncio.timeout(ASK_TIMEOUT_S):
            earliest = await consumer.beginning_offsets(partitions)
            latest = await consumer.end_offsets(partitions)
        self.log_ends = LogEnds(asked_at_s, latest)
        self.tell(positions, earliest, latest)

    def tell(
        self, positions: Positions, earliest: Mapping[TopicPartition, int], latest: Mapping[TopicPartition, int]
    ) -> None:
        """Set lag and headroom of each partition from the ends of its log."""
        for partition, position in positions.by_partition.items():
            names = (partition.topic, str(partition.partition))
            lag = max(0, latest[partition] - position.stored_offset)
            committed_at_ms = self._committed_at_ms.get(partition)
            age_s = 0.0
            if lag:
                # Not known until something was committed: no figure is better than a calm one.
                age_s = math.nan
                if committed_at_ms is not None:
                    age_s = max(0.0, (self._clock.now_ms() - committed_at_ms) / 1000)
            meter.EARLIEST.labels(*names).set(earliest[partition])
            meter.LATEST.labels(*names).set(latest[partition])
            meter.GROUP_LAG.labels(GROUP, *names).set(lag)
            meter.GROUP_LAG_S.labels(GROUP, *names).set(age_s)
            kept_ms = self._retention_ms[partition.topic]
            kept_s = math.inf if kept_ms == FOREVER_MS else kept_ms / 1000
            meter.HEADROOM_S.labels(*names).set(kept_s - age_s)

    async def compare_topics(self) -> None:
        """A topic made again while we read keeps its name, only its id tells; it may have grown, or be kept longer.

        Raises KafkaError, OSError or TimeoutError."""
        servers = self._settings.kafka_bootstrap_servers
        async with asyncio.timeout(ASK_TIMEOUT_S):
            now = await topic_states_now(servers, list(self._states))
        changed = [name for name, state in now.items() if state != self._states[name]]
        if changed:
            log.warning("topic_changed", topics=changed)
            self.topic_changed = True
        async with asyncio.timeout(ASK_TIMEOUT_S):
            self._retention_ms |= await retention_now(servers, list(now))
