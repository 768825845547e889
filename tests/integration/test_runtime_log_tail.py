"""Fetches of the relay's own from a real broker: whole batches, their middle, and what a log refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from runtime.kafka_client import KafkaConsumer, KafkaError, OffsetOutOfRangeError, TopicPartition, new_consumer
from runtime.log_tail import by_leader, fetch
from tests import own_topics
from tests.conftest import Engines

TOPICS = own_topics.renamed("tailed")
PARTITION = TopicPartition(TOPICS.trade.name, 0)
OTHER = TopicPartition(TOPICS.trade.name, 1)
RECORDS = 700


@pytest.fixture
async def consumer(engines: Engines) -> AsyncIterator[KafkaConsumer]:
    """Of a topic with RECORDS packed records in its first partition, one in its second."""
    await own_topics.create(engines.kafka_bootstrap_servers, TOPICS)
    consumer = new_consumer(engines.kafka_bootstrap_servers, "tail")
    await consumer.start()
    if not (await consumer.end_offsets([PARTITION]))[PARTITION]:
        producer = AIOKafkaProducer(bootstrap_servers=engines.kafka_bootstrap_servers, compression_type="lz4")
        await producer.start()
        for number in range(RECORDS):
            await producer.send(PARTITION.topic, b"%d" % number, key=b"BTCUSDT", partition=0)
        await producer.send(PARTITION.topic, b"other", partition=1)
        await producer.stop()
    yield consumer
    await consumer.stop()


@pytest.mark.parametrize("start", [0, 333, RECORDS - 1])
async def test_every_record_from_the_position_on_comes_once(consumer: KafkaConsumer, start: int) -> None:
    (leader,) = by_leader(consumer, [PARTITION, OTHER])
    offsets: list[int] = []
    while not offsets or offsets[-1] < RECORDS - 1:
        position = offsets[-1] + 1 if offsets else start
        found = await fetch(consumer, leader, {PARTITION: position, OTHER: 1})
        assert set(found) == {PARTITION}
        assert all(record.value == b"%d" % record.offset for record in found[PARTITION])
        assert all(record.key == b"BTCUSDT" and record.timestamp > 0 for record in found[PARTITION])
        offsets += [record.offset for record in found[PARTITION]]
    assert offsets == list(range(start, RECORDS))


async def test_what_comes_in_two_partitions_is_told_apart(consumer: KafkaConsumer) -> None:
    (leader,) = by_leader(consumer, [PARTITION, OTHER])
    found = await fetch(consumer, leader, {PARTITION: RECORDS - 2, OTHER: 0})
    values = {partition.partition: [record.value for record in records] for partition, records in found.items()}
    assert values == {0: [b"%d" % (RECORDS - 2), b"%d" % (RECORDS - 1)], 1: [b"other"]}


async def test_a_position_outside_the_log_names_the_partition(consumer: KafkaConsumer) -> None:
    (leader,) = by_leader(consumer, [PARTITION])
    with pytest.raises(OffsetOutOfRangeError) as refused:
        await fetch(consumer, leader, {PARTITION: RECORDS + 1})
    assert refused.value.args[0] == {PARTITION: RECORDS + 1}


async def test_a_topic_that_is_gone_is_an_error_and_not_silence(consumer: KafkaConsumer) -> None:
    (leader,) = by_leader(consumer, [PARTITION])
    with pytest.raises(KafkaError, match="tailed_nothing/0"):
        await fetch(consumer, leader, {TopicPartition("tailed_nothing", 0): 0})
    with pytest.raises(KafkaError, match="no leader"):
        by_leader(consumer, [TopicPartition("tailed_nothing", 0)])
