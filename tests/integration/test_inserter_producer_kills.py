"""The producer killed at its named points and started again: the same seconds come twice or not at all, and the
inserter's account is exact all the same."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runtime.clock import SystemClock
from runtime.exchange_rest import ExchangeRest
from runtime.kafka_client import TopicPartition, load_topics, new_consumer, topic_states_now
from tests.chaos.account import Account, take_account
from tests.conftest import Engines
from tests.producer_process import DEADLINE_S, RoomProcess, SimProcess
from tests.stack_process import wait_for

ACKED = 'produce_records_total{topic="kline_1s"}'
SYMBOLS = 5
SECONDS_BETWEEN = 2
POINTS = ("producer_after_frame", "producer_before_send", "producer_after_send", "producer_after_ack")
REST_WEIGHT_PER_MINUTE = 5000


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[SimProcess]:
    with SimProcess(tmp_path / "sim.log", tmp_path, SIM_SYMBOLS="400") as process:
        process.wait_ready()
        yield process


async def ends_now(engines: Engines) -> dict[TopicPartition, tuple[uuid.UUID, int]]:
    """Topic id and log end of every partition that the inserter reads."""
    topics = load_topics()
    read = (topics.kline_1s, topics.kline_1m, topics.feed_outage, topics.mini_ticker, topics.dead_frame)
    states = await topic_states_now(engines.kafka_bootstrap_servers, [topic.name for topic in read])
    partitions = [TopicPartition(name, number) for name, state in states.items() for number in state.partitions]
    consumer = new_consumer(engines.kafka_bootstrap_servers, "test")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return {partition: (states[partition.topic].topic_id, end) for partition, end in ends.items()}


def start_here(engines: Engines, database_url: str) -> None:
    """Checkpoints at the present ends of the topics: what other tests have left there is not ours."""
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into kline_checkpoint (topic, partition, topic_id, next_offset, epoch) values (%s, %s, %s, %s, 1)",
            [(*partition, *end) for partition, end in asyncio.run(ends_now(engines)).items()],
        )


def is_read(engines: Engines, database_url: str) -> bool:
    """Whether the checkpoints have come to the ends of the topics."""
    ends = asyncio.run(ends_now(engines))
    with psycopg.connect(database_url) as connection:
        stored = connection.execute("select topic, partition, next_offset from kline_checkpoint").fetchall()
    return all(next_offset >= ends[TopicPartition(topic, number)][1] for topic, number, next_offset in stored)


def account_of(database_url: str, sim: SimProcess) -> Account:
    rest = ExchangeRest([sim.addresses["EXCHANGE_REST_URL"]], SystemClock(), REST_WEIGHT_PER_MINUTE)
    with psycopg.connect(database_url) as connection:
        return take_account(connection, rest)


def test_a_producer_killed_at_each_point_leaves_no_second_unaccounted(
    engines: Engines, fresh_database: str, sim: SimProcess, tmp_path: Path
) -> None:
    start_here(engines, fresh_database)
    orders = tmp_path / "orders"
    shared = {**engines.environment, "DATABASE_URL": fresh_database, "DATA_DIR": str(tmp_path)}
    variables = {**shared, **sim.addresses, "CRASH_ORDERS": str(orders), "STREAMS": "kline_1s"}
    with RoomProcess("inserter", tmp_path / "inserter.log", shared) as inserter:
        inserter.wait_ready()
        for point in (*POINTS, ""):
            with RoomProcess("producer", tmp_path / f"producer_{point}.log", variables) as producer:
                producer.wait_metric(ACKED, SECONDS_BETWEEN * SYMBOLS)
                if point:
                    orders.write_text(point, "utf-8")
                    producer.wait_killed()
        wait_for("everything to be read", lambda: is_read(engines, fresh_database), DEADLINE_S)
    account = account_of(fresh_database, sim)
    assert (account.unflagged, account.double, account.phantom) == ([], [], []), str(account)
    assert account.symbols == SYMBOLS
    assert account.rows >= SYMBOLS * SECONDS_BETWEEN * (len(POINTS) + 1)
