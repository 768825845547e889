"""A row for each declared topic: what is declared, what the broker has, what is measured, what is predicted."""

from __future__ import annotations

from collections.abc import Mapping

from market.topics import Topic
from runtime import retention
from runtime.broker_watch import BrokerFigures
from runtime.topic_admin import TopicSettings, wanted_config
from runtime.topic_logs import TopicLog
from webapp.operations import remedies
from webapp.operations.snapshot import Age, Difference, TopicRow

#: What the broker may be late: files are deleted by a thread of its own after the check.
LATE_S = 30.0
_PARTITIONS = "partitions"


class TopicRates:
    """Records that were appended to each topic between two rounds."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[float, int]] = {}

    def rate(self, topic: str, now_s: float, end_offsets_sum: int) -> float | None:
        """Records a second since the round before; None for the first, and when the log has begun anew."""
        before = self._ends.get(topic)
        self._ends[topic] = (now_s, end_offsets_sum)
        if before is None or now_s <= before[0] or end_offsets_sum < before[1]:
            return None
        return round((end_offsets_sum - before[1]) / (now_s - before[0]), 3)

    def forget(self) -> None:
        """The broker did not answer: the next round has nothing to compare with."""
        self._ends.clear()


def topic_row(
    topic: Topic, figures: BrokerFigures | None, settings: TopicSettings, rate: float | None, now_ms: int
) -> TopicRow:
    """One topic; `figures` None = the broker does not answer."""
    if figures is None:
        return TopicRow(topic=topic.name, kind=str(topic.kind))
    log = next((found for found in figures.logs.topics if found.topic == topic.name), None)
    if log is None:
        missing = [Difference("topic", "there", None)]
        return TopicRow(
            topic=topic.name,
            kind=str(topic.kind),
            differences=missing,
            state="bad",
            remedy=remedies.APPLY_TOPICS,
        )
    differences = differences_of(topic, log, figures.settings[topic.name], settings)
    check_ms = figures.logs.check_interval_ms
    rules = retention.rules_of(log, check_ms)
    idle = retention.is_idle(log, check_ms, now_ms)
    bounds = retention.oldest_age_s(rules, idle=idle)
    age_s = None if log.oldest_ms is None else round(max(0, now_ms - log.oldest_ms) / 1000, 3)
    is_late = age_s is not None and bounds.most is not None and age_s > bounds.most + LATE_S
    remedy = remedies.APPLY_TOPICS if differences else remedies.RETENTION if is_late else None
    return TopicRow(
        topic=topic.name,
        kind=str(topic.kind),
        partitions=log.partitions,
        records=log.records,
        bytes=log.bytes,
        records_per_second=rate,
        retention_ms=log.retention_ms,
        segment_ms=log.segment_ms,
        segment_bytes=log.segment_bytes,
        check_interval_ms=check_ms,
        measured_oldest_age_s=age_s,
        predicted_oldest_age_s=Age(bounds.least, bounds.most),
        formula=retention.formula(rules, idle=idle),
        differences=differences,
        state="bad" if remedy else "ok",
        remedy=remedy,
    )


def differences_of(
    topic: Topic, log: TopicLog, on_broker: Mapping[str, str], settings: TopicSettings
) -> list[Difference]:
    """Settings that stand otherwise at the broker than declared (this run's KAFKA_RETENTION_MS included)."""
    found = [
        Difference(name, wanted, on_broker.get(name))
        for name, wanted in wanted_config(topic, settings).items()
        if on_broker.get(name) != wanted
    ]
    if log.partitions != topic.partitions:
        found.append(Difference(_PARTITIONS, str(topic.partitions), str(log.partitions)))
    return found
