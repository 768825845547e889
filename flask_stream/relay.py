"""From Kafka to the fan-out thread: every replica reads every partition, from a little before now.

There is no checkpoint: what a viewer needs is a snapshot and what follows. The broker away: wait, the clients
stay. Records expired before they were read: go on from the earliest, and the channels concerned start anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Counter

from flask_stream.fan_out import FanOut
from flask_stream.hub import Hub, Record
from flask_stream.names import Content
from flask_stream.settings import StreamSettings
from market.topics import Topics
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
from runtime.lifecycle import Stop
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
}
MAX_BATCH_RECORDS: Final = 2_000
MAX_QUEUED_RECORDS: Final = 20_000
GET_TIMEOUT_MS: Final = 200
#: Fetched together, records cost less; this is what each may wait for others.
BATCH_PAUSE_S: Final = 0.005
QUEUE_PAUSE_S: Final = 0.01
PROBE_AFTER_S: Final = 3.0
PROBE_TIMEOUT_S: Final = 5.0

LOST: Final = Counter("relay_log_expired", "times that records expired before they were read", ["topic"])

log = get_logger(__name__)


class _TopicsChanged(Exception):
    """A topic was deleted and made again while the broker was away."""


@dataclass
class Relay:
    """Reads the topics until asked to stop."""

    settings: StreamSettings
    fan_out: FanOut
    hub: Hub
    health: Health
    clock: Clock
    topics: Topics = field(default_factory=load_topics)
    _states: dict[str, TopicState] = field(default_factory=dict)
    _positions: dict[TopicPartition, int] = field(default_factory=dict)
    _to_catch_up: dict[TopicPartition, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._contents = {
            self.topics.kline_1s.name: Content.SECOND,
            self.topics.candle.name: Content.CANDLE,
            self.topics.trade.name: Content.TRADE,
            self.topics.depth.name: Content.DEPTH,
            self.topics.depth20.name: Content.BOOK,
            self.topics.book_ticker.name: Content.BEST,
            self.topics.mini_ticker.name: Content.TICKER,
            self.topics.feed_outage.name: Content.FEED,
        }
        self._backoff = Backoff(new_random(), first_delay_s=0.2, max_delay_s=2.0)

    async def run(self, stop: Stop) -> None:
        """The loop around connections to the broker."""
        while not stop.is_set:
            consumer = new_consumer(self.settings.kafka_bootstrap_servers, "flask_stream")
            try:
                if await self._begin(consumer, stop):
                    await self._read(consumer, stop)
            except _TopicsChanged:
                log.warning("topics_made_again")
            except (KafkaError, OSError, TimeoutError) as error:
                delay_s = self._backoff.next_delay_s()
                self.health.set_problem("kafka", f"broker not usable: {error}")
                log.warning("broker_not_usable", error=str(error), retry_in_s=round(delay_s, 1))
                await stop.wait(delay_s)
            finally:
                await consumer.stop()

    async def _begin(self, consumer: KafkaConsumer, stop: Stop) -> bool:
        bootstrap = self.settings.kafka_bootstrap_servers
        states = await topic_states(bootstrap, self._contents, self.health, self._backoff, stop)
        if not states or not await start_when_ready(consumer, self.health, self._backoff, stop):
            return False
        made_again = {name for name, state in states.items() if self._is_other(self._states.get(name), state)}
        self._states = states
        partitions = partitions_of(states.values())
        consumer.assign(partitions)
        fresh = [p for p in partitions if p not in self._positions or p.topic in made_again]
        await self._seek_by_time(consumer, fresh)
        for partition in partitions:
            if partition not in fresh:
                consumer.seek(partition, self._positions[partition])
        for name in made_again:
            self._report_lost(name)
        if not self.hub.is_caught_up:
            self._to_catch_up = await consumer.end_offsets(partitions)
        log.info("reading", partitions=len(partitions))
        self.health.clear_problem("kafka")
        self.health.set_ready()
        return True

    def _is_other(self, known: TopicState | None, present: TopicState) -> bool:
        return known is not None and known.topic_id != present.topic_id

    async def _seek_by_time(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        now_ms = self.clock.now_ms()
        from_ms: dict[TopicPartition, int] = {}
        whole: list[TopicPartition] = []
        for partition in partitions:
            look_back_ms = LOOK_BACK_MS[self._contents[partition.topic]]
            if look_back_ms is None:
                whole.append(partition)
            else:
                from_ms[partition] = now_ms - look_back_ms
        ends = await consumer.end_offsets(partitions) if partitions else {}
        found = await consumer.offsets_for_times(from_ms) if from_ms else {}
        starts = await consumer.beginning_offsets(whole) if whole else {}
        for partition in partitions:
            at = found.get(partition)
            offset = starts[partition] if partition in starts else at.offset if at is not None else ends[partition]
            consumer.seek(partition, offset)
            self._positions[partition] = offset

    async def _read(self, consumer: KafkaConsumer, stop: Stop) -> None:
        heard_s = self.clock.monotonic_s()
        while not stop.is_set:
            if self.fan_out.queued_records > MAX_QUEUED_RECORDS:
                await asyncio.sleep(QUEUE_PAUSE_S)
                continue
            try:
                found = await consumer.getmany(timeout_ms=GET_TIMEOUT_MS, max_records=MAX_BATCH_RECORDS)
            except OffsetOutOfRangeError:
                await self._seek_to_earliest(consumer)
                continue
            if found:
                heard_s = self.clock.monotonic_s()
                self._backoff.reset()
                for partition, records in found.items():
                    self._positions[partition] = records[-1].offset + 1
                    content = self._contents[partition.topic]
                    self.fan_out.offer(
                        [
                            Record(content, record.key.decode("utf-8", "replace"), record.value, record.timestamp)
                            for record in records
                            if record.key is not None and record.value is not None
                        ]
                    )
                await asyncio.sleep(BATCH_PAUSE_S)
            elif self.clock.monotonic_s() - heard_s > PROBE_AFTER_S:
                await self._probe(consumer, stop)
                heard_s = self.clock.monotonic_s()
            if self._to_catch_up:
                self._judge_caught_up()

    def _judge_caught_up(self) -> None:
        if all(self._positions[partition] >= end for partition, end in self._to_catch_up.items()):
            self._to_catch_up = {}
            self.fan_out.call(self._set_caught_up)

    def _set_caught_up(self) -> None:
        self.hub.is_caught_up = True

    async def _seek_to_earliest(self, consumer: KafkaConsumer) -> None:
        """Records have expired before they were read."""
        starts: Mapping[TopicPartition, int] = await consumer.beginning_offsets(list(self._positions))
        ends = await consumer.end_offsets(list(self._positions))
        for partition, offset in self._positions.items():
            if not starts[partition] <= offset <= ends[partition]:
                consumer.seek(partition, starts[partition])
                self._positions[partition] = starts[partition]
                log.warning("log_expired", topic=partition.topic, partition=partition.partition, position=offset)
                self._report_lost(partition.topic)

    def _report_lost(self, topic: str) -> None:
        content = self._contents[topic]
        LOST.labels(topic).inc()
        self.fan_out.call(lambda: self.hub.on_lost(content, self.clock.now_ms()))

    async def _probe(self, consumer: KafkaConsumer, stop: Stop) -> None:
        """Nothing came for a while: is the broker there? The driver itself retries without a word.

        After an outage the topics are looked at again, for they may have been made anew.
        """
        try:
            await asyncio.wait_for(consumer.end_offsets(list(self._positions)), PROBE_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError) as error:
            self.health.set_problem("kafka", f"broker not reachable: {error!r}")
            log.warning("broker_not_reachable", error=repr(error))
            states = await topic_states(
                self.settings.kafka_bootstrap_servers, self._contents, self.health, self._backoff, stop
            )
            if any(self._is_other(self._states.get(name), state) for name, state in states.items()):
                raise _TopicsChanged from error
            log.info("broker_is_back")
