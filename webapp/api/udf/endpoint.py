"""What all endpoints of this dialect share: GET only, weight, errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse, QueryDict
from django.views.decorators.csrf import csrf_exempt

from webapp.api.caching import LIVE, SETTLED, Settled
from webapp.api.limits import LIMITER, address_of
from webapp.api.udf.errors import CONTENT_TYPE, UdfError, for_status


def endpoint(weight: int) -> Callable[[Callable[[QueryDict], Any]], Callable[[HttpRequest], HttpResponse]]:
    """A view from a function of the query that returns the body."""

    def decorate(function: Callable[[QueryDict], Any]) -> Callable[[HttpRequest], HttpResponse]:
        # Nothing is written and no cookie is read: a refused method is told so, not that it lacks a token.
        @csrf_exempt
        @wraps(function)
        def view(request: HttpRequest) -> HttpResponse:
            if request.method not in ("GET", "HEAD"):
                return for_status(405, "")
            cache_control = LIVE
            try:
                _take(request, weight)
                body = function(request.GET)
            except UdfError as error:
                response = error.response()
            else:
                if isinstance(body, Settled):
                    body, cache_control = body.body, SETTLED
                response = HttpResponse(msgspec.json.encode(body), content_type=CONTENT_TYPE)
            response["Cache-Control"] = cache_control
            return response

        return view

    return decorate


def _take(request: HttpRequest, weight: int) -> None:
    _, wait_s = LIMITER.take(address_of(request), weight)
    if wait_s:
        message = f"more than {LIMITER.limit_per_minute} weight in this minute; come again in {wait_s} s"
        raise UdfError(message, 429, wait_s)
