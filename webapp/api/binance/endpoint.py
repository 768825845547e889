"""What all endpoints of this dialect share: method, parameters, weight, headers, errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import msgspec
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from runtime.clock import SystemClock
from webapp.api.binance import errors
from webapp.api.binance.parameters import Parameters, time_unit
from webapp.api.caching import LIVE, SETTLED, Settled
from webapp.api.limits import LIMITER, address_of

CLOCK: Final = SystemClock()

Endpoint = Callable[[Parameters, int], Any]
Weigh = Callable[[Parameters], int]


def endpoint(*names: str, weight: int | Weigh) -> Callable[[Endpoint], Callable[[HttpRequest], HttpResponse]]:
    """A view from a function of the parameters and the time unit (1 = ms, 1000 = us) that returns the body."""

    def decorate(function: Endpoint) -> Callable[[HttpRequest], HttpResponse]:
        # Nothing is written and no cookie is read: a refused method is told so, not that it lacks a token.
        @csrf_exempt
        @wraps(function)
        def view(request: HttpRequest) -> HttpResponse:
            if request.method not in ("GET", "HEAD"):
                return errors.for_status(405, "")
            used, cache_control = 0, LIVE
            try:
                parameters = Parameters(request.GET, names)
                unit = time_unit(request.headers.get("X-MBX-TIME-UNIT"))
                cost = weight if isinstance(weight, int) else weight(parameters)
                used = _take(request, cost)
                body = function(parameters, unit)
            except errors.BinanceError as error:
                response = error.response()
                used = used or _take_quietly(request)
            else:
                if isinstance(body, Settled):
                    body, cache_control = body.body, SETTLED
                response = HttpResponse(msgspec.json.encode(body), content_type=errors.CONTENT_TYPE)
            response["X-MBX-USED-WEIGHT"] = response["X-MBX-USED-WEIGHT-1M"] = str(used)
            response["Cache-Control"] = cache_control
            return response

        return view

    return decorate


def _take(request: HttpRequest, weight: int) -> int:
    used, wait_s = LIMITER.take(address_of(request), weight)
    if wait_s:
        raise errors.too_much_weight(LIMITER.limit_per_minute, wait_s)
    return used


def _take_quietly(request: HttpRequest) -> int:
    """A refused request costs one, as long as there is something left."""
    return LIMITER.take(address_of(request), 1)[0]
