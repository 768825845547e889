"""Query parameters of /api/v1. Each function raises BadParameter, which names what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from django.http import QueryDict

from market.errors import UnknownInterval, UnknownSymbol
from market.interval import STORED_INTERVALS, Interval
from market.symbol import parse_symbol
from webapp.api.native.problems import BadParameter
from webapp.proof_selectors import AUDIT_STATES
from webapp.selectors import EPOCH, symbol_exists

LAST_MS: Final = 253_402_300_799_000
#: Names for the same end of a range; each path has one of them.
_SAME: Final = (("start", "from", "startTime"), ("end", "to", "endTime"))


def require_names(query: QueryDict, allowed: Sequence[str]) -> None:
    """Refuse a parameter that the path does not have, and one that is sent twice: ignored, either would give an answer
    to another question."""
    for name, values in query.lists():
        if name not in allowed:
            meant = [other for same in _SAME if name in same for other in same if other in allowed]
            hint = f"; it is called {meant[0]!r} here" if meant else ""
            raise BadParameter(name, f"{name[:40]!r} is not a parameter of this path{hint}", list(allowed))
        if len(values) > 1:
            raise BadParameter(name, f"{name!r} is sent {len(values)} times", "once")


def symbol(query: QueryDict) -> str:
    """The mandatory `symbol`, known to exist."""
    found = optional_symbol(query)
    if found is None:
        raise BadParameter("symbol", "a symbol is needed, like BTCUSDT")
    return found


def optional_symbol(query: QueryDict) -> str | None:
    """`symbol`, None when not given; 404 for one that we do not have."""
    text = query.get("symbol")
    if text is None:
        return None
    try:
        found = parse_symbol(text)
    except UnknownSymbol as error:
        raise BadParameter("symbol", str(error)) from None
    if "\0" in found or not symbol_exists(found):
        raise BadParameter("symbol", f"{found} is not a symbol of this system; /api/v1/symbols lists them", status=404)
    return found


def interval(query: QueryDict, default: Interval | None = None, *, stored: bool = False) -> Interval:
    """`interval`; with `stored` not 1s."""
    text = query.get("interval")
    allowed = [item.value for item in Interval if not (stored and item is Interval.S1)]
    if text is None and default is not None:
        return default
    try:
        found = Interval.parse(text or "")
    except UnknownInterval:
        detail = "an interval is needed" if not text else f"{text!r} is not an interval (they are case-sensitive)"
        raise BadParameter("interval", detail, allowed) from None
    if found.value not in allowed:
        raise BadParameter("interval", f"{found.value} is not served here", allowed)
    return found


def limit(query: QueryDict, default: int, maximum: int) -> int:
    """`limit`, 1 to the maximum."""
    text = query.get("limit")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= maximum:
        raise BadParameter("limit", f"{text!r} is not a number of rows", {"minimum": 1, "maximum": maximum})
    return int(text)


def time_ms(query: QueryDict, name: str) -> int | None:
    """A time, ms since 1970 or ISO 8601 (without a zone: UTC), as ms; None when not given."""
    text = query.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 15 and int(text) <= LAST_MS:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        since_ms = (moment - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        since_ms = -1
    if text.isdigit() or not 0 <= since_ms <= LAST_MS:
        raise BadParameter(name, f"{text!r} is not a time", "milliseconds since 1970, or ISO 8601")
    return since_ms


def span_ms(query: QueryDict) -> tuple[int | None, int | None]:
    """`start` (inclusive) and `end` (exclusive); None = no bound."""
    start_ms, end_ms = time_ms(query, "start"), time_ms(query, "end")
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise BadParameter("end", "the end must lie after the start")
    return start_ms, end_ms


def known_at_ms(query: QueryDict, of: Interval) -> int | None:
    """`known_at` as ms; not for 1s, whose rows keep no history."""
    moment_ms = time_ms(query, "known_at")
    if moment_ms is not None and of is Interval.S1:
        raise BadParameter("known_at", "seconds keep no history", [item.value for item in STORED_INTERVALS])
    return moment_ms


def audit_state(query: QueryDict) -> str | None:
    """`state` of an audited minute; None = any."""
    text = query.get("state")
    if text is not None and text not in AUDIT_STATES:
        raise BadParameter("state", "not a state of an audited minute", list(AUDIT_STATES))
    return text


def time_range(query: QueryDict, newest_ms: int, default_ms: int, maximum_ms: int) -> tuple[int, int]:
    """`from` (inclusive) and `to` (exclusive); by default the last `default_ms` before `newest_ms`."""
    to_ms = time_ms(query, "to")
    from_ms = time_ms(query, "from")
    if to_ms is None:
        to_ms = newest_ms if from_ms is None else min(max(newest_ms, from_ms + 1), from_ms + maximum_ms)
    if from_ms is None:
        from_ms = max(0, to_ms - default_ms)
    if from_ms >= to_ms:
        raise BadParameter("to", "the end must lie after the start")
    if to_ms - from_ms > maximum_ms:
        raise BadParameter("from", "the range is too long", {"maximum_ms": maximum_ms})
    return from_ms, to_ms


def cursor(query: QueryDict) -> int | None:
    """`cursor` of an earlier answer; None for the first page."""
    text = query.get("cursor")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BadParameter("cursor", "take next_cursor of the answer before")
    return min(int(text), LAST_MS)
