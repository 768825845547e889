"""One snapshot from the answers of a round and what is remembered of the rounds before."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from market.topics import Topic
from runtime.broker_watch import BrokerFigures
from runtime.topic_admin import TopicSettings
from webapp.operations.hops import WINDOW_ROUNDS, HopWindow
from webapp.operations.readers import HeadroomTrend, reader_row, remedy_of, warning_s
from webapp.operations.rooms import RoomHistory
from webapp.operations.scrape import Scrape
from webapp.operations.snapshot import (
    Audit,
    Data,
    DeadLetters,
    Disk,
    EngineRow,
    OpenGaps,
    ReaderRow,
    Relay,
    RoomRow,
    Snapshot,
    TopicRow,
)
from webapp.operations.stored import Stored
from webapp.operations.topics import TopicRates, topic_row
from webapp.operations.verdict import LATE_AFTER_S, listed, verdict

DISK_LABEL: Final = "DATA_DIR"
ENGINE_NAMES: Final = {
    "kafka": "the broker",
    "postgres": "the database",
    "valkey": "Valkey",
    "exchange": "the exchange",
}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a round has found out. None = did not answer."""

    now_ms: int
    now_s: float
    broker: BrokerFigures | None
    stored: Stored | None
    #: the last that the database said of each partition: a checkpoint stays where it is while it is away
    checkpoints: Sequence[Mapping[str, Any]]
    scrapes: Mapping[str, Scrape]
    engines: list[EngineRow]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What is not a figure of the round."""

    source: str
    has_seconds: bool
    headroom_s: float
    data_dir: Path
    disk_free_share: float


@dataclass
class Memory:
    """What is remembered between rounds."""

    rates: TopicRates = field(default_factory=TopicRates)
    trend: HeadroomTrend = field(default_factory=HeadroomTrend)
    rooms: RoomHistory = field(default_factory=RoomHistory)
    hops: HopWindow = field(default_factory=HopWindow)
    #: rows and dead letters of the inserter, each round
    used: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=WINDOW_ROUNDS))


def assemble(
    answers: Answers, memory: Memory, topics: Sequence[Topic], settings: TopicSettings, bounds: Bounds
) -> Snapshot:
    """The snapshot of a round, without alerts."""
    topic_rows = _topics(answers, memory, topics, settings)
    stored = answers.stored
    paused_by_room = None if stored is None else stored.paused
    rooms = [memory.rooms.row(scrape, answers.now_s, paused_by_room) for scrape in answers.scrapes.values()]
    paused = {room.name for room in rooms if room.is_paused}
    readers, soon = _readers(answers, memory, topic_rows, bounds.headroom_s, paused)
    feed = None if stored is None else {**stored.feed, "has_seconds": bounds.has_seconds}
    away = [
        f"{ENGINE_NAMES[engine.name]} does not answer: {engine.error}"
        for engine in answers.engines
        if engine.state == "down"
    ]
    word, reason = verdict(feed, readers, away, soon=soon, troubles=_troubles(rooms, topic_rows))
    return Snapshot(
        taken_at_ms=answers.now_ms,
        verdict=word,
        reason=reason,
        source=bounds.source,
        engines=answers.engines,
        topics=topic_rows,
        readers=readers,
        rooms=rooms,
        hops=memory.hops.rows(answers.scrapes),
        data=_data(answers, memory, bounds),
        alerts=[],
    )


def _topics(answers: Answers, memory: Memory, topics: Sequence[Topic], settings: TopicSettings) -> list[TopicRow]:
    broker = answers.broker
    if broker is None:
        memory.rates.forget()
        return [topic_row(topic, None, settings, None, answers.now_ms) for topic in topics]
    rows = []
    for topic in topics:
        end = broker.end_offsets.get(topic.name)
        rate = None if end is None else memory.rates.rate(topic.name, answers.now_s, end)
        rows.append(topic_row(topic, broker, settings, rate, answers.now_ms))
    return rows


def _readers(
    answers: Answers, memory: Memory, topics: Sequence[TopicRow], headroom_bound_s: float, paused: set[str]
) -> tuple[list[ReaderRow], list[ReaderRow]]:
    """All readers, and those whose headroom is below the bound."""
    retention_ms = {topic.topic: topic.retention_ms for topic in topics}
    rows, soon = [], []
    for checkpoint in answers.checkpoints:
        key = (checkpoint["topic"], checkpoint["partition"])
        progress = answers.broker.progress.get(key) if answers.broker is not None else None
        kept_ms = retention_ms.get(key[0])
        row = reader_row(checkpoint, progress, kept_ms, answers.now_ms)
        trend = memory.trend.add(key, answers.now_s, row.headroom_seconds)
        is_soon = row.headroom_seconds is not None and row.headroom_seconds < warning_s(headroom_bound_s, kept_ms)
        if is_soon or (row.lag_seconds or 0) > LATE_AFTER_S:
            remedy = remedy_of(row, row.room in paused)
            row = msgspec.structs.replace(row, headroom_trend=trend, state="bad", remedy=remedy)
        else:
            state = "unknown" if row.lag_records is None else "ok"
            row = msgspec.structs.replace(row, headroom_trend=trend, state=state)
        rows.append(row)
        if is_soon:
            soon.append(row)
    return rows, soon


def _troubles(rooms: Sequence[RoomRow], topics: Sequence[TopicRow]) -> list[str]:
    found = []
    paused = [room.name for room in rooms if room.is_paused]
    if paused:
        found.append(f"paused by an operator: {listed(paused)}")
    silent = [room.name for room in rooms if room.ready is False and not room.is_paused]
    if silent:
        found.append(f"not ready: {listed(silent)}")
    missing = [topic.topic for topic in topics if any(d.setting == "topic" for d in topic.differences)]
    if missing:
        found.append(f"topics that the broker does not have: {listed(missing)}")
    return found


def _data(answers: Answers, memory: Memory, bounds: Bounds) -> Data:
    stored = answers.stored
    letters = stored.dead_letters if stored is not None else DeadLetters()
    return Data(
        open_gaps=stored.open_gaps if stored is not None else OpenGaps(),
        audit=stored.audit if stored is not None else Audit(),
        dead_letters=msgspec.structs.replace(letters, share=_unusable_share(answers.scrapes.get("inserter"), memory)),
        last_roll_up_at_ms=stored.last_roll_up_at_ms if stored is not None else None,
        books=[],
        relay=_relay(answers.scrapes.get("flask_stream")),
        disk=_disk(bounds),
    )


def _unusable_share(inserter: Scrape | None, memory: Memory) -> float | None:
    """Of what the inserter took in the last minutes; None while that is not known, or nothing came."""
    if inserter is None or inserter.error is not None:
        memory.used.clear()
        return None
    now = (inserter.value("inserter_rows_total") or 0.0, inserter.value("inserter_dead_letters_total") or 0.0)
    if memory.used and (now[0] < memory.used[-1][0] or now[1] < memory.used[-1][1]):
        memory.used.clear()
    memory.used.append(now)
    rows, letters = (now[at] - memory.used[0][at] for at in (0, 1))
    return round(letters / (rows + letters), 6) if rows + letters else None


def _relay(scrape: Scrape | None) -> Relay:
    if scrape is None or scrape.error is not None:
        return Relay()
    clients, queued, conflated = (
        None if (value := scrape.value(name)) is None else int(value)
        for name in ("relay_connections", "relay_queue_bytes", "relay_conflated_total")
    )
    gone = {reason: int(count) for reason, count in scrape.by("relay_disconnects_total", "reason").items()}
    return Relay(clients=clients, queue_bytes=queued, conflated_total=conflated, disconnects=gone)


def _disk(bounds: Bounds) -> Disk:
    """The file system that the directory is on, or would be made on."""
    data_dir = bounds.data_dir.absolute()
    there = next((path for path in (data_dir, *data_dir.parents) if path.exists()), None)
    try:
        usage = shutil.disk_usage(there or "/")
    except OSError:
        return Disk(path_label=DISK_LABEL)
    low_bytes = int(bounds.disk_free_share * usage.total)
    return Disk(path_label=DISK_LABEL, free_bytes=usage.free, total_bytes=usage.total, low_bytes=low_bytes)


def broker_row(error: str | None) -> EngineRow:
    """Kafka as a round found it."""
    return EngineRow(name="kafka", state="up" if error is None else "down", error=error)


def database_row(error: str | None) -> EngineRow:
    """PostgreSQL as a round found it."""
    return EngineRow(name="postgres", state="up" if error is None else "down", error=error)
