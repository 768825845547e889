"""What a room says of itself: /readyz and /metrics, asked within a bound. A room that is away raises nothing here."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import msgspec
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S: Final = 1.5
MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_REASON_CHARACTERS: Final = 300
#: What is looked at; all other lines are not even parsed.
WANTED: Final = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "ingest_last_message_timestamp_seconds",
    "inserter_rows_total",
    "inserter_dead_letters_total",
    "line_hop_seconds_bucket",
    "relay_connections",
    "relay_queue_bytes",
    "relay_conflated_total",
    "relay_disconnects_total",
    "relay_delivery_seconds_bucket",
    "page_painted_seconds_bucket",
)


class _Answer(msgspec.Struct):
    """The body of /readyz."""

    ok: bool
    reasons: list[str] = []
    last_error: str | None = None


@dataclass(frozen=True)
class Sample:
    """One figure of /metrics."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Scrape:
    """One room's answer; `error` says why there is none."""

    room: str
    error: str | None = None
    is_ready: bool | None = None
    reasons: tuple[str, ...] = ()
    last_error: str | None = None
    samples: tuple[Sample, ...] = field(default=(), repr=False)

    def of(self, name: str, **labels: str) -> Iterator[Sample]:
        """The figures of this name that carry these labels."""
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample

    def value(self, name: str) -> float | None:
        """The sum of the figures of this name; None when there is none."""
        values = [sample.value for sample in self.of(name)]
        return sum(values) if values else None

    def by(self, name: str, label: str) -> dict[str, float]:
        """The figures of this name by one label."""
        return {sample.labels.get(label, ""): sample.value for sample in self.of(name)}


def ask(room: str, base_url: str) -> Scrape:
    """Ask one room; blocks for at most a few times TIMEOUT_S."""
    try:
        answer = msgspec.json.decode(_get(base_url, "/readyz"), type=_Answer)
        metrics = _get(base_url, "/metrics").decode("utf-8", "replace")
        samples = tuple(parse(metrics))
    except (OSError, http.client.HTTPException, msgspec.MsgspecError, ValueError) as error:
        return Scrape(room, error=f"{type(error).__name__}: {error}"[:MAX_REASON_CHARACTERS])
    reasons = tuple(reason[:MAX_REASON_CHARACTERS] for reason in answer.reasons)
    return Scrape(room, None, answer.ok, reasons, answer.last_error, samples)


def parse(metrics: str) -> Iterator[Sample]:
    """The wanted figures of a text in Prometheus' format. Raises ValueError."""
    wanted = "\n".join(line for line in metrics.splitlines() if line.startswith(WANTED))
    for family in text_string_to_metric_families(wanted + "\n"):
        for sample in family.samples:
            yield Sample(sample.name, sample.labels, sample.value)


def _get(base_url: str, path: str) -> bytes:
    address = urlsplit(base_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(MAX_ANSWER_BYTES)
    finally:
        connection.close()
