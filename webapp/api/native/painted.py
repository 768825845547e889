"""POST /api/v1/painted: chart pages report how long their updates took from the relay to the pixel.

Anybody may post, so it is believed for nothing but this one histogram: bounded in size, values and rate. Only
application/json is read, which a foreign page cannot send from a visitor's browser unasked.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from prometheus_client import Histogram
from rest_framework import serializers as s
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.response import Response

from runtime.clock import SystemClock
from webapp.api.limits import WeightLimiter, address_of
from webapp.api.native.problems import BadParameter
from webapp.api.native.view import NativeView

#: A page reports each minute; this many pages of one address are heard.
REPORTS_PER_MINUTE: Final = 20
MAX_UPDATES: Final = 60
MAX_MS: Final = 60_000
MAX_BODY_BYTES: Final = 4_096
PROBLEM: Final = "application/problem+json"
REPORTS: Final = WeightLimiter(REPORTS_PER_MINUTE, SystemClock())

PAINTED_SECONDS: Final = Histogram(
    "page_painted_seconds",
    "From the relay's sending of an update to its pixel, as chart pages report it",
    buckets=(0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


class Report(msgspec.Struct):
    """Milliseconds of single updates, about one for each second since the report before."""

    relayed_to_painted_ms: Annotated[
        list[Annotated[float, msgspec.Meta(ge=0, le=MAX_MS)]], msgspec.Meta(max_length=MAX_UPDATES)
    ]


SCHEMA: Final[dict[str, Any]] = {
    "summary": "A chart page reports how long its updates took from the relay to the pixel",
    "operation_id": "reportPainted",
    "request": inline_serializer(
        "PaintedReport",
        {
            "relayed_to_painted_ms": s.ListField(
                child=s.FloatField(min_value=0, max_value=MAX_MS), max_length=MAX_UPDATES
            )
        },
    ),
    "responses": {
        204: OpenApiResponse(description="taken; or dropped, when the address reports too often"),
        (400, PROBLEM): OpenApiResponse(description="the body is no such report"),
        (415, PROBLEM): OpenApiResponse(description="the body is no application/json"),
        (429, PROBLEM): OpenApiResponse(description="the address has used up its weight of this minute"),
    },
}


class PaintedView(NativeView):
    """The report of one page."""

    http_method_names = ["post", "options"]

    @extend_schema(**SCHEMA)
    def post(self, request: Request) -> Response:
        """Count the updates of the report. Nobody waits for the answer, so what comes too often is dropped unsaid."""
        if (request.content_type or "").partition(";")[0].strip().lower() != "application/json":
            raise UnsupportedMediaType(request.content_type or "")
        body = request._request.body
        if len(body) > MAX_BODY_BYTES:
            raise BadParameter("body", "is too large", {"bytes": MAX_BODY_BYTES})
        try:
            report = msgspec.json.decode(body, type=Report)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadParameter("body", str(error)) from None
        _, wait_s = REPORTS.take(address_of(request._request), 1)
        if not wait_s:
            for took_ms in report.relayed_to_painted_ms:
                PAINTED_SECONDS.observe(took_ms / 1000)
        return Response(status=204)
