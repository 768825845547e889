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


def _bounds(about: str, prefix: str = "", **extra: s.Field[Any, Any, Any, Any]) -> Any:
    return inline_serializer(
        prefix,
        {"min": s.FloatField(), "max": s.FloatField(allow_null=True, help_text="null = without limit"), **extra},
        help_text=about,
    )


_REPAIR: Final = inline_serializer(
    "RetentionRepair",
    {
        "rows": s.IntegerField(),
        "calls": s.IntegerField(help_text="of 1,000 rows"),
        "weight": s.IntegerField(help_text="2 a call"),
        "seconds": s.FloatField(help_text="at least, by HISTORY_WEIGHT_PER_MINUTE"),
    },
    allow_null=True,
    help_text="of the most that may be lost; null where REST has no copy",
)


def _figures() -> dict[str, Any]:
    outage = {
        "seconds": s.FloatField(),
        "records_behind": s.IntegerField(allow_null=True),
        "lost_s": _bounds("surely deleted unread, may be", "RetentionLostSeconds"),
        "lost_records": s.DictField(child=s.FloatField(allow_null=True), allow_null=True),
        "repair": _REPAIR,
    }
    trap: dict[str, Any] = {"name": s.CharField(), "text": s.CharField()}
    return {
        "retention_ms": s.IntegerField(),
        "segment_ms": s.IntegerField(),
        "segment_bytes": s.IntegerField(),
        "check_interval_ms": s.IntegerField(),
        "predicted_oldest_age_s": _bounds("whatever the rate; min 0 when idle", "RetentionPredicted"),
        "expected_oldest_age_s": _bounds("at the present rate", "RetentionExpected"),
        "formula": s.CharField(help_text="the sum with its terms"),
        "disk_bytes": s.IntegerField(allow_null=True, help_text="at most, at the present rate"),
        "margin": s.FloatField(allow_null=True, help_text="worst outage and restart fit so often; null = any number"),
        "outage": inline_serializer("RetentionOutage", outage),
        "warnings": inline_serializer("RetentionWarning", trap, many=True),
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
    "source": s.ChoiceField(["measured", "declared"]),
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
