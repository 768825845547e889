"""Changed candles to the candle topic, at least once.

The roll-up writes each changed candle's key to `candle_outbox` in its own transaction. Here pieces of the outbox
are read with their candles, sent, and removed once the broker has acknowledged them, unless a candle was marked
again meanwhile. A kill between sending and removing sends again; nothing is ever removed unsent.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from aggregator import sql
from market.interval import Interval
from market.kline import Candle, Source
from market.record_codec import encode_record
from runtime.database import Connection, TupleRow
from runtime.kafka_batches import close_producer
from runtime.kafka_client import KafkaError, KafkaProducer, load_topics, new_producer
from runtime.logs import get_logger

PIECE_CANDLES = 5_000
SEND_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 1.0

log = get_logger(__name__)


class BrokerAway(Exception):
    """The broker did not acknowledge in time; the outbox keeps everything."""


class Publisher:
    """A Kafka producer on an event loop of its own, for synchronous callers. Thread-safe."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = load_topics().candle.name
        self._loop = asyncio.new_event_loop()
        self._producer: KafkaProducer | None = None
        threading.Thread(target=self._loop.run_forever, name="candle-publisher", daemon=True).start()

    def send(self, candles: Sequence[Candle]) -> None:
        """Send and wait for the acknowledgements. Raises BrokerAway."""
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(self._send(candles), SEND_TIMEOUT_S), self._loop)
        try:
            future.result()
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerAway(f"{type(error).__name__} {error}".strip()) from error

    def close(self) -> None:
        """Stop the producer; what it could not send is still in the outbox."""
        with contextlib.suppress(KafkaError, TimeoutError):
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(CLOSE_TIMEOUT_S)

    async def _stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _send(self, candles: Sequence[Candle]) -> None:
        try:
            if self._producer is None:
                producer = new_producer(self._bootstrap_servers, "aggregator", linger_ms=0)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            futures = [
                await self._producer.send(self._topic, encode_record(candle), key=candle.symbol.encode())
                for candle in candles
            ]
            await asyncio.gather(*futures)
        except BaseException:
            # A producer that failed may hold records of this piece: the next try starts with a new one, and the
            # old one must not bring them after it.
            producer_left, self._producer = self._producer, None
            if producer_left is not None:
                self._closing = asyncio.create_task(close_producer(producer_left, CLOSE_TIMEOUT_S))
            raise


def publish(connection: Connection[TupleRow], publisher: Publisher) -> int:
    """Send what the outbox holds; returns the number of candles. Raises BrokerAway and what the driver raises."""
    row = connection.execute(sql.TRY_SESSION_LOCK, [sql.PUBLISH_LOCK]).fetchone()
    connection.commit()
    if row is None or not row[0]:
        return 0
    sent = 0
    try:
        while piece := _read(connection):
            publisher.send([candle for _, candle in piece if candle is not None])
            keys = [key for key, _ in piece]
            connection.execute(sql.CLEAR_OUTBOX, [list(column) for column in zip(*keys, strict=True)])
            connection.commit()
            sent += len(piece)
            if len(piece) < PIECE_CANDLES:
                break
    finally:
        if not connection.closed:
            connection.rollback()
            connection.execute(sql.UNLOCK, [sql.PUBLISH_LOCK])
            connection.commit()
    return sent


def _read(connection: Connection[TupleRow]) -> list[tuple[TupleRow, Candle | None]]:
    """Keys of a piece of the outbox, each with its candle."""
    rows = connection.execute(sql.READ_OUTBOX, [PIECE_CANDLES]).fetchall()
    connection.commit()
    return [(row[:4], to_candle(row[5:]) if row[4] else None) for row in rows]


def to_candle(values: Sequence[object]) -> Candle:
    """A row of sql.READ_OUTBOX, without its first five columns, as a candle."""
    named: dict[str, Any] = dict(zip(Candle.__struct_fields__, values, strict=True))
    return Candle(**{**named, "interval": Interval(named["interval"]), "source": Source(named["source"])})
