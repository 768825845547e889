"""What operators ask of the inserter: dead letters to try again, a checkpoint to set back.

Done between two batches by the loop itself, so there is one writer. A letter and the row that it becomes are one
transaction; the new checkpoint, its epoch and the finished request are another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from inserter.batch import Batch, BatchBuilder
from inserter.positions import Positions
from inserter.postgres_store import PostgresStore
from inserter.write import Writer
from market.binance_codec import decode_envelope, decode_event
from market.depth import MiniTicker
from market.errors import MarketError
from market.interval import Interval
from market.kline import Kline
from market.record_codec import encode_record
from market.topics import Topics
from runtime.clock import Clock
from runtime.database import AsyncConnection, TupleRow
from runtime.errors import Unusable
from runtime.kafka_client import ConsumerRecord, KafkaConsumer, TopicPartition
from runtime.operations.perform import SOME_LETTERS, letters
from runtime.operations.requests import NotDone, Request, finish_async, next_waiting_async
from runtime.operations.rewind import DEADLINE_S, Rewind, targets_of

ACTIONS: Final = ("redrive", "reset_checkpoint")
LOOK_EVERY_S: Final = 2.0
#: In one request, read in pages; what is left is for the next one.
MAX_LETTERS: Final = 5_000
PAGE_LETTERS: Final = 100
MAX_REASONS: Final = 5
LETTERS: Final = f"""
select id, topic, partition, record_offset, payload, (extract(epoch from received_at) * 1000)::bigint
from dead_letter where id in ({SOME_LETTERS}) order by id
"""
REMOVE_LETTER: Final = "delete from dead_letter where id = %s"


class CheckpointMoved(Exception):
    """Reading must begin anew at the checkpoints."""


@dataclass(frozen=True)
class Letter:
    """A row of dead_letter. `offset` is None where the frame never reached Kafka: then `topic` is its stream."""

    letter_id: int
    topic: str
    partition: int
    offset: int | None
    payload: bytes
    received_at_ms: int


class Operator:
    """Serves the requests of one session. Everything of it is used by the loop alone."""

    def __init__(
        self, store: PostgresStore, connection: AsyncConnection[TupleRow], writer: Writer, positions: Positions
    ) -> None:
        self._store, self._connection = store, connection
        self._writer, self._positions = writer, positions
        self._next_look_s = 0.0

    async def serve(self, consumer: KafkaConsumer, topics: Topics, clock: Clock) -> None:
        """The requests that wait, looked for each LOOK_EVERY_S. Raises CheckpointMoved, and what the drivers raise."""
        if clock.monotonic_s() < self._next_look_s:
            return
        self._next_look_s = clock.monotonic_s() + LOOK_EVERY_S
        while request := await next_waiting_async(self._connection, ACTIONS):
            try:
                if request.action == "redrive":
                    detail = await self._redrive(request, topics, clock.now_ms())
                else:
                    await self._rewind(request, consumer, topics)
            except NotDone as error:
                await self._finish(request, "failed", str(error))
            else:
                await self._finish(request, "done", detail)

    async def _finish(self, request: Request, state: str, detail: str) -> None:
        async with self._connection.transaction():
            await finish_async(self._connection, request, state, detail)

    async def _rewind(self, request: Request, consumer: KafkaConsumer, topics: Topics) -> None:
        """Always ends this session, or raises NotDone."""
        topic = str(request.arguments["topic"])
        allowed = [t.name for t in (topics.kline_1s, topics.kline_1m, topics.feed_outage, topics.mini_ticker)]
        if topic not in allowed:
            # Frames that never reached a topic of their own have no place in it: read twice, they are listed twice.
            raise NotDone(f"{topic!r} is not read, or not twice; allowed: {', '.join(allowed)}")
        positions = {p: position for p, position in self._positions.by_partition.items() if p.topic == topic}
        stored = {p.partition: position.stored_offset for p, position in positions.items()}
        async with asyncio.timeout(DEADLINE_S):
            rewind = Rewind(await targets_of(consumer, topic, stored, int(request.arguments["time"])))
        if not rewind.records:
            raise NotDone("the broker has no record from that time on that has been read already; it only goes back")
        async with self._store.transaction():
            epoch = await self._positions.rewind(
                self._store, {TopicPartition(topic, target.partition): target.offset for target in rewind.targets}
            )
            await finish_async(self._connection, request, "done", f"epoch {epoch}: {rewind.words()}")
        self._positions.rewound(epoch)
        raise CheckpointMoved(rewind.words())

    async def _redrive(self, request: Request, topics: Topics, now_ms: int) -> str:
        tried, stored, last_id, reasons = 0, 0, 0, dict[str, int]()
        while tried < MAX_LETTERS:
            async with self._connection.transaction():
                values = letters(request.arguments, PAGE_LETTERS, last_id)
                cursor = await self._connection.execute(LETTERS, values)
                found = [Letter(*row) for row in await cursor.fetchall()]
            if not found:
                break
            tried, last_id = tried + len(found), found[-1].letter_id
            for letter in found:
                try:
                    await self._store_letter(letter, topics, now_ms)
                    stored += 1
                except (NotDone, MarketError, Unusable) as error:
                    reason = str(error)[:200]
                    reasons[reason] = reasons.get(reason, 0) + 1
        if not tried:
            raise NotDone("there is no such dead letter")
        return f"{stored} of {tried} stored" + _words(reasons)

    async def _store_letter(self, letter: Letter, topics: Topics, now_ms: int) -> None:
        """The row and the end of the letter, or neither. Raises NotDone or MarketError, which say why it stays."""
        batch = batch_of(letter, topics, now_ms)
        self._require_past(batch)
        async with self._store.transaction():
            await self._writer.write(batch)
            if batch.dead_letters:
                raise NotDone(batch.dead_letters[0].reason)
            await self._connection.execute(REMOVE_LETTER, [letter.letter_id])

    def _require_past(self, batch: Batch) -> None:
        """Its seconds must lie below the watermark: one ahead would make a gap of all that comes in between."""
        for symbol, rows in batch.rows.items():
            watermark_ms = self._writer.watermark_ms(symbol)
            if watermark_ms is None or max(rows) >= watermark_ms:
                raise NotDone(f"{symbol} has not come so far yet: try again later")


def batch_of(letter: Letter, topics: Topics, now_ms: int) -> Batch:
    """What the letter's record would be now. Raises NotDone or MarketError when it is no better than it was."""
    record = _record_of(letter, topics, now_ms)
    builder = BatchBuilder(topics)
    builder.add(TopicPartition(record.topic, record.partition), [record], record.offset)
    batch = builder.batch
    # It has no place in the log any more: checkpoints stay where they are.
    batch.progress.clear()
    if batch.dead_letters:
        raise NotDone(batch.dead_letters[0].reason)
    if any(outage.to_time_ms is None for outage, _ in batch.outages):
        raise NotDone("it tells of an outage that began then; what became of it is known from later records")
    if not (batch.rows or batch.minutes or batch.tickers or batch.outages):
        raise NotDone("nothing is stored of such a record")
    return batch


def _record_of(letter: Letter, topics: Topics, now_ms: int) -> ConsumerRecord:
    if letter.offset is not None:
        read = (topics.kline_1s, topics.kline_1m, topics.feed_outage, topics.mini_ticker)
        if letter.topic not in [topic.name for topic in read]:
            raise NotDone(f"nothing is stored of topic {letter.topic}")
        return _record(letter.topic, letter.partition, letter.offset, letter.payload, now_ms)
    event = decode_event(letter.topic, decode_envelope(letter.payload).data, letter.received_at_ms)
    if isinstance(event, MiniTicker):
        name = topics.mini_ticker.name
    elif isinstance(event, Kline) and event.interval in (Interval.S1, Interval.M1) and event.is_closed:
        name = (topics.kline_1s if event.interval is Interval.S1 else topics.kline_1m).name
    else:
        raise NotDone(f"nothing is stored of a frame of {letter.topic[:80]}")
    return _record(name, 0, 0, encode_record(event), now_ms)


def _record(topic: str, partition: int, offset: int, value: bytes, timestamp_ms: int) -> ConsumerRecord:
    return ConsumerRecord(topic, partition, offset, timestamp_ms, 0, None, value, None, 0, len(value), ())


def _words(reasons: Mapping[str, int]) -> str:
    shown = sorted(reasons.items(), key=lambda item: -item[1])[:MAX_REASONS]
    return "".join(f"; {count} stay: {reason}" for reason, count in shown)
