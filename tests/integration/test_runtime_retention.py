"""What is said of retention, held against a real broker: three settings, busy and idle, all at the same time.

It takes as long as records live. The predictions may be off by one check interval, which is the promise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from runtime.clock import SystemClock
from runtime.kafka_client import KafkaProducer, new_producer
from runtime.retention import Bounds, expected_age_s, flow_of, oldest_age_s, predicted, rules_of
from runtime.topic_logs import BrokerLogs, TopicLog, read_logs
from tests.broker_process import BrokerProcess

CHECK_MS = 2_000
CHECK_S = CHECK_MS / 1000
SAMPLE_S = 0.5
WEEK_MS = 604_800_000
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """One of the three; `payload_bytes` a record, RECORDS_PER_SECOND of them where the topic is busy."""

    name: str
    retention_ms: int
    segment_ms: int
    segment_bytes: int
    payload_bytes: int


RECORDS_PER_SECOND = 5
SETTINGS = (
    Setting("short", 4_000, 1_000, 16 * MIB, 200),
    Setting("longer", 6_000, 3_000, 16 * MIB, 200),
    # Segments end by their size alone: 1 MiB at 0.5 MiB/s is two seconds.
    Setting("by_size", 4_000, WEEK_MS, MIB, MIB // 10),
)
#: Every busy topic has deleted by then, and is watched for some checks more.
WARM_UP_S = max(setting.retention_ms + min(setting.segment_ms, 3_000) for setting in SETTINGS) / 1000 + CHECK_S
WATCH_S = 3 * CHECK_S


@dataclass
class Samples:
    """What was seen of a topic: (since the start, its log, its oldest age), newest last; None = empty."""

    seen: list[tuple[float, TopicLog, float | None]] = field(default_factory=list)

    def ages(self, after_s: float) -> list[float]:
        return [age for at_s, _, age in self.seen if at_s > after_s and age is not None]

    def widest_s(self) -> float:
        """The longest time in which nobody looked; a machine that is late looks late, and deletes late."""
        times = [at_s for at_s, _, _ in self.seen]
        return max(later - earlier for earlier, later in pairwise(times))


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[BrokerProcess]:
    with BrokerProcess(tmp_path, CHECK_MS) as running:
        admin = AIOKafkaAdminClient(bootstrap_servers=running.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([_new(setting, kind) for setting in SETTINGS for kind in ("busy", "idle")])
        finally:
            await admin.close()
        yield running


def _new(setting: Setting, kind: str) -> NewTopic:
    wanted = {
        "retention.ms": str(setting.retention_ms),
        "segment.ms": str(setting.segment_ms),
        "segment.bytes": str(setting.segment_bytes),
        "message.timestamp.type": "LogAppendTime",
    }
    return NewTopic(f"{setting.name}_{kind}", 1, 1, topic_configs=wanted)


async def _keep_busy(producer: KafkaProducer) -> None:
    while True:
        for setting in SETTINGS:
            await producer.send(f"{setting.name}_busy", bytes(setting.payload_bytes))
        await asyncio.sleep(1 / RECORDS_PER_SECOND)


async def _watch(bootstrap_servers: str, samples: dict[str, Samples]) -> BrokerLogs:
    clock = SystemClock()
    started_s = clock.monotonic_s()
    while True:
        logs = await read_logs(bootstrap_servers, samples)
        at_s, now_ms = clock.monotonic_s() - started_s, clock.now_ms()
        for log in logs.topics:
            age = None if log.oldest_ms is None else (now_ms - log.oldest_ms) / 1000
            samples[log.topic].seen.append((at_s, log, age))
        if at_s > WARM_UP_S + WATCH_S:
            return logs
        await asyncio.sleep(SAMPLE_S)


async def test_the_oldest_record_is_as_old_as_predicted_busy_and_idle(broker: BrokerProcess) -> None:
    samples = {f"{setting.name}_{kind}": Samples() for setting in SETTINGS for kind in ("busy", "idle")}
    producer = new_producer(broker.bootstrap_servers, "test", linger_ms=0)
    await producer.start()
    try:
        for setting in SETTINGS:
            await producer.send_and_wait(f"{setting.name}_idle", bytes(setting.payload_bytes))
        work = asyncio.create_task(_keep_busy(producer))
        logs = await _watch(broker.bootstrap_servers, samples)
        work.cancel()
    finally:
        await producer.stop()
    assert logs.check_interval_ms == CHECK_MS
    now_ms = SystemClock().now_ms()
    for setting in SETTINGS:
        _busy_is_as_predicted(samples[f"{setting.name}_busy"], setting, now_ms)
        _idle_is_as_predicted(samples[f"{setting.name}_idle"], setting, now_ms)


def _busy_is_as_predicted(samples: Samples, setting: Setting, now_ms: int) -> None:
    log = samples.seen[-1][1]
    assert (log.retention_ms, log.segment_ms, log.segment_bytes) == (
        setting.retention_ms,
        setting.segment_ms,
        setting.segment_bytes,
    )
    rules, flow = rules_of(log, CHECK_MS), flow_of(log, CHECK_MS, now_ms)
    assert not flow.is_idle
    expected: Bounds = expected_age_s(rules, flow)
    ages = samples.ages(WARM_UP_S)
    assert expected.most is not None
    told = f"{setting.name}: predicted {expected}, seen {min(ages):.1f} to {max(ages):.1f} s"
    slack_s = CHECK_S + samples.widest_s()
    assert expected.least - CHECK_S <= min(ages), told
    # Just before a check the oldest is as old as it gets: the prediction is not only safe, it is near.
    assert expected.most - slack_s <= max(ages) <= expected.most + slack_s, told
    bound = oldest_age_s(rules, idle=False)
    assert predicted(log, CHECK_MS, now_ms) == {"min": bound.least, "max": bound.most}


def _idle_is_as_predicted(samples: Samples, setting: Setting, now_ms: int) -> None:
    log = samples.seen[-1][1]
    assert log.records == 0, f"{setting.name}: an idle topic empties, its newest segment too"
    found = predicted(log, CHECK_MS, now_ms)
    assert found["min"] == 0
    oldest = max(samples.ages(0))
    # The one record is first and newest of its segment: it goes at the first look after retention.ms.
    slack_s = samples.widest_s()
    assert setting.retention_ms / 1000 - slack_s <= oldest <= setting.retention_ms / 1000 + 2 * CHECK_S + slack_s
    assert found["max"] is not None
    assert oldest <= found["max"] + slack_s
