"""How the readers keep up, asked from the broker within a bound and kept for a moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings

from runtime.clock import SystemClock
from runtime.settings import split_list
from webapp.ledger_selectors import checkpoints, feed_state
from webapp.verdict import Reader, verdict

BROKER_DEADLINE_S: Final = 2.0
KEEP_MS: Final = 2_000
CLOCK: Final = SystemClock()


class StatusCache:
    """The newest status; one request at a time asks the broker, the others get what is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at_ms = 0
        self._body: dict[str, Any] = {}

    def get(self) -> dict[str, Any]:
        """The status, at most KEEP_MS old (plus the time of the asking)."""
        with self._lock:
            if CLOCK.now_ms() - self._asked_at_ms >= KEEP_MS:
                self._body = _status()
                self._asked_at_ms = CLOCK.now_ms()
            return self._body


def _status() -> dict[str, Any]:
    readers, broker_error = _readers()
    streams = split_list(settings.ROOM.streams)
    word, reason = verdict(feed_state() | {"has_seconds": "kline_1s" in streams}, readers, broker_error)
    return {"verdict": word, "reason": reason, "readers": readers}


def _readers() -> tuple[list[Reader], str | None]:
    # Imported here: the broker's driver takes memory that most processes of this room never need.
    from runtime.kafka_client import KafkaError, load_topics
    from runtime.topic_progress import read_progress

    offsets: Mapping[tuple[str, int], int] = {
        (row["topic"], row["partition"]): row["next_offset"] for row in checkpoints()
    }
    if not offsets:
        return [], None
    error: str | None = None
    progress = {}
    try:
        progress = asyncio.run(read_progress(settings.ROOM.kafka_bootstrap_servers, offsets, BROKER_DEADLINE_S))
    except (KafkaError, OSError, TimeoutError) as failure:
        error = str(failure) or type(failure).__name__
    override_ms = settings.ROOM.kafka_retention_ms
    retention_ms = {topic.name: override_ms or topic.retention_ms for topic in load_topics().all()}
    now_ms = CLOCK.now_ms()
    readers = []
    for (topic, partition), next_offset in offsets.items():
        lag: int | None = None
        age_s: float | None = None
        headroom_s: float | None = None
        state = progress.get((topic, partition))
        kept_s = retention_ms[topic] / 1000 if topic in retention_ms else None
        if state is not None:
            lag = max(0, state.log_end_offset - next_offset)
            if lag == 0:
                age_s = 0.0
            elif state.next_timestamp_ms is not None:
                age_s = round(max(0, now_ms - state.next_timestamp_ms) / 1000, 3)
            if next_offset < state.log_start_offset:
                headroom_s = 0.0
            elif age_s is not None and kept_s is not None:
                headroom_s = kept_s - age_s
        readers.append(
            Reader(
                room="inserter",
                topic=topic,
                partition=partition,
                lag_records=lag,
                lag_seconds=age_s,
                headroom_seconds=headroom_s,
            )
        )
    return readers, error
