"""The operators' part of the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiResponse, inline_serializer
from rest_framework import serializers as s

PROBLEM: Final = "application/problem+json"
_REFUSED: Final = OpenApiResponse(description="no operator, no CSRF token, or not confirmed; RFC 9457")
_ERRORS: Final = {
    (400, PROBLEM): OpenApiResponse(description="an argument that cannot be used, with the allowed ones"),
    (403, PROBLEM): _REFUSED,
    (404, PROBLEM): OpenApiResponse(description="no such action"),
    (409, PROBLEM): OpenApiResponse(description="too many requests wait already"),
    (415, PROBLEM): OpenApiResponse(description="the body is no application/json"),
    (429, PROBLEM): OpenApiResponse(description="the address has used up its weight of this minute"),
    (503, PROBLEM): OpenApiResponse(description="the database does not answer"),
}
_REQUEST: Final[dict[str, Any]] = {
    "id": s.IntegerField(),
    "action": s.CharField(),
    "arguments": s.JSONField(),
    "requested_by": s.CharField(),
    "requested_at_ms": s.IntegerField(),
    "state": s.ChoiceField(["refused", "accepted", "done", "failed"]),
    "detail": s.CharField(allow_null=True),
    "finished_at_ms": s.IntegerField(allow_null=True),
}
_ARGUMENT: Final[dict[str, Any]] = {
    "name": s.CharField(),
    "type": s.ChoiceField(["symbol", "time", "id", "ids", "topic", "room"]),
    "required": s.BooleanField(),
    "help": s.CharField(),
}
ACTIONS: Final[dict[str, Any]] = {
    "summary": "What operators can have done, and what they had done",
    "operation_id": "operatorActions",
    "tags": ["operator"],
    "responses": {
        (200, "application/json"): inline_serializer(
            "OperatorActions",
            {
                "source": s.CharField(),
                "actions": inline_serializer(
                    "OperatorAction",
                    {
                        "action": s.CharField(),
                        "effect": s.CharField(),
                        "command": s.CharField(help_text="the command that does the same"),
                        "arguments": inline_serializer("OperatorArgument", _ARGUMENT, many=True),
                    },
                    many=True,
                ),
                "recent": inline_serializer("OperatorRequest", _REQUEST, many=True),
            },
        ),
        (403, PROBLEM): _REFUSED,
        (429, PROBLEM): _ERRORS[429, PROBLEM],
        (503, PROBLEM): _ERRORS[503, PROBLEM],
    },
}
PREVIEW: Final[dict[str, Any]] = {
    "summary": "What an action would do now",
    "operation_id": "previewOperatorAction",
    "tags": ["operator"],
    "request": inline_serializer("PreviewRequest", {"arguments": s.DictField(required=False)}),
    "responses": {
        (200, "application/json"): inline_serializer(
            "Preview",
            {
                "source": s.CharField(),
                "action": s.CharField(),
                "arguments": s.DictField(),
                "effect": s.CharField(),
            },
        ),
        **_ERRORS,
    },
}
PERFORM: Final[dict[str, Any]] = {
    "summary": "Have an action done",
    "operation_id": "performOperatorAction",
    "tags": ["operator"],
    "request": inline_serializer(
        "PerformRequest", {"arguments": s.DictField(required=False), "confirm": s.BooleanField()}
    ),
    "responses": {
        (202, "application/json"): inline_serializer(
            "Performed",
            {
                "source": s.CharField(),
                "id": s.IntegerField(),
                "state": s.ChoiceField(["accepted", "done", "failed"]),
                "detail": s.CharField(allow_null=True),
            },
        ),
        **_ERRORS,
    },
}
