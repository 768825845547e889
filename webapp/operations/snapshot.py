"""What /api/v1/operator says, in its own words: plain data, unknown is None and never 0.

`state` of a row: ok, bad or unknown. A bad row carries the remedy: the command that helps and its effect.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

State = Literal["ok", "bad", "unknown"]
Hop = Literal[
    "exchange_to_received", "received_to_kafka", "kafka_to_committed", "kafka_to_relayed", "relayed_to_painted"
]
EngineState = Literal["up", "down", "unknown"]
#: Audited minutes that are named; where there are so many, there may be more.
MAX_NEEDS_PERSON: Final = 20


class Remedy(msgspec.Struct, frozen=True):
    """The command that helps, and what it does."""

    command: str
    effect: str


class EngineRow(msgspec.Struct, frozen=True, kw_only=True):
    """Broker, database, Valkey or the exchange."""

    name: Literal["kafka", "postgres", "valkey", "exchange"]
    state: EngineState
    error: str | None = None


class Difference(msgspec.Struct, frozen=True):
    """A setting that stands otherwise at the broker than declared."""

    setting: str
    declared: str
    broker: str | None


class Age(msgspec.Struct, frozen=True):
    """Bounds in seconds; `max` None = without limit."""

    min: float
    max: float | None


class TopicRow(msgspec.Struct, frozen=True, kw_only=True):
    """One declared topic beside what the broker has and measures."""

    topic: str
    kind: str
    partitions: int | None = None
    records: int | None = None
    bytes: int | None = None
    records_per_second: float | None = None
    retention_ms: int | None = None
    segment_ms: int | None = None
    segment_bytes: int | None = None
    check_interval_ms: int | None = None
    measured_oldest_age_s: float | None = None
    predicted_oldest_age_s: Age | None = None
    formula: str | None = None
    differences: list[Difference] = []
    state: State = "unknown"
    remedy: Remedy | None = None


class ReaderRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far a room is behind on one partition.

    `headroom_seconds`: until the record at the checkpoint may be deleted; zero or less = it may be gone already.
    `headroom_trend`: seconds of headroom won (or lost, below 0) per second.
    """

    room: str
    topic: str
    partition: int
    checkpoint_offset: int
    log_start_offset: int | None = None
    log_end_offset: int | None = None
    lag_records: int | None = None
    lag_seconds: float | None = None
    headroom_seconds: float | None = None
    headroom_trend: float | None = None
    state: State = "unknown"
    remedy: Remedy | None = None

    @property
    def partition_name(self) -> str:
        """For people, and in subjects."""
        return f"{self.topic}/{self.partition}"


class RoomRow(msgspec.Struct, frozen=True, kw_only=True):
    """One process of ours. `restarts`: those that were seen since the figures are kept. `cpu_share`: of one core."""

    name: str
    state: State = "unknown"
    ready: bool | None = None
    reasons: list[str] = []
    started_at_ms: int | None = None
    restarts: int | None = None
    cpu_share: float | None = None
    memory_bytes: int | None = None
    last_error: str | None = None
    can_pause: bool = False
    is_paused: bool | None = None
    remedy: Remedy | None = None


class HopRow(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles of the last minutes; None = nothing passed; of the last hop: no chart page reported."""

    hop: Hop
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """What the relay counts."""

    clients: int | None = None
    queue_bytes: int | None = None
    conflated_total: int | None = None
    disconnects: dict[str, int] | None = None


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The file system of DATA_DIR. Less free than `low_bytes` is an alert."""

    path_label: str
    free_bytes: int | None = None
    total_bytes: int | None = None
    low_bytes: int | None = None


class OpenGaps(msgspec.Struct, frozen=True, kw_only=True):
    """Gaps that wait for their repair; `newest` as /api/v1/gaps gives them."""

    count: int | None = None
    seconds: float | None = None
    newest: list[dict[str, Any]] = []


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Minutes of the last 24 h by the result of their audit, and all that need a person, newest first, at most
    MAX_NEEDS_PERSON."""

    equal: int | None = None
    different: int | None = None
    not_comparable: int | None = None
    needs_person: list[dict[str, Any]] = []


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be used. `share`: the unusable part of what the inserter took in the last minutes."""

    count: int | None = None
    last_hour: int | None = None
    share: float | None = None
    newest: list[dict[str, Any]] = []


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the data themselves."""

    open_gaps: OpenGaps
    audit: Audit
    dead_letters: DeadLetters
    last_roll_up_at_ms: int | None
    books: list[dict[str, Any]]
    relay: Relay
    disk: Disk


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that stands, or stood: `recovered_at_ms` None = it stands. `id` None = not yet written down."""

    id: int | None
    condition: str
    subject: str
    message: str
    remedy: Remedy
    raised_at_ms: int
    recovered_at_ms: int | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All of one round."""

    taken_at_ms: int
    verdict: str
    reason: str
    source: str
    engines: list[EngineRow]
    topics: list[TopicRow]
    readers: list[ReaderRow]
    rooms: list[RoomRow]
    hops: list[HopRow]
    data: Data
    alerts: list[AlertRow]
