"""What OpenAPI tells of /api/v1: parameters with their values and examples, shapes of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers as s

from market.interval import STORED_INTERVALS, Interval
from webapp.kline_selectors import NATIVE_COLUMNS
from webapp.ledger_selectors import MINUTE_COLUMNS
from webapp.proof_selectors import AUDIT_STATES, REVISION_COLUMNS

SOURCES: Final = ["binance", "sim", "tape"]
TIME: Final = "milliseconds since 1970, or ISO 8601 (UTC without a zone)"


def parameter(name: str, about: str, example: object, kind: Any = OpenApiTypes.STR, **options: Any) -> OpenApiParameter:
    """A query parameter with an example."""
    return OpenApiParameter(name, kind, description=about, examples=[OpenApiExample(str(example), example)], **options)


def _symbol(*, required: bool) -> OpenApiParameter:
    about = "symbol in any case; /api/v1/symbols lists them" + ("" if required else "; without it all symbols")
    return parameter("symbol", about, "BTCUSDT", required=required)


def _interval(allowed: Sequence[str], default: str | None) -> OpenApiParameter:
    about = "length of the bars; case-sensitive"
    return parameter("interval", about, default or "1m", enum=list(allowed), required=default is None, default=default)


def _range(default: str, longest: str) -> list[OpenApiParameter]:
    return [
        parameter("from", f"start, inclusive: {TIME}; default {default} before the end, at most {longest}", "0"),
        parameter("to", f"end, exclusive: {TIME}; default the newest stored moment", "2026-11-21T12:00:00Z"),
    ]


PROBLEM: Final = inline_serializer(
    "Problem",
    {
        "type": s.CharField(),
        "title": s.CharField(),
        "status": s.IntegerField(),
        "detail": s.CharField(),
        "instance": s.CharField(),
        "parameter": s.CharField(required=False),
        "allowed": s.JSONField(required=False),
    },
)
ERRORS: Final = {
    (400, "application/problem+json"): OpenApiResponse(PROBLEM, "a parameter cannot be used"),
    (404, "application/problem+json"): OpenApiResponse(PROBLEM, "no such symbol"),
    (429, "application/problem+json"): OpenApiResponse(PROBLEM, "weight used up; Retry-After says for how long"),
    (503, "application/problem+json"): OpenApiResponse(PROBLEM, "the database does not answer"),
}


def operation(
    name: str, summary: str, parameters: list[OpenApiParameter], fields: dict[str, s.Field[Any, Any, Any, Any]]
) -> dict[str, Any]:
    """A read whose answer is the source's name and these fields, and the problems there can be."""
    body = inline_serializer(name, {"source": s.ChoiceField(SOURCES, help_text="where the data come from"), **fields})
    return {
        "summary": summary,
        "operation_id": name[0].lower() + name[1:],
        "parameters": parameters,
        "responses": {(200, "application/json"): body, **ERRORS},
        "tags": ["v1"],
    }


def _rows(columns: Sequence[str]) -> s.Field[Any, Any, Any, Any]:
    about = "arrays in the order of `columns`, oldest first; money as text: " + ", ".join(columns)
    return s.ListField(child=s.ListField(child=s.JSONField()), help_text=about)


def _columns(columns: Sequence[str]) -> s.Field[Any, Any, Any, Any]:
    return s.ListField(child=s.ChoiceField(list(columns)))


def _many(name: str, fields: dict[str, s.Field[Any, Any, Any, Any]]) -> s.Field[Any, Any, Any, Any]:
    return inline_serializer(name, fields, many=True)


_GAP_FIELDS: Final[dict[str, s.Field[Any, Any, Any, Any]]] = {
    "id": s.IntegerField(),
    "symbol": s.CharField(),
    "interval": s.CharField(),
    "from_time_ms": s.IntegerField(),
    "to_time_ms": s.IntegerField(help_text="exclusive"),
    "cause": s.CharField(),
    "state": s.ChoiceField(["open", "repaired", "absent", "unrepairable"]),
    "detected_at_ms": s.IntegerField(),
    "resolved_at_ms": s.IntegerField(allow_null=True),
    "resolved_by": s.CharField(allow_null=True),
    "detector": s.ChoiceField(["open_times", "log", "feed", "trade_chain", "audit", "operator"]),
    "attempts": s.IntegerField(help_text="how often the repair was tried"),
    "next_attempt_at_ms": s.IntegerField(allow_null=True, help_text="not tried before; null = at once"),
    "last_error": s.CharField(allow_null=True, help_text="why the last try failed"),
}

KLINES: Final = operation(
    "Klines",
    "Candles with their provenance",
    [
        _symbol(required=True),
        _interval([i.value for i in Interval], None),
        parameter("limit", "how many rows, 1 to 1000; default 500", 1000, OpenApiTypes.INT),
        parameter("start", f"oldest open time, inclusive: {TIME}", "1700000000000"),
        parameter("end", f"end of the open times, exclusive: {TIME}", "2026-11-21T12:00:00Z"),
        parameter("cursor", "next_cursor of the answer before: the page before it in time", "1700000000000"),
        parameter(
            "known_at", f"closed candles as they stood at that moment, not for 1s: {TIME}", "2026-11-21T12:00:00Z"
        ),
    ],
    {
        "symbol": s.CharField(),
        "interval": s.ChoiceField([i.value for i in Interval]),
        "columns": _columns(NATIVE_COLUMNS),
        "rows": _rows(NATIVE_COLUMNS),
        "next_cursor": s.CharField(allow_null=True, help_text="null = nothing older"),
    },
)
SYMBOLS: Final = operation(
    "Symbols",
    "The followed symbols",
    [],
    {
        "time_ms": s.IntegerField(),
        "symbols": _many(
            "MarketSymbol",
            {
                **{name: s.CharField() for name in ("symbol", "base_asset", "quote_asset", "status")},
                "tick_size": s.CharField(help_text="smallest price step"),
                "step_size": s.CharField(help_text="smallest quantity step"),
                "price_decimals": s.IntegerField(),
                "quantity_decimals": s.IntegerField(),
                **{
                    name: s.CharField(allow_null=True, help_text="null = unknown")
                    for name in ("last", "change", "change_percent", "high", "low", "base_volume", "quote_volume")
                },
                "event_time_ms": s.IntegerField(allow_null=True),
                "sparkline": s.ListField(child=s.CharField(), help_text="closes of 24 h, 30 min apart, oldest first"),
            },
        ),
    },
)
GAPS: Final = operation(
    "Gaps",
    "The gap ledger",
    [_symbol(required=False), *_range("a day", "366 days")],
    {
        "from_ms": s.IntegerField(),
        "to_ms": s.IntegerField(),
        "gaps": _many("Gap", _GAP_FIELDS),
        "is_cut": s.BooleanField(help_text="there are more than are listed"),
    },
)
#: What names a series of stored bars, asked for and answered.
_OF_SERIES: Final = (_symbol(required=True), _interval([i.value for i in STORED_INTERVALS], "1m"))
_SERIES_FIELDS: Final[dict[str, s.Field[Any, Any, Any, Any]]] = {
    "symbol": s.CharField(),
    "interval": s.ChoiceField([i.value for i in STORED_INTERVALS]),
    "from_ms": s.IntegerField(),
    "to_ms": s.IntegerField(),
}
MINUTES: Final = operation(
    "Minutes",
    "The ledger strip: state of each bar",
    [
        *_OF_SERIES,
        *_range("1,000 bars", "3,000 bars"),
    ],
    {
        **_SERIES_FIELDS,
        "complete_since_ms": s.IntegerField(
            allow_null=True, help_text="since then no second of the symbol is missing here; null = no rows yet"
        ),
        "columns": _columns(MINUTE_COLUMNS),
        "rows": _rows(MINUTE_COLUMNS),
        "gaps": _many("MinutesGap", _GAP_FIELDS),
    },
)
COMPLETENESS: Final = operation(
    "Completeness",
    "Seconds stored and missing, by hour",
    [_symbol(required=False), *_range("a day", "31 days")],
    {
        "hours": _many(
            "Hour",
            {
                "symbol": s.CharField(),
                "hour": s.IntegerField(help_text="its first ms"),
                **{name: s.IntegerField() for name in ("expected", "stream", "rest", "trades", "absent", "open")},
                "updated_at_ms": s.IntegerField(help_text="when it was counted"),
            },
        )
    },
)
AUDIT: Final = operation(
    "Audit",
    "Our minutes against the exchange's own",
    [
        _symbol(required=False),
        *_range("a day", "31 days"),
        parameter("state", "only minutes of this state; the counts are of all", "different", enum=AUDIT_STATES),
    ],
    {
        "from_ms": s.IntegerField(),
        "to_ms": s.IntegerField(),
        "counts": inline_serializer(
            "AuditCounts", {name: s.IntegerField() for name in (*AUDIT_STATES, "needs_person")}
        ),
        "minutes": _many(
            "AuditedMinute",
            {
                "symbol": s.CharField(),
                "open_time_ms": s.IntegerField(),
                "state": s.ChoiceField(AUDIT_STATES),
                "reason": s.CharField(allow_null=True, help_text="why it is not comparable"),
                "differences": s.DictField(
                    child=s.ListField(child=s.CharField()), help_text="per column [ours, the exchange's]"
                ),
                "tolerances": s.ListField(
                    child=s.CharField(), help_text="named habits of the exchange that were let by"
                ),
                "compared_with": s.ChoiceField(["stream", "rest"], allow_null=True),
                "revision": s.IntegerField(help_text="of our candle"),
                "rechecks": s.IntegerField(help_text="how often its seconds were fetched again"),
                "needs_person": s.BooleanField(help_text="differs even after the rechecks"),
                "audited_at_ms": s.IntegerField(),
            },
        ),
    },
)
REVISIONS: Final = operation(
    "Revisions",
    "What candles were before they were revised",
    [
        *_OF_SERIES,
        *_range("a day", "366 days"),
    ],
    {
        **_SERIES_FIELDS,
        "columns": _columns(REVISION_COLUMNS),
        "rows": _rows(REVISION_COLUMNS),
    },
)
CHECKPOINTS: Final = operation(
    "Checkpoints",
    "How far reading and storing is",
    [],
    {
        "checkpoints": _many(
            "Checkpoint",
            {
                "topic": s.CharField(),
                "topic_id": s.CharField(),
                **{name: s.IntegerField() for name in ("partition", "next_offset", "epoch", "updated_at_ms")},
            },
        ),
        "watermarks": _many(
            "Watermark",
            {
                **{name: s.CharField() for name in ("symbol", "stream")},
                **{name: s.IntegerField() for name in ("event_time_ms", "updated_at_ms")},
            },
        ),
    },
)
STATUS: Final = operation(
    "Status",
    "The verdict, and how each reader keeps up",
    [],
    {
        "verdict": s.ChoiceField(["healthy", "degraded", "losing data"]),
        "reason": s.CharField(),
        "readers": _many(
            "Reader",
            {
                "room": s.CharField(),
                "topic": s.CharField(),
                "partition": s.IntegerField(),
                "lag_records": s.IntegerField(allow_null=True),
                "lag_seconds": s.FloatField(allow_null=True),
                "headroom_seconds": s.FloatField(allow_null=True, help_text="until the next record may be deleted"),
            },
        ),
    },
)
