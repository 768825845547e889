"""/udf/marks and timescale_marks: gaps and revisions, at the bars they belong to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.http import QueryDict

from market.interval import Interval
from webapp.api.udf import parameters
from webapp.api.udf.endpoint import endpoint
from webapp.api.udf.errors import UdfError
from webapp.ledger_selectors import gaps as ledger_gaps
from webapp.proof_selectors import revisions
from webapp.selectors import EPOCH, symbol_exists

#: Marks of one answer: of more the newest; a chart with more than these shows nothing but marks.
MAX_MARKS: Final = 500
_OPEN_COLOR, _SETTLED_COLOR, _REVISED_COLOR, _LABEL_COLOR = "#d55e00", "#0072b2", "#7f7f7f", "#ffffff"
_UNSETTLED: Final = ("open", "unrepairable")
Mark = dict[str, Any]


@endpoint(weight=4)
def marks(query: QueryDict) -> dict[str, list[Any]]:
    """Columns of marks: G = a gap (orange while it stands), R = a bar that was revised."""
    symbol, interval, from_ms, to_ms = _asked(query)
    found = [_gap_mark(gap, interval) for gap in _gaps(symbol, from_ms, to_ms)]
    if interval is not Interval.S1:
        found += _revision_marks(symbol, interval, from_ms, to_ms)
    found = sorted(found, key=lambda mark: (mark["time"], mark["id"]))[-MAX_MARKS:]
    names = ("id", "time", "color", "text", "label", "labelFontColor", "minSize")
    return {name: [mark[name] for mark in found] for name in names}


@endpoint(weight=4)
def timescale_marks(query: QueryDict) -> list[Mark]:
    """Gaps on the time axis, all of one bar in one mark."""
    symbol, interval, from_ms, to_ms = _asked(query)
    by_time: dict[int, list[dict[str, Any]]] = {}
    for gap in _gaps(symbol, from_ms, to_ms):
        by_time.setdefault(interval.floor(gap["from_time_ms"]) // 1000, []).append(gap)
    return [
        {
            "id": f"gaps-{time_s}",
            "time": time_s,
            "color": _color(found),
            "label": "G",
            "tooltip": [_about(gap) for gap in found[:10]],
        }
        for time_s, found in sorted(by_time.items())[-MAX_MARKS:]
    ]


def _asked(query: QueryDict) -> tuple[str, Interval, int, int]:
    symbol, interval = parameters.symbol(query), parameters.resolution(query)
    from_s, to_s = parameters.time_s(query, "from"), parameters.time_s(query, "to")
    if from_s is None or to_s is None or from_s > to_s:
        raise UdfError("from and to are needed, in seconds since 1970, from not after to")
    if not symbol_exists(symbol):
        raise UdfError(f"{symbol} is not a symbol of this system; /udf/search lists them", 404)
    return symbol, interval, from_s * 1000, to_s * 1000 + 1000


def _gaps(symbol: str, from_ms: int, to_ms: int) -> list[dict[str, Any]]:
    return ledger_gaps(symbol, from_ms, to_ms)[0]


def _gap_mark(gap: dict[str, Any], interval: Interval) -> Mark:
    return {
        "id": f"gap-{gap['id']}",
        "time": interval.floor(gap["from_time_ms"]) // 1000,
        "color": _color([gap]),
        "text": _about(gap),
        "label": "G",
        "labelFontColor": _LABEL_COLOR,
        "minSize": 14,
    }


def _revision_marks(symbol: str, interval: Interval, from_ms: int, to_ms: int) -> list[Mark]:
    times: dict[int, int] = {}
    for row in revisions(symbol, interval, from_ms, to_ms):
        times[row[0]] = max(row[1], times.get(row[0], 0))
    return [
        {
            "id": f"revision-{open_ms // 1000}",
            "time": open_ms // 1000,
            "color": _REVISED_COLOR,
            "text": f"revised: now revision {revision}",
            "label": "R",
            "labelFontColor": _LABEL_COLOR,
            "minSize": 14,
        }
        for open_ms, revision in times.items()
    ]


def _color(found: list[dict[str, Any]]) -> str:
    return _OPEN_COLOR if any(gap["state"] in _UNSETTLED for gap in found) else _SETTLED_COLOR


def _about(gap: dict[str, Any]) -> str:
    begin = EPOCH + timedelta(milliseconds=gap["from_time_ms"])
    seconds = (gap["to_time_ms"] - gap["from_time_ms"]) / 1000
    return f"gap of {seconds:g} s from {begin:%Y-%m-%d %H:%M:%S} UTC, {gap['cause']}, {gap['state']}"
