"""What OpenAPI tells of the operators' figures."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers as s

PROBLEM: Final = "application/problem+json"
_ERRORS: Final = {
    (400, PROBLEM): OpenApiResponse(description="a parameter that cannot be used, with the allowed values"),
    (403, PROBLEM): OpenApiResponse(description="no operator"),
    (429, PROBLEM): OpenApiResponse(description="the address has used up its weight of this minute"),
    (503, PROBLEM): OpenApiResponse(description="nothing collected yet, or the database does not answer"),
}


def _rows(about: str) -> s.ListField:
    return s.ListField(child=s.DictField(), help_text=about)


FIGURES: Final[dict[str, Any]] = {
    "summary": "Everything operators look at: engines, topics, readers, rooms, hops, data, alerts",
    "operation_id": "operator",
    "tags": ["operator"],
    "responses": {
        (200, "application/json"): inline_serializer(
            "Operator",
            {
                "taken_at_ms": s.IntegerField(),
                "verdict": s.ChoiceField(["healthy", "degraded", "losing data"]),
                "reason": s.CharField(),
                "source": s.ChoiceField(["binance", "sim", "tape"]),
                "engines": _rows("name, state (up, down, unknown), error"),
                "topics": _rows("settings declared and at the broker, measured and predicted age, size, rate"),
                "readers": _rows("lag in records and seconds, headroom and its trend (seconds per second)"),
                "rooms": _rows("state, restarts, share of a core, memory, last error, paused or not"),
                "hops": _rows("percentiles in ms of the last minutes"),
                "data": s.DictField(help_text="gaps, audit, dead letters, last roll-up, books, relay, disk"),
                "alerts": _rows("what stands, newest first, then the newest that are over"),
            },
        ),
        **_ERRORS,
    },
}
_SUBJECTS: Final = "topic:NAME, reader:ROOM:TOPIC/PARTITION, room:NAME or system"
HISTORY: Final[dict[str, Any]] = {
    "summary": "Figures of one subject over time, at most 600 points",
    "operation_id": "operatorHistory",
    "tags": ["operator"],
    "parameters": [
        OpenApiParameter(
            "subject",
            OpenApiTypes.STR,
            description=_SUBJECTS,
            required=True,
            examples=[OpenApiExample("system", "system"), OpenApiExample("topic", "topic:kline_1s")],
        ),
        OpenApiParameter(
            "from",
            OpenApiTypes.STR,
            description="start, ms since 1970 or ISO 8601; default an hour before the end",
            examples=[OpenApiExample("from", "2026-11-21T11:00:00Z")],
        ),
        OpenApiParameter(
            "to",
            OpenApiTypes.STR,
            description="end, exclusive; default now",
            examples=[OpenApiExample("to", "2026-11-21T12:00:00Z")],
        ),
    ],
    "responses": {
        (200, "application/json"): inline_serializer(
            "OperatorHistory",
            {
                "source": s.ChoiceField(["binance", "sim", "tape"]),
                "subject": s.CharField(),
                "points": _rows("at_ms and the figures of the subject; null = not known then"),
            },
        ),
        **_ERRORS,
    },
}
