"""The broker: the only code that imports its driver. Topics come from kafka/topics.toml, never from a literal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiokafka import AIOKafkaConsumer as KafkaConsumer
from aiokafka import AIOKafkaProducer as KafkaProducer
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError

from market.topics import Topics, parse_topics
from runtime.health import Health
from runtime.lifecycle import Stop
from runtime.logs import get_logger
from runtime.retry import Backoff
from runtime.topic_state import TopicState, describe

TOPICS_FILE = Path(__file__).resolve().parent.parent / "kafka" / "topics.toml"
REQUEST_TIMEOUT_MS = 10_000
METADATA_MAX_AGE_MS = 30_000
FETCH_MAX_WAIT_MS = 500
FETCH_MAX_BYTES = 16 * 1024 * 1024
#: Small, so that the next fetch is under way while this one is read: with 4 MB catch-up took a third longer.
PARTITION_FETCH_BYTES = 1024 * 1024

__all__ = [
    "ConsumerRecord",
    "KafkaConnectionError",
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "OffsetOutOfRangeError",
    "TopicPartition",
    "TopicState",
    "load_topics",
    "new_consumer",
    "new_producer",
    "partitions_of",
    "start_when_ready",
    "topic_states",
    "topic_states_now",
]

log = get_logger(__name__)


def load_topics(path: Path = TOPICS_FILE) -> Topics:
    """The declared topics."""
    return parse_topics(path.read_text("utf-8"))


def new_producer(bootstrap_servers: str, client_id: str, *, linger_ms: int = 5) -> KafkaProducer:
    """An idempotent producer, acks=all. Not started."""
    return KafkaProducer(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )


def new_consumer(bootstrap_servers: str, client_id: str, *, group_id: str | None = None) -> KafkaConsumer:
    """A consumer for static assignment: no automatic commit, no reset behind our back. Not started.

    With auto_offset_reset "none" a position outside the log raises OffsetOutOfRangeError from getmany.
    """
    return KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        fetch_max_bytes=FETCH_MAX_BYTES,
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )


async def start_when_ready(client: KafkaConsumer | KafkaProducer, health: Health, backoff: Backoff, stop: Stop) -> bool:
    """Start the client, waiting for the broker as long as it takes. False when asked to stop meanwhile."""
    logged = ""
    while not stop.is_set:
        try:
            await client.start()
        except (KafkaConnectionError, KafkaError, OSError) as error:
            delay_s = backoff.next_delay_s()
            health.set_problem("kafka", f"broker not reachable: {error}")
            if str(error) != logged:
                log.warning("broker_not_reachable", error=str(error))
                logged = str(error)
            await stop.wait(delay_s)
        else:
            backoff.reset()
            health.clear_problem("kafka")
            return True
    return False


async def topic_states(
    bootstrap_servers: str, topic_names: Iterable[str], health: Health, backoff: Backoff, stop: Stop
) -> dict[str, TopicState]:
    """State of all the topics, waiting until the broker is there and every topic exists.

    Empty when asked to stop meanwhile.
    """
    names = sorted(topic_names)
    while not stop.is_set:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="topic_states")
        try:
            await admin.start()
            found = await describe(admin, names)
            missing = [name for name in names if name not in found]
            reason = f"waiting for topics {', '.join(missing)}" if missing else ""
        except (KafkaError, OSError) as error:
            found, reason = {}, f"broker not reachable: {error}"
        finally:
            await admin.close()
        if not reason:
            backoff.reset()
            health.clear_problem("kafka")
            return found
        health.set_problem("kafka", reason)
        await stop.wait(backoff.next_delay_s())
    return {}


async def topic_states_now(bootstrap_servers: str, topic_names: list[str]) -> dict[str, TopicState]:
    """State of those of the topics that exist, asked once. Raises KafkaError or OSError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="topic_states")
    try:
        await admin.start()
        return await describe(admin, topic_names)
    finally:
        await admin.close()


def partitions_of(states: Iterable[TopicState]) -> list[TopicPartition]:
    """Every partition of the topics."""
    return [TopicPartition(state.name, partition) for state in states for partition in state.partitions]
