"""The buffer to Kafka. Reading the exchange never waits for it: records wait in the buffer, here they are handed over.

Per lane one hand-over at a time (order), each up to MAX_TAKE_BYTES in one batch a partition; the buffer keeps its
copy until the broker has acknowledged. Facts are gathered for a few ms, state and chain longer: every batch costs
the broker and each reader a wake-up. A batch that fails for good, or that stays unacknowledged too long, gets a
new Kafka client: an idempotent client that lost its place cannot go on. The records of that moment are sent again
and may be twice in the log; all readers live with that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from market.topics import TopicKind
from producer.buffer import Buffer, Entry, Lane
from runtime.clock import Clock
from runtime.crash import crash_point
from runtime.health import Health
from runtime.kafka_batches import BatchProducer, partition_of
from runtime.kafka_client import KafkaError
from runtime.lifecycle import end
from runtime.logs import get_logger

MAX_TAKE_BYTES = 256 * 1024
RETRY_DELAY_S = 0.5
SLOW_ACK_S = 5.0
WATCH_INTERVAL_S = 0.5
CLOSE_TIMEOUT_S = 0.5
MAX_KEYS_REMEMBERED = 20_000

log = get_logger(__name__)


@dataclass(frozen=True)
class Linger:
    """How long records are gathered before they are handed over, in seconds."""

    fact_s: float
    bulk_s: float
    stall_s: float


class Pump:
    """Moves records from the buffer to the broker while there is one. `on_progress` is told of each acknowledgement."""

    def __init__(
        self, buffer: Buffer, linger: Linger, clock: Clock, health: Health, on_progress: Callable[[], None]
    ) -> None:
        self._buffer, self._linger, self._clock, self._health = buffer, linger, clock, health
        self._on_progress = on_progress
        self._partition_counts: dict[str, int] = {}
        self._partitions: dict[tuple[str, bytes], int] = {}
        self._started_at_s: dict[str, float] = {}
        self._hand_overs: set[asyncio.Task[None]] = set()
        self._broken = asyncio.Event()
        self._emptied = asyncio.Event()
        self._is_finishing = False
        self._bug: BaseException | None = None
        self.produced: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.observe_ack: Callable[[float], None] = lambda _: None

    async def run(self, open_client: Callable[[], Awaitable[BatchProducer | None]]) -> None:
        """Until `finish`. `open_client` waits for the broker, and gives None when the room is asked to stop."""
        while not self._is_finishing:
            client = await open_client()
            if client is None:
                return
            log.info("broker_connected")
            await self._serve(client)
            if not self._is_finishing:
                await asyncio.sleep(RETRY_DELAY_S)

    async def finish(self, timeout_s: float) -> None:
        """Hand over what waits, at most `timeout_s`, and end `run`. What is left then is logged as lost."""
        if self._buffer.waiting_records():
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), timeout_s)
        if self._buffer.waiting_records():
            log.error("records_lost_at_stop", records=self._buffer.waiting_records())
        self._is_finishing = True
        self._broken.set()

    async def _serve(self, client: BatchProducer) -> None:
        """Hand over with this client until it breaks or `finish`."""
        self._broken.clear()
        self._partition_counts.clear()
        self._partitions.clear()
        facts = [lane for lane in self._buffer.lanes if lane.topic.kind is TopicKind.FACT]
        bulk = [lane for lane in self._buffer.lanes if lane.topic.kind is not TopicKind.FACT]
        tasks = [
            asyncio.create_task(self._run_group(facts, self._linger.fact_s, client)),
            asyncio.create_task(self._run_group(bulk, self._linger.bulk_s, client)),
            asyncio.create_task(self._watch()),
        ]
        broken = asyncio.create_task(self._broken.wait())
        try:
            done, _ = await asyncio.wait({*tasks, broken}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._bug is not None:
                raise self._bug
        finally:
            await end(*tasks, broken, *self._hand_overs)
            await client.close(CLOSE_TIMEOUT_S)

    async def _run_group(self, lanes: list[Lane], linger_s: float, client: BatchProducer) -> None:
        """Lanes that leave together, so that their batches travel in one request."""
        wake = asyncio.Event()
        for lane in lanes:
            lane.notify = wake.set
        wake.set()
        while True:
            await wake.wait()
            wake.clear()
            await asyncio.sleep(linger_s)
            for lane in lanes:
                if lane.waiting and not lane.in_flight:
                    task = asyncio.create_task(self._hand_over(lane, client))
                    self._hand_overs.add(task)
                    task.add_done_callback(self._handed_over)

    def _handed_over(self, task: asyncio.Task[None]) -> None:
        """What no broker can cause is our bug: `_serve` raises it, the room ends and is started again."""
        self._hand_overs.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bug = bug
            self._broken.set()

    async def _hand_over(self, lane: Lane, client: BatchProducer) -> None:
        """The oldest records of one lane, until each is acknowledged or back in front."""
        topic = lane.topic.name
        entries = self._buffer.take(lane, MAX_TAKE_BYTES)
        unsent = {entry.sequence: entry for entry in entries}
        started_at_s = self._started_at_s[topic] = self._clock.monotonic_s()
        try:
            crash_point("producer_before_send")
            submitted: list[tuple[list[Entry], Awaitable[object]]] = []
            for partition, rest in (await self._by_partition(topic, entries, client)).items():
                start = 0
                while start < len(rest):
                    count, acknowledged = await client.submit(topic, partition, rest[start:])
                    submitted.append((rest[start : start + count], acknowledged))
                    start += count
            crash_point("producer_after_send")
            for part, acknowledgement in submitted:
                await acknowledgement
                crash_point("producer_after_ack")
                for entry in part:
                    del unsent[entry.sequence]
        except (KafkaError, OSError) as error:
            self.errors[topic, type(error).__name__] += 1
            log.warning("batch_failed", topic=topic, error=repr(error), records=len(unsent))
            self._broken.set()
        finally:
            self._started_at_s.pop(topic, None)
            self.produced[topic] += self._buffer.settle(lane, unsent.values())
            if lane.waiting:
                lane.notify()
            elif not self._buffer.waiting_records():
                self._emptied.set()
        if not unsent:
            self.observe_ack(self._clock.monotonic_s() - started_at_s)
            self._on_progress()

    async def _by_partition(self, topic: str, entries: list[Entry], client: BatchProducer) -> dict[int, list[Entry]]:
        if topic not in self._partition_counts:
            self._partition_counts[topic] = await client.partition_count(topic)
        parts: dict[int, list[Entry]] = {}
        for entry in entries:
            place = (topic, entry.key)
            partition = self._partitions.get(place)
            if partition is None:
                if len(self._partitions) >= MAX_KEYS_REMEMBERED:
                    self._partitions.clear()
                partition = self._partitions[place] = partition_of(entry.key, self._partition_counts[topic])
            parts.setdefault(partition, []).append(entry)
        return parts

    async def _watch(self) -> None:
        """Show slow acknowledgements in health, and give the client up when one stays away too long."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            oldest_s = min(self._started_at_s.values(), default=None)
            age_s = 0.0 if oldest_s is None else self._clock.monotonic_s() - oldest_s
            if age_s > SLOW_ACK_S:
                waiting = self._buffer.waiting_records()
                self._health.set_problem("kafka_ack", f"no acknowledgement for {age_s:.0f} s, {waiting} records wait")
            else:
                self._health.clear_problem("kafka_ack")
            if age_s > self._linger.stall_s:
                log.warning("broker_stalled", age_s=round(age_s, 1))
                self._broken.set()
