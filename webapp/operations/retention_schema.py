"""What OpenAPI tells of the retention advisor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers as s

from runtime.retention_advice import DEFAULT_MARGIN
from runtime.retention_report import DEFAULT_OUTAGE_MINUTES, MARGIN_BOUNDS, OUTAGE_MINUTES_BOUNDS, WHAT_IF

PROBLEM: Final = "application/problem+json"
_UNITS: Final[Mapping[str, str]] = {
    "retention_ms": "how long a record is kept at least",
    "segment_ms": "how long a segment is written to",
    "segment_bytes": "how large a segment becomes",
    "check_interval_ms": "how often the broker looks for old segments; one for all topics, read at its start alone",
}


def _component(name: str, fields: dict[str, Any]) -> type[s.Serializer[Any]]:
    """One shape that stands in several places."""
    return type(inline_serializer(name, fields))


_SPAN: Final = _component(
    "RetentionSpan",
    {"min": s.FloatField(), "max": s.FloatField(allow_null=True, help_text="null = without limit")},
)
_REPAIR: Final = _component(
    "RetentionRepair",
    {
        "rows": s.IntegerField(),
        "calls": s.IntegerField(help_text="of 1,000 rows"),
        "weight": s.IntegerField(help_text="2 a call"),
        "seconds": s.FloatField(help_text="at least, by HISTORY_WEIGHT_PER_MINUTE"),
    },
)
_OUTAGE: Final = _component(
    "RetentionOutage",
    {
        "seconds": s.FloatField(),
        "records_behind": s.IntegerField(allow_null=True),
        "lost_s": _SPAN(help_text="surely deleted unread, may be"),
        "lost_records": _SPAN(allow_null=True),
        "repair": _REPAIR(allow_null=True, help_text="of the most that may be lost; null where REST has no copy"),
    },
)
_WARNING: Final = _component("RetentionWarning", {"name": s.CharField(), "text": s.CharField()})


def _figures() -> dict[str, Any]:
    return {
        "retention_ms": s.IntegerField(),
        "segment_ms": s.IntegerField(),
        "segment_bytes": s.IntegerField(),
        "check_interval_ms": s.IntegerField(),
        "predicted_oldest_age_s": _SPAN(help_text="whatever the rate; min 0 when idle"),
        "expected_oldest_age_s": _SPAN(help_text="at the present rate"),
        "formula": s.CharField(help_text="the sum with its terms"),
        "disk_bytes": s.IntegerField(allow_null=True, help_text="at most, at the present rate"),
        "margin": s.FloatField(allow_null=True, help_text="worst outage and restart fit so often; null = any number"),
        "outage": _OUTAGE(),
        "warnings": _WARNING(many=True),
    }


_ROW: Final[dict[str, Any]] = {
    "topic": s.CharField(),
    "kind": s.ChoiceField(["fact", "state", "chain"]),
    "partitions": s.IntegerField(),
    "records": s.IntegerField(),
    "bytes": s.IntegerField(allow_null=True),
    "records_per_second": s.FloatField(allow_null=True),
    "bytes_per_second": s.FloatField(allow_null=True),
    "idle": s.BooleanField(help_text="nothing has arrived for a check interval"),
    "measured_oldest_age_s": s.FloatField(allow_null=True, help_text="null = empty"),
    **_figures(),
    "what_if": inline_serializer("RetentionWhatIf", _figures(), allow_null=True),
    "proposal": inline_serializer("RetentionProposal", _figures()),
}
_OBSERVED: Final[dict[str, Any]] = {
    "reader_outage_s": s.FloatField(),
    "restart_s": s.FloatField(),
    "source": s.CharField(help_text="measured, or declared where there is too little history"),
}


def _number(name: str, about: str, bounds: tuple[float, float], default: float) -> OpenApiParameter:
    text = f"{about}; from {bounds[0]:g} to {bounds[1]:g}"
    example = OpenApiExample(f"{default:g}", default)
    return OpenApiParameter(name, OpenApiTypes.DOUBLE, description=text, default=default, examples=[example])


RETENTION: Final[dict[str, Any]] = {
    "summary": "What retention keeps, what an outage would cost, and which settings would be better",
    "operation_id": "retention",
    "tags": ["operator"],
    "parameters": [
        OpenApiParameter(
            "topic",
            OpenApiTypes.STR,
            description="only this one; without it all topics",
            examples=[OpenApiExample("kline_1s", "kline_1s")],
        ),
        *(
            OpenApiParameter(
                name,
                OpenApiTypes.INT64,
                description=f"what if: {_UNITS[name]}; from {least} to {most}",
                examples=[OpenApiExample(name, max(least, min(most, 1_048_576)))],
            )
            for name, (least, most) in WHAT_IF.items()
        ),
        _number("outage_minutes", "a reader is away for so long", OUTAGE_MINUTES_BOUNDS, DEFAULT_OUTAGE_MINUTES),
        _number("margin", "so often the worst outage and a restart should fit", MARGIN_BOUNDS, DEFAULT_MARGIN),
    ],
    "responses": {
        (200, "application/json"): inline_serializer(
            "Retention",
            {
                "source": s.ChoiceField(["binance", "sim", "tape"]),
                "taken_at_ms": s.IntegerField(help_text="when the broker was asked"),
                "check_interval_ms": s.IntegerField(),
                "proposed_check_interval_ms": s.IntegerField(allow_null=True),
                "observed": inline_serializer("RetentionObserved", _OBSERVED),
                "outage_minutes": s.FloatField(),
                "wanted_margin": s.FloatField(),
                "topics": inline_serializer("RetentionTopic", _ROW, many=True),
            },
        ),
        (400, PROBLEM): OpenApiResponse(description="a parameter that cannot be used, with the allowed values"),
        (403, PROBLEM): OpenApiResponse(description="no operator"),
        (429, PROBLEM): OpenApiResponse(description="the address has used up its weight of this minute"),
        (503, PROBLEM): OpenApiResponse(description="the broker has not answered yet"),
    },
}
