"""The retention advisor's answer as JSON: what each topic keeps now, would keep, and should keep.

`candlewire retention` and /api/v1/retention print the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from runtime.retention import (
    Bounds,
    Flow,
    OutageCost,
    Rules,
    disk_bytes,
    expected_age_s,
    flow_of,
    formula,
    oldest_age_s,
    outage_cost,
    rules_of,
)
from runtime.retention_advice import DEFAULT_MARGIN, Observed, margin_of, propose, traps

if TYPE_CHECKING:
    from market.topics import Topics
    from runtime.topic_logs import BrokerLogs, TopicLog

DEFAULT_OUTAGE_MINUTES: Final = 30.0
DEFAULT_WEIGHT_PER_MINUTE: Final = 3_000
OUTAGE_MINUTES_BOUNDS: Final = (0.0, 525_600.0)
MARGIN_BOUNDS: Final = (1.0, 1_000.0)
#: What can be asked about, with the least and greatest value that makes sense to a broker.
WHAT_IF: Final[Mapping[str, tuple[int, int]]] = {
    "retention_ms": (1_000, 365 * 86_400_000),
    "segment_ms": (1_000, 365 * 86_400_000),
    "segment_bytes": (14, 2**31 - 1),
    "check_interval_ms": (1_000, 86_400_000),
}


@dataclass(frozen=True)
class Question:
    """What the advisor is asked. `what_if`: settings of WHAT_IF to try. `symbols`: followed now, for the repair; None
    where REST has no copy of what is lost."""

    symbols: int | None
    observed: Observed = field(default_factory=Observed)
    outage_minutes: float = DEFAULT_OUTAGE_MINUTES
    margin: float = DEFAULT_MARGIN
    weight_per_minute: int = DEFAULT_WEIGHT_PER_MINUTE
    what_if: Mapping[str, int] = field(default_factory=dict)


def report(declared: Topics, logs: BrokerLogs, now_ms: int, question: Question) -> dict[str, Any]:
    """The whole answer; each topic's own figures are those of the broker's present settings."""
    found = {log.topic: log for log in logs.topics}
    rows = []
    for topic in declared.all():
        log = found.get(topic.name)
        if log is None:
            continue
        # REST has the seconds alone; of everything else what is lost is lost.
        asked = question if topic is declared.kline_1s else replace(question, symbols=None)
        figures = _row(log, logs.check_interval_ms, now_ms, asked)
        rows.append({"topic": topic.name, "kind": str(topic.kind), **figures})
    return {
        "check_interval_ms": logs.check_interval_ms,
        # One for the whole broker: the topic that needs the shortest decides.
        "proposed_check_interval_ms": min((row["proposal"]["check_interval_ms"] for row in rows), default=None),
        "observed": asdict(question.observed),
        "outage_minutes": question.outage_minutes,
        "wanted_margin": question.margin,
        "topics": rows,
    }


def with_settings(rules: Rules, what_if: Mapping[str, int]) -> Rules:
    """The rules with some settings of WHAT_IF in place of their own."""
    return replace(
        rules,
        retention_ms=what_if.get("retention_ms", rules.retention_ms),
        segment_ms=what_if.get("segment_ms", rules.segment_ms),
        segment_bytes=what_if.get("segment_bytes", rules.segment_bytes),
        check_interval_ms=what_if.get("check_interval_ms", rules.check_interval_ms),
    )


def _row(log: TopicLog, check_interval_ms: int, now_ms: int, question: Question) -> dict[str, Any]:
    rules, flow = rules_of(log, check_interval_ms), flow_of(log, check_interval_ms, now_ms)
    tried = with_settings(rules, question.what_if)
    return {
        "partitions": log.partitions,
        "records": log.records,
        "bytes": log.bytes,
        "records_per_second": _rounded(flow.records_per_second),
        "bytes_per_second": _rounded(flow.bytes_per_second),
        "idle": flow.is_idle,
        "measured_oldest_age_s": None if log.oldest_ms is None else max(0, now_ms - log.oldest_ms) / 1000,
        **_figures(rules, flow, question),
        "what_if": _figures(tried, flow, question) if question.what_if else None,
        "proposal": _figures(propose(rules, flow, question.observed, question.margin), flow, question),
    }


def _figures(rules: Rules, flow: Flow, question: Question) -> dict[str, Any]:
    outage_s = question.outage_minutes * 60
    cost = outage_cost(rules, flow, outage_s, question.symbols, question.weight_per_minute)
    return {
        "retention_ms": rules.retention_ms,
        "segment_ms": rules.segment_ms,
        "segment_bytes": rules.segment_bytes,
        "check_interval_ms": rules.check_interval_ms,
        "predicted_oldest_age_s": _span(oldest_age_s(rules, idle=flow.is_idle)),
        "expected_oldest_age_s": _span(expected_age_s(rules, flow)),
        "formula": formula(rules, idle=flow.is_idle),
        "disk_bytes": disk_bytes(rules, flow),
        "margin": _rounded(margin_of(rules, question.observed)),
        "outage": _cost(cost),
        "warnings": [asdict(trap) for trap in traps(rules, flow, question.observed, question.margin)],
    }


def _cost(cost: OutageCost) -> dict[str, Any]:
    return {
        "seconds": cost.outage_s,
        "records_behind": cost.records_behind,
        "lost_s": _span(cost.lost_s),
        "lost_records": None if cost.lost_records is None else _span(cost.lost_records),
        "repair": None if cost.repair is None else asdict(cost.repair),
    }


def _span(bounds: Bounds) -> dict[str, float | None]:
    return {"min": _rounded(bounds.least), "max": _rounded(bounds.most)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
