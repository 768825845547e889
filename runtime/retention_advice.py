"""Which settings would keep records long enough, and which traps the present ones hold. Arithmetic alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from runtime.retention import FOREVER_MS, Flow, Rules, segment_span_ms

#: What a reader's outage and a restart are taken to last where nothing has been observed yet.
DECLARED_OUTAGE_S: Final = 300.0
DECLARED_RESTART_S: Final = 60.0
#: Detection, restart and catching up together should take less than half of what is kept.
DEFAULT_MARGIN: Final = 2.0
#: Less than this is for trying things out.
RECOMMENDED_RETENTION_MS: Final = 900_000
MINUTE_MS: Final = 60_000
MIB: Final = 1024 * 1024
#: Below these a newer broker refuses the setting: (least, first version that does).
SEGMENT_MS_FLOOR: Final = (60_000, "5.0")
SEGMENT_BYTES_FLOOR: Final = (MIB, "4.0")
#: So many segments are kept at least, so that what lives longer than retention.ms is a small part.
SEGMENTS_KEPT: Final = 15
CHECKS_PER_SEGMENT: Final = 6
CHECK_LEAST_MS: Final = 10_000
CHECK_MOST_MS: Final = 300_000
SEGMENT_BYTES_LEAST: Final = 16 * MIB
SEGMENT_BYTES_MOST: Final = 1024 * MIB


@dataclass(frozen=True)
class Observed:
    """The worst so far, seconds. `source`: "measured" from samples, or "declared" where there are none."""

    reader_outage_s: float = DECLARED_OUTAGE_S
    restart_s: float = DECLARED_RESTART_S
    source: str = "declared"


@dataclass(frozen=True)
class Trap:
    """A warning; `name` is fixed, for programs."""

    name: str
    text: str


def margin_of(rules: Rules, observed: Observed) -> float | None:
    """How many times the worst outage and a restart fit into what is surely kept; None = any number."""
    if rules.retention_ms == FOREVER_MS:
        return None
    return rules.retention_ms / 1000 / (observed.reader_outage_s + observed.restart_s)


def propose(rules: Rules, flow: Flow, observed: Observed, margin: float) -> Rules:
    """Settings that keep the wanted margin, that newer brokers take too, and that waste little beside it."""
    needed_ms = margin * (observed.reader_outage_s + observed.restart_s) * 1000
    retention_ms = max(RECOMMENDED_RETENTION_MS, math.ceil(needed_ms / MINUTE_MS) * MINUTE_MS)
    segment_ms = max(SEGMENT_MS_FLOOR[0], math.ceil(retention_ms / SEGMENTS_KEPT / 1000) * 1000)
    check_ms = min(CHECK_MOST_MS, max(CHECK_LEAST_MS, segment_ms // CHECKS_PER_SEGMENT))
    return replace(
        rules,
        retention_ms=retention_ms,
        segment_ms=segment_ms,
        segment_bytes=_segment_bytes(segment_ms, flow),
        check_interval_ms=check_ms,
    )


def _segment_bytes(segment_ms: int, flow: Flow) -> int:
    """Twice what arrives while a segment lasts, so that the time ends it and not a burst; a power of two."""
    arriving = (flow.bytes_per_second or 0.0) / flow.partitions * segment_ms / 1000
    power = 1 << math.ceil(math.log2(max(1.0, 2 * arriving)))
    return min(SEGMENT_BYTES_MOST, max(SEGMENT_BYTES_LEAST, power))


def traps(rules: Rules, flow: Flow, observed: Observed, margin: float) -> list[Trap]:
    """What is dangerous about these settings at this flow; the most dangerous first."""
    kept_s, check_s = rules.retention_ms / 1000, rules.check_interval_ms / 1000
    if rules.retention_ms == FOREVER_MS:
        return [
            Trap("never_forgets", "retention.ms is -1: nothing is ever deleted, the disk fills up"),
            *_refused(rules),
        ]
    found = []
    factor = margin_of(rules, observed)
    if factor is not None and factor < margin:
        found.append(
            Trap(
                "below_margin",
                f"the worst outage ({observed.reader_outage_s:.0f} s, {observed.source}) and a restart "
                f"({observed.restart_s:.0f} s) fit {factor:.1f} times into the {kept_s:g} s that are surely kept; "
                f"wanted: {margin:g} times",
            )
        )
    if rules.retention_ms < rules.check_interval_ms:
        text = (
            f"retention.ms ({kept_s:g} s) is shorter than the check interval: the broker looks each {check_s:g} s only"
        )
        found.append(Trap("retention_below_check", text))
    span_s = segment_span_ms(rules, flow) / 1000
    if not flow.is_idle and span_s > kept_s:
        found.append(
            Trap(
                "busy_keeps_segment",
                f"a busy topic frees whole segments only, and one lasts {span_s:.0f} s here: records stay up to "
                f"{kept_s + span_s + check_s:.0f} s, not {kept_s:g} s; a smaller segment.ms helps",
            )
        )
    if flow.is_idle:
        found.append(
            Trap(
                "idle_empties",
                f"nothing arrives: {kept_s + check_s:g} s after its last record the topic is empty, its newest segment "
                "too, and a checkpoint may then lie before the log's start though nothing was lost",
            )
        )
    return found + _refused(rules) + _by_other_rules(rules)


def _refused(rules: Rules) -> list[Trap]:
    return [
        Trap("refused_by_next_version", f"{setting} {value} is refused by Kafka {version} and newer: at least {least}")
        for setting, value, (least, version) in (
            ("segment.ms", rules.segment_ms, SEGMENT_MS_FLOOR),
            ("segment.bytes", rules.segment_bytes, SEGMENT_BYTES_FLOOR),
        )
        if value < least
    ]


def _by_other_rules(rules: Rules) -> list[Trap]:
    found = []
    if not rules.is_log_append_time:
        text = (
            "message.timestamp.type is CreateTime: records of an old tape are born expired and gone at the next check, "
            "and a time in the future keeps its whole segment; LogAppendTime has neither"
        )
        found.append(Trap("create_time", text))
    if rules.retention_bytes >= 0:
        text = (
            f"retention.bytes is {rules.retention_bytes}: a partition that grows larger loses records before their time"
        )
        found.append(Trap("size_limit", text))
    return found
