"""From Kafka to the fan-out thread: every replica reads every partition, from a little before now.

There is no checkpoint: what a viewer needs is a snapshot and what follows. The broker away: wait, the clients
stay. Records expired before they were read: go on from the earliest, and the channels concerned start anew.

Each topic has a reader, and so a connection, of its own: a fetch names every partition of its reader each time and
is answered for each, which for all topics together took 1 ms of Python (bench/relay.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Counter

from flask_stream.fan_out import FanOut
from flask_stream.hub import Hub, Record
from flask_stream.names import Content
from flask_stream.settings import StreamSettings
from runtime.clock import Clock, new_random
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
from runtime.log_tail import by_leader, fetch
from runtime.logs import get_logger
from runtime.retry import Backoff

#: How far back records are read at the start; None = all that the broker has.
LOOK_BACK_MS: Final[dict[Content, int | None]] = {
    Content.SECOND: 190_000,
    Content.CANDLE: None,
    Content.TRADE: 60_000,
    Content.DEPTH: 0,
    Content.BOOK: 60_000,
    Content.BEST: 60_000,
    Content.TICKER: 60_000,
    Content.FEED: None,
    Content.ALERT: None,
}
MAX_QUEUED_RECORDS: Final = 20_000
QUEUE_PAUSE_S: Final = 0.01

LOST: Final = Counter("relay_log_expired", "times that records expired before they were read", ["topic"])

log = get_logger(__name__)


class Relay:
    """Reads the topics until asked to stop."""

    def __init__(self, settings: StreamSettings, fan_out: FanOut, hub: Hub, health: Health, clock: Clock) -> None:
        topics = load_topics()
        self._fan_out, self._hub, self._health = fan_out, hub, health
        contents = {
            topics.kline_1s.name: Content.SECOND,
            topics.candle.name: Content.CANDLE,
            topics.trade.name: Content.TRADE,
            topics.depth.name: Content.DEPTH,
            topics.depth20.name: Content.BOOK,
            topics.book_ticker.name: Content.BEST,
            topics.mini_ticker.name: Content.TICKER,
            topics.feed_outage.name: Content.FEED,
            topics.operator_alert.name: Content.ALERT,
        }
        self._to_catch_up = set(contents)
        health.set_waiting("reading what the topics hold")
        self._readers = [
            TopicReader(settings, fan_out, hub, health, clock, topic, content, self._on_caught_up)
            for topic, content in contents.items()
        ]

    async def run(self, stop: Stop) -> None:
        """Every reader at once; the failure of one ends them all, and the process."""
        async with asyncio.TaskGroup() as tasks:
            for reader in self._readers:
                tasks.create_task(reader.run(stop))

    def _on_caught_up(self, topic: str) -> None:
        self._to_catch_up.discard(topic)
        if not self._to_catch_up:
            self._fan_out.call(self._set_caught_up)

    def _set_caught_up(self) -> None:
        """Ready only now: in the snapshots before, the last seconds are still missing."""
        self._hub.is_caught_up = True
        self._health.set_ready()


@dataclass
class TopicReader:
    """Reads one topic until asked to stop."""

    settings: StreamSettings
    fan_out: FanOut
    hub: Hub
    health: Health
    clock: Clock
    topic: str
    content: Content
    on_caught_up: Callable[[str], None]
    _state: TopicState | None = None
    _positions: dict[TopicPartition, int] = field(default_factory=dict)
    _to_catch_up: dict[TopicPartition, int] | None = None

    def __post_init__(self) -> None:
        self._backoff = Backoff(new_random(), first_delay_s=0.2, max_delay_s=2.0)

    async def run(self, stop: Stop) -> None:
        """The loop around connections to the broker."""
        while not stop.is_set:
            consumer = new_consumer(self.settings.kafka_bootstrap_servers, "flask_stream")
            try:
                if await self._begin(consumer, stop):
                    await self._read(consumer, stop)
            except (KafkaError, OSError, TimeoutError) as error:
                delay_s = self._backoff.next_delay_s()
                self.health.set_problem("kafka", f"broker not usable: {error}")
                log.warning("broker_not_usable", topic=self.topic, error=str(error), retry_in_s=round(delay_s, 1))
                await stop.wait(delay_s)
            finally:
                await consumer.stop()

    async def _begin(self, consumer: KafkaConsumer, stop: Stop) -> bool:
        state = await self._ask_state(stop)
        if state is None or not await start_when_ready(consumer, self.health, self._backoff, stop):
            return False
        is_other = self._is_other(state)
        self._state = state
        if is_other:
            # Its offsets begin anew: those of the old log would never be reached, nor its partitions found.
            self._positions.clear()
            self._to_catch_up = None if self._to_catch_up else self._to_catch_up
        partitions = partitions_of([state])
        fresh = [partition for partition in partitions if partition not in self._positions]
        await self._seek_by_time(consumer, fresh)
        if is_other:
            self._report_lost()
        # Asked even where the answer is not needed: the driver then knows who leads the partitions.
        ends = await consumer.end_offsets(partitions)
        if self._to_catch_up is None:
            self._to_catch_up = ends
        # A broker that lost power may have lost the newest records: its log would never come to the old end.
        self._to_catch_up = {partition: min(end, ends[partition]) for partition, end in self._to_catch_up.items()}
        log.info("reading", topic=self.topic, partitions=len(partitions))
        self.health.clear_problem("kafka")
        return True

    async def _ask_state(self, stop: Stop) -> TopicState | None:
        bootstrap = self.settings.kafka_bootstrap_servers
        return (await topic_states(bootstrap, [self.topic], self.health, self._backoff, stop)).get(self.topic)

    def _is_other(self, present: TopicState) -> bool:
        return self._state is not None and self._state.topic_id != present.topic_id

    async def _seek_by_time(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        look_back_ms = LOOK_BACK_MS[self.content]
        if look_back_ms is None:
            offsets: Mapping[TopicPartition, int] = await consumer.beginning_offsets(partitions)
        else:
            ends = await consumer.end_offsets(partitions)
            from_ms = self.clock.now_ms() - look_back_ms
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
            offsets = {p: ends[p] if at is None else at.offset for p, at in found.items()}
        self._positions.update({partition: offsets[partition] for partition in partitions})

    async def _read(self, consumer: KafkaConsumer, stop: Stop) -> None:
        """Follow every broker that leads partitions of the topic, until one fails or we are asked to stop."""
        leaders = by_leader(consumer, self._positions)
        tasks = [asyncio.create_task(self._follow(consumer, leader, led)) for leader, led in leaders.items()]
        tasks.append(asyncio.create_task(_until(stop)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(*tasks)

    async def _follow(self, consumer: KafkaConsumer, leader: int, led: list[TopicPartition]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self.fan_out.queued_records > MAX_QUEUED_RECORDS:
                await asyncio.sleep(QUEUE_PAUSE_S)
                continue
            if self._to_catch_up:
                self._judge_caught_up(self._to_catch_up)
            try:
                found = await fetch(consumer, leader, {partition: self._positions[partition] for partition in led})
            except OffsetOutOfRangeError:
                await self._seek_to_earliest(consumer)
                continue
            self._backoff.reset()
            for partition, records in found.items():
                self._positions[partition] = records[-1].offset + 1
                batch = [
                    Record(self.content, record.key.decode("utf-8", "replace"), record.value, record.timestamp)
                    for record in records
                    if record.key is not None and record.value is not None
                ]
                # After the next fetch is out: the two threads would else fight for the interpreter at each send.
                loop.call_soon(self.fan_out.offer, batch)

    def _judge_caught_up(self, ends: dict[TopicPartition, int]) -> None:
        if all(self._positions[partition] >= end for partition, end in ends.items()):
            self._to_catch_up = {}
            # Behind the batches that are still to be passed on: these may hold the only record of a symbol.
            asyncio.get_running_loop().call_soon(self.on_caught_up, self.topic)

    async def _seek_to_earliest(self, consumer: KafkaConsumer) -> None:
        """Records have expired before they were read."""
        starts: Mapping[TopicPartition, int] = await consumer.beginning_offsets(list(self._positions))
        ends = await consumer.end_offsets(list(self._positions))
        # A log that was cut may end before the place up to which it was to be read first.
        self._to_catch_up = dict(ends) if self._to_catch_up else self._to_catch_up
        for partition, offset in self._positions.items():
            if not starts[partition] <= offset <= ends[partition]:
                self._positions[partition] = starts[partition]
                log.warning("log_expired", topic=self.topic, partition=partition.partition, position=offset)
                self._report_lost()

    def _report_lost(self) -> None:
        LOST.labels(self.topic).inc()
        self.fan_out.call(lambda: self.hub.on_lost(self.content, self.clock.now_ms()))


async def _until(stop: Stop) -> None:
    await stop.wait()
