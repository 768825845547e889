"""`candlewire topics`: what the broker holds."""

from __future__ import annotations

from typing import Any

from market.topics import Topics
from runtime.topic_logs import BrokerLogs


def topics_report(declared: Topics, logs: BrokerLogs, now_ms: int) -> dict[str, Any]:
    """Each topic with its kind and settings, and the age of the oldest record that can be read (None = empty)."""
    kinds = {topic.name: topic for topic in declared.all()}
    return {
        "topics": [
            {
                "topic": log.topic,
                "kind": str(kinds[log.topic].kind),
                "partitions": log.partitions,
                "retention_ms": log.retention_ms,
                "segment_ms": log.segment_ms,
                "measured_oldest_age_s": _age_s(log.oldest_ms, now_ms),
                "records": log.records,
                "writer": kinds[log.topic].writer,
                "readers": kinds[log.topic].readers,
            }
            for log in logs.topics
        ]
    }


def _age_s(moment_ms: int | None, now_ms: int) -> float | None:
    return None if moment_ms is None else max(0, now_ms - moment_ms) / 1000
