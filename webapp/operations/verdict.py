"""The one line that says how the system is: healthy, degraded or losing data, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from webapp.operations.snapshot import AlertRow, ReaderRow, Snapshot

STALE_AFTER_S: Final = 10.0
LATE_AFTER_S: Final = 10.0
MAX_NAMED: Final = 5
SYSTEM: Final = "system"


def verdict(
    feed: Mapping[str, Any] | None,
    readers: Sequence[ReaderRow],
    away: Sequence[str] = (),
    *,
    soon: Sequence[ReaderRow] = (),
    troubles: Sequence[str] = (),
) -> tuple[str, str]:
    """The verdict's word and its reason.

    `feed` as ledger_selectors.feed_state gives it (`has_seconds` false in it: the 1 s klines are not asked for); None
    = the database does not answer. `away`: a sentence for each engine that does not answer. `soon`: readers whose
    headroom is below the bound. `troubles`: what else is not as it should be.
    """
    expired = [r for r in readers if r.headroom_seconds is not None and r.headroom_seconds <= 0]
    if expired:
        names = ", ".join(f"{r.topic}/{r.partition}" for r in expired)
        return "losing data", f"the broker may have deleted records that {expired[0].room} has not read: {names}"
    gaps = ", ".join(f"{count} x {cause}" for cause, count in feed["recent_gaps"].items()) if feed is not None else ""
    if gaps:
        return "losing data", f"new gaps in the last 10 minutes: {gaps}"
    reasons = []
    if soon:
        worst = min(soon, key=lambda r: r.headroom_seconds or 0)
        reasons.append(
            f"losing data soon: the broker may delete what {worst.room} has to read next of "
            f"{worst.topic}/{worst.partition} in {worst.headroom_seconds or 0:.0f} s"
        )
    reasons += [*away, *troubles]
    if feed is not None:
        reasons += _feed_reasons(feed)
    late = [r for r in readers if (r.lag_seconds or 0) > LATE_AFTER_S]
    if late:
        slowest = max(late, key=lambda r: r.lag_seconds or 0)
        reasons.append(f"{slowest.room} is {slowest.lag_seconds:.0f} s behind on {slowest.topic}/{slowest.partition}")
    return ("degraded", "; ".join(reasons)) if reasons else ("healthy", "all readers keep up, no feed is out")


def with_alerts(snapshot: Snapshot, alerts: list[AlertRow]) -> Snapshot:
    """The same with its alerts; nothing is healthy while one of them stands that the verdict does not know."""
    beside = [row.message for row in alerts if row.recovered_at_ms is None and not _is_of_verdict(row)]
    word, reason = snapshot.verdict, snapshot.reason
    if beside:
        is_healthy, told = word == "healthy", listed(beside, "; ")
        word, reason = ("degraded" if is_healthy else word), told if is_healthy else f"{reason}; {told}"
    return msgspec.structs.replace(snapshot, verdict=word, reason=reason, alerts=alerts)


def _is_of_verdict(alert: AlertRow) -> bool:
    """The verdict has a line of its own for it: of headroom, and of a feed that is out as a whole."""
    return alert.condition == "headroom" or (alert.condition == "stale_feed" and alert.subject == SYSTEM)


def _feed_reasons(feed: Mapping[str, Any]) -> list[str]:
    reasons = []
    if feed["outages"]:
        more = f" and {len(feed['outages']) - 1} more" if len(feed["outages"]) > 1 else ""
        reasons.append(f"feed out: {feed['outages'][0]}{more}")
    age_s = feed["seconds_since_progress"]
    if not feed.get("has_seconds", True):
        reasons.append("STREAMS has no kline_1s: no rows, no candles of our own, nothing to account for")
    elif age_s is None:
        reasons.append("nothing has been stored yet")
    elif age_s > STALE_AFTER_S:
        reasons.append(f"nothing new stored for {age_s:.0f} s")
    return reasons


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Some names for people; how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return between.join(names[:MAX_NAMED]) + more
