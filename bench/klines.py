"""Closed 1 s klines made up for a benchmark, and the way to the topic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from market.interval import SECOND_MS, Interval
from market.kline import Kline
from market.record_codec import encode_record
from runtime.clock import SystemClock, new_random
from runtime.health import Health
from runtime.kafka_batches import open_batches, partition_of
from runtime.kafka_client import load_topics
from runtime.lifecycle import Stop
from runtime.retry import Backoff

TRADES_A_SECOND = 3
SEED = 1


@dataclass(frozen=True)
class Outgoing:
    """A record on its way to Kafka."""

    key: bytes
    value: bytes
    received_at_ms: int


def made_up(symbols: int, seconds: int, first_open_ms: int) -> Iterator[Kline]:
    """`symbols` x `seconds` klines in the order of a live feed, with chained trade ids and walking prices."""
    random = new_random(SEED)
    prices = [random.randint(1_000, 9_000_000) for _ in range(symbols)]
    for second in range(seconds):
        open_time_ms = first_open_ms + second * SECOND_MS
        for number in range(symbols):
            before = prices[number]
            prices[number] = after = max(100, before + random.randint(-50, 50))
            volume = random.randint(1, 999_999)
            yield Kline(
                symbol=f"BENCH{number:04}USDT",
                interval=Interval.S1,
                open_time_ms=open_time_ms,
                close_time_ms=open_time_ms + SECOND_MS - 1,
                open=Decimal(before).scaleb(-2),
                high=Decimal(max(before, after) + 3).scaleb(-2),
                low=Decimal(min(before, after) - 3).scaleb(-2),
                close=Decimal(after).scaleb(-2),
                base_volume=Decimal(volume).scaleb(-5),
                quote_volume=Decimal(volume * after).scaleb(-7),
                trade_count=TRADES_A_SECOND,
                taker_buy_base_volume=Decimal(volume // 2).scaleb(-5),
                taker_buy_quote_volume=Decimal(volume // 2 * after).scaleb(-7),
                first_trade_id=second * TRADES_A_SECOND,
                last_trade_id=second * TRADES_A_SECOND + TRADES_A_SECOND - 1,
                is_closed=True,
                event_time_ms=open_time_ms + SECOND_MS + 20,
                received_at_ms=open_time_ms + SECOND_MS + 25,
            )


async def send(bootstrap_servers: str, klines: list[Kline]) -> None:
    """All klines to their topic, in order, acknowledged."""
    topic = load_topics().kline_1s
    backoff = Backoff(new_random(SEED))
    producer = await open_batches(bootstrap_servers, "bench", Health("bench"), backoff, Stop())
    if producer is None:
        raise RuntimeError("the broker went away")
    count = await producer.partition_count(topic.name)
    queues: list[list[Outgoing]] = [[] for _ in range(count)]
    for kline in klines:
        key = kline.symbol.encode()
        queues[partition_of(key, count)].append(Outgoing(key, encode_record(kline), kline.received_at_ms))
    for partition, queue in enumerate(queues):
        sent = 0
        while sent < len(queue):
            taken, acknowledged = await producer.submit(topic.name, partition, queue[sent : sent + 5_000])
            await acknowledged
            sent += taken
    await producer.close(5.0)


def past_open_ms(seconds: int) -> int:
    """Open time of a kline such that `seconds` of them end now."""
    now_ms = SystemClock().now_ms()
    return now_ms - now_ms % SECOND_MS - seconds * SECOND_MS
