"""Errors of /api/v1: RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpResponse
from rest_framework.exceptions import APIException

CONTENT_TYPE: Final = "application/problem+json"


class BadParameter(Exception):
    """A query parameter that cannot be used; `allowed` says what can."""

    def __init__(self, name: str, detail: str, allowed: object = None, status: int = 400) -> None:
        super().__init__(detail)
        self.name, self.detail, self.allowed, self.status = name, detail, allowed, status


class TooManyRequests(Exception):
    """The address has used up its weight of this minute."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"come again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


def problem(status: int, detail: str, instance: str, **members: object) -> HttpResponse:
    """The answer: type, title, status, detail, instance, and what else helps."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": instance,
        **{name: value for name, value in members.items() if value is not None},
    }
    return HttpResponse(msgspec.json.encode(body), status=status, content_type=CONTENT_TYPE)


def handle(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """Our errors and the framework's as problems; None = not ours, the middleware decides."""
    path = context["request"].path
    match error:
        case BadParameter():
            return problem(error.status, error.detail, path, parameter=error.name, allowed=error.allowed)
        case TooManyRequests():
            response = problem(429, str(error), path)
            response["Retry-After"] = str(error.retry_after_s)
            return response
        case RequestDataTooBig():
            return problem(413, "the body is too large", path)
        case Http404():
            return problem(404, "no such resource", path)
        case APIException():
            return problem(error.status_code, str(error.detail), path)
    return None
