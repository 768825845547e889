"""Bring the broker's topics to what kafka/topics.toml says, and show every difference that was found.

`python -m runtime.topic_admin apply` waits for the broker, compares, creates and alters, prints one line per
change and exits with 0. Partitions can only grow; a shrink is shown and left, with exit code 1.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, LeaderNotAvailableError, TopicAlreadyExistsError, for_code
from pydantic import Field

from market.topics import Topic, Topics
from runtime import topic_state
from runtime.kafka_client import load_topics
from runtime.settings import KafkaSettings, load

WAIT_FOR_BROKER_S = 60
RETRY_S = 0.5
CREATE_WAIT_S = 30
CREATE_POLL_S = 0.05


class TopicSettings(KafkaSettings):
    """What overrides kafka/topics.toml for one run."""

    kafka_retention_ms: int | None = Field(None, ge=1_000, description="retention of every topic, this run")
    kafka_segment_ms: int | None = Field(None, ge=1_000, description="segment.ms of every topic, this run")


@dataclass(frozen=True)
class Difference:
    """One setting that stands otherwise on the broker than in the file."""

    topic: str
    setting: str
    on_broker: str | None
    wanted: str
    altered: bool

    def __str__(self) -> str:
        what = "altered" if self.altered else "CANNOT BE ALTERED"
        if self.on_broker is None and self.altered:
            return f"{self.topic}: new, made with {self.wanted}"
        return f"{self.topic}: {self.setting} is {self.on_broker or 'not there'}, wanted {self.wanted} ({what})"


def wanted_config(topic: Topic, settings: TopicSettings) -> dict[str, str]:
    """Topic settings at the broker. Times are the broker's own (LogAppendTime), so that a replayed record
    is not born expired (reliability.md 1.6)."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(settings.kafka_retention_ms or topic.retention_ms),
        "segment.ms": str(settings.kafka_segment_ms or topic.segment_ms),
        "segment.bytes": str(topic.segment_bytes),
        "message.timestamp.type": "LogAppendTime",
    }


async def read_configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Every setting of the named topics, as the broker has them now."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for resource in response.to_object()["resources"]:
            found[resource["resource_name"]] = {
                entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]
            }
    return found


async def retention_now(bootstrap_servers: str, names: list[str]) -> dict[str, int]:
    """retention.ms of the named topics, which exist, as the broker has it. Raises KafkaError or OSError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="retention")
    try:
        await admin.start()
        configs = await read_configs(admin, names) if names else {}
    finally:
        await admin.close()
    return {name: int(config["retention.ms"]) for name, config in configs.items()}


async def apply(admin: AIOKafkaAdminClient, topics: Topics, settings: TopicSettings) -> list[Difference]:
    """Create what is missing, alter what differs; returns what was found different."""
    declared = {topic.name: topic for topic in topics.all()}
    standing = await topic_state.describe(admin, list(declared))
    missing = [name for name in declared if name not in standing]
    differences = [await _create(admin, declared[name], settings) for name in missing]
    await _wait_until_standing(admin, missing)
    present = [name for name in declared if name in standing]
    configs = await read_configs(admin, present) if present else {}
    for name in present:
        wanted = wanted_config(declared[name], settings)
        changes = _compare(name, configs[name], wanted)
        if changes and not await _alter(admin, name, wanted):
            changes = [replace(change, altered=False) for change in changes]
        differences += changes
        differences += await _grow(admin, declared[name], len(standing[name].partitions))
    return differences


async def _wait_until_standing(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """What was just made has a leader soon; who asks before finds it missing. Raises KafkaError after CREATE_WAIT_S."""
    deadline_s = asyncio.get_running_loop().time() + CREATE_WAIT_S
    while names and (waiting := set(names) - (await topic_state.describe(admin, names)).keys()):
        if asyncio.get_running_loop().time() > deadline_s:
            raise LeaderNotAvailableError(f"no leader after {CREATE_WAIT_S} s: {', '.join(sorted(waiting))}")
        await asyncio.sleep(CREATE_POLL_S)


async def _create(admin: AIOKafkaAdminClient, topic: Topic, settings: TopicSettings) -> Difference:
    new = NewTopic(topic.name, topic.partitions, 1, topic_configs=wanted_config(topic, settings))
    response = await admin.create_topics([new])
    # The driver does not look at what the broker says of each topic.
    for _, code, message in response.topic_errors:
        if code == TopicAlreadyExistsError.errno:
            return Difference(topic.name, "topic", "being made by somebody else", "there", altered=True)
        if code:
            raise for_code(code)(f"{topic.name} cannot be made: {message}")
    return Difference(topic.name, "topic", None, f"{topic.partitions} partitions", altered=True)


async def alter_each(bootstrap_servers: str, wanted: Mapping[str, dict[str, str]]) -> tuple[list[str], str]:
    """Give each topic its settings, by name; returns the names of those that took them, and why the rest did not.

    An empty reason = none is left. Never raises for a broker that is away.
    """
    taken: list[str] = []
    reason = ""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id="topic_admin")
    try:
        await admin.start()
        for name, config in wanted.items():
            if await _alter(admin, name, config):
                taken.append(name)
            else:
                reason = f"the broker refuses the settings of {name}"
    except (KafkaError, OSError) as error:
        reason = f"the broker does not answer: {error}"
    finally:
        await admin.close()
    return taken, reason


async def _alter(admin: AIOKafkaAdminClient, name: str, wanted: dict[str, str]) -> bool:
    """True when the broker has taken the settings; what it says against them goes to stderr."""
    resource = ConfigResource(ConfigResourceType.TOPIC, name, wanted)
    taken = True
    for response in await admin.alter_configs([resource]):
        for code, message, *_ in response.resources:
            if code:
                sys.stderr.write(f"{name}: the broker refuses its settings: {message or for_code(code).__name__}\n")
                taken = False
    return taken


def _compare(name: str, on_broker: Mapping[str, str], wanted: Mapping[str, str]) -> list[Difference]:
    return [
        Difference(name, setting, on_broker.get(setting), value, altered=True)
        for setting, value in wanted.items()
        if on_broker.get(setting) != value
    ]


async def _grow(admin: AIOKafkaAdminClient, topic: Topic, standing: int) -> list[Difference]:
    if standing == topic.partitions:
        return []
    if standing < topic.partitions:
        await admin.create_partitions({topic.name: NewPartitions(topic.partitions)})
    grown = standing < topic.partitions
    return [Difference(topic.name, "partitions", str(standing), str(topic.partitions), altered=grown)]


async def apply_when_ready(settings: TopicSettings) -> list[Difference]:
    """Wait for the broker (at most WAIT_FOR_BROKER_S), then apply. Raises KafkaError when it never came."""
    deadline_s = asyncio.get_running_loop().time() + WAIT_FOR_BROKER_S
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers, client_id="topic_admin")
        try:
            await admin.start()
            return await apply(admin, load_topics(), settings)
        except (KafkaError, OSError):
            if asyncio.get_running_loop().time() > deadline_s:
                raise
            await asyncio.sleep(RETRY_S)
        finally:
            await admin.close()


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 = as wanted now, 1 = something could not be altered, 2 = usage."""
    if arguments != ["apply"]:
        sys.stderr.write("usage: python -m runtime.topic_admin apply\n")
        return 2
    differences = asyncio.run(apply_when_ready(load(TopicSettings)))
    for difference in differences:
        print(difference)
    return 0 if all(difference.altered for difference in differences) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
