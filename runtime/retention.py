"""What a broker's settings keep, and what an outage of a reader costs: arithmetic alone, no broker.

The rule (Apache Kafka 4, measured too): deletion is by whole segments, by the newest record in them, when the broker
looks. So a record can be read for at least retention.ms and at most retention.ms + the span of its segment + the check
interval. A segment ends when a record arrives that is segment.ms younger than its first, or that would make it larger
than segment.bytes. A topic that gets no records loses its newest segment too, and is empty in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.topic_logs import TopicLog

ROWS_PER_CALL = 1_000
WEIGHT_PER_CALL = 2
#: A rate needs some time to be measured over; below it the figure says nothing.
RATE_SPAN_MIN_MS = 1_000
#: retention.ms of a topic that never forgets.
FOREVER_MS = -1


@dataclass(frozen=True)
class Rules:
    """What decides how long a topic's records live.

    `delete_delay_ms`: how long the files outlive the records. `retention_bytes`: -1 = no limit by size.
    """

    retention_ms: int
    segment_ms: int
    segment_bytes: int
    check_interval_ms: int
    delete_delay_ms: int = 60_000
    retention_bytes: int = -1
    is_log_append_time: bool = True


@dataclass(frozen=True)
class Flow:
    """What a topic gets, all partitions together; None = not known (too few records to tell)."""

    partitions: int
    records_per_second: float | None
    bytes_per_second: float | None
    is_idle: bool


@dataclass(frozen=True)
class Bounds:
    """From, to; `most` None = without limit."""

    least: float
    most: float | None


@dataclass(frozen=True)
class Repair:
    """What the exchange is asked to make good the loss: rows, calls, their weight, and the least time that takes."""

    rows: int
    calls: int
    weight: int
    seconds: float


@dataclass(frozen=True)
class OutageCost:
    """A reader is away for `outage_s`. `lost_*`: least = certainly deleted unread, most = may be.

    `records_behind`: what it has to catch up. `repair`: of the most that may be lost; None where REST has no copy.
    """

    outage_s: float
    records_behind: int | None
    lost_s: Bounds
    lost_records: Bounds | None
    repair: Repair | None


def rules_of(log: TopicLog, check_interval_ms: int) -> Rules:
    """The broker's present settings of a topic."""
    return Rules(
        retention_ms=log.retention_ms,
        segment_ms=log.segment_ms,
        segment_bytes=log.segment_bytes,
        check_interval_ms=check_interval_ms,
        delete_delay_ms=log.delete_delay_ms,
        retention_bytes=log.retention_bytes,
        is_log_append_time=log.is_log_append_time,
    )


def flow_of(log: TopicLog, check_interval_ms: int, now_ms: int) -> Flow:
    """What the records that are held now say of the rate."""
    span_ms = 0 if log.oldest_ms is None else now_ms - log.oldest_ms
    if log.records == 0 or span_ms < RATE_SPAN_MIN_MS:
        return Flow(log.partitions, None, None, is_idle(log, check_interval_ms, now_ms))
    per_second = log.records * 1000 / span_ms
    bytes_per_second = None if log.bytes is None else log.bytes * 1000 / span_ms
    return Flow(log.partitions, per_second, bytes_per_second, is_idle(log, check_interval_ms, now_ms))


def is_idle(log: TopicLog, check_interval_ms: int, now_ms: int) -> bool:
    """True when nothing has arrived for a whole check interval."""
    return log.newest_ms is None or now_ms - log.newest_ms > check_interval_ms


def predicted(log: TopicLog, check_interval_ms: int, now_ms: int) -> dict[str, float | None]:
    """`oldest_age_s` of a topic as it stands, in the form of the reports: {"min", "max"}, max None = without limit."""
    age = oldest_age_s(rules_of(log, check_interval_ms), idle=is_idle(log, check_interval_ms, now_ms))
    return {"min": age.least, "max": age.most}


def oldest_age_s(rules: Rules, *, idle: bool) -> Bounds:
    """Age of the oldest readable record, seconds, whatever the rate is: what may be counted on."""
    return _age(rules, rules.segment_ms, idle)


def expected_age_s(rules: Rules, flow: Flow) -> Bounds:
    """The same at the present rate: a segment may be full before segment.ms is over."""
    return _age(rules, segment_span_ms(rules, flow), flow.is_idle)


def _age(rules: Rules, span_ms: float, idle: bool) -> Bounds:
    if rules.retention_ms == FOREVER_MS:
        return Bounds(0.0, None)
    most_ms = rules.retention_ms + span_ms + rules.check_interval_ms
    return Bounds(0.0 if idle else rules.retention_ms / 1000, most_ms / 1000)


def segment_span_ms(rules: Rules, flow: Flow) -> float:
    """Time from the first to the last record of a segment, the records spread evenly over the partitions."""
    if not flow.bytes_per_second:
        return rules.segment_ms
    return min(rules.segment_ms, rules.segment_bytes * 1000 * flow.partitions / flow.bytes_per_second)


def formula(rules: Rules, *, idle: bool) -> str:
    """The sum behind `oldest_age_s`, with its terms, for people."""
    if rules.retention_ms == FOREVER_MS:
        return "retention.ms -1: nothing is ever deleted"
    terms = (rules.retention_ms, rules.segment_ms, rules.check_interval_ms)
    retention, segment, check = (f"{term / 1000:g} s" for term in terms)
    least = "0 s (idle: everything may go)" if idle else retention
    most = f"retention {retention} + segment {segment} + check {check} = {sum(terms) / 1000:g} s"
    return f"{least} to {most}"


def disk_bytes(rules: Rules, flow: Flow) -> int | None:
    """The most that the files of the topic take at the present rate; None = not known, or without limit."""
    most_s = expected_age_s(rules, flow).most
    if flow.bytes_per_second is None or most_s is None:
        return None
    return math.ceil(flow.bytes_per_second * (most_s + rules.delete_delay_ms / 1000))


def outage_cost(
    rules: Rules, flow: Flow, outage_s: float, repair_symbols: int | None, weight_per_minute: int
) -> OutageCost:
    """What it costs that a reader which was up to date is away for so long.

    `repair_symbols`: how many symbols' seconds REST is asked for; None where what is lost cannot be had again.
    `weight_per_minute`: what the exchange may be asked in a minute.
    """
    # While the reader is away records may arrive, so the bounds are those of a busy topic.
    kept = _age(rules, segment_span_ms(rules, flow), idle=False)
    forever = kept.most is None
    may_s = 0.0 if forever else max(0.0, outage_s - kept.least)
    must_s = 0.0 if kept.most is None else max(0.0, outage_s - kept.most)
    rate = flow.records_per_second
    return OutageCost(
        outage_s=outage_s,
        records_behind=None if rate is None else math.ceil(rate * outage_s),
        lost_s=Bounds(must_s, may_s),
        lost_records=None if rate is None else Bounds(math.floor(rate * must_s), math.ceil(rate * may_s)),
        repair=None if repair_symbols is None else repair_of(may_s, repair_symbols, weight_per_minute),
    )


def repair_of(lost_s: float, symbols: int, weight_per_minute: int) -> Repair:
    """Seconds of so many symbols from REST: 1,000 rows a call, weight 2; no faster than the budget allows."""
    seconds_each = math.ceil(lost_s)
    calls = symbols * math.ceil(seconds_each / ROWS_PER_CALL)
    weight = calls * WEIGHT_PER_CALL
    return Repair(seconds_each * symbols, calls, weight, weight * 60 / weight_per_minute)
