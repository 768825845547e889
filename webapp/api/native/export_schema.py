"""What OpenAPI tells of /api/v1/export."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers as s

from market.odd_intervals import EXCHANGE_INTERVALS
from webapp.api.native import schema
from webapp.export.encoders import Format
from webapp.export.tables import Table

_PARAMETERS: Final = [
    schema.parameter("table", "what to export; no trades are stored", "klines", enum=[*Table], default="klines"),
    schema.parameter("symbol", "needed for klines; else all symbols without it", "BTCUSDT"),
    schema.parameter("interval", "needed for klines; case-sensitive", "1m", enum=list(EXCHANGE_INTERVALS)),
    schema.parameter("start", f"oldest open time, inclusive: {schema.TIME}; default the first row", "1700000000000"),
    schema.parameter("end", f"end of the open times, exclusive: {schema.TIME}; default the last row", "2026-11-21"),
    schema.parameter("format", "Arrow as an IPC stream", "csv", enum=[*Format], default="csv"),
    schema.parameter("layout", "archive: the 12 columns of the exchange's public archive, no header; csv and csv.gz",
                     "table", enum=["table", "archive"], default="table"),
    schema.parameter("unit", "of the times in the archive's layout", "ms", enum=["ms", "us"], default="ms"),
]  # fmt: skip
_FILE: Final = {(200, kind.content_type.partition(";")[0]): OpenApiTypes.BINARY for kind in Format}

EXPORT: Final[dict[str, Any]] = {
    "summary": "Rows in bulk as a file",
    "operation_id": "export",
    "parameters": _PARAMETERS,
    "responses": {
        **_FILE,
        **schema.ERRORS,
        (422, "application/problem+json"): OpenApiResponse(schema.PROBLEM, "a number does not fit into the format"),
    },
    "tags": ["v1"],
}
MANIFEST: Final[dict[str, Any]] = schema.operation(
    "ExportManifest",
    "Rows, SHA-256 and completeness of a finished export",
    [],
    {
        "rows": s.IntegerField(),
        "sha256": s.CharField(help_text="of the bytes of the file"),
        "completeness": s.FloatField(allow_null=True, help_text="share of the closed bars of the range, 0 to 1"),
        "expected_bars": s.IntegerField(allow_null=True),
        "complete_bars": s.IntegerField(allow_null=True),
        "query": s.JSONField(),
    },
)
MANIFEST["responses"][(409, "application/problem+json")] = OpenApiResponse(schema.PROBLEM, "not finished")
