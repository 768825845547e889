"""Which pages of other origins may read the APIs: exactly those of API_CORS_ORIGINS, none by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

GetResponse = Callable[[HttpRequest], HttpResponseBase]

#: The reads. Nothing that acts is among them.
PATHS: Final = ("/api/v1/", "/api/v3/", "/udf/", "/api/schema/")
#: Operators' own data stay with their own page.
CLOSED_PATHS: Final = ("/api/v1/operator",)
EXPOSED: Final = "ETag, Link, Retry-After, X-Export-Id, X-MBX-USED-WEIGHT, X-MBX-USED-WEIGHT-1M"
PREFLIGHT_MAX_AGE_S: Final = 600


class Cors:
    """Access-Control headers for the allowed origins; no cookies ever."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._origins = settings.ROOM.cors_origins()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not self._origins or not request.path.startswith(PATHS) or request.path.startswith(CLOSED_PATHS):
            return self._get_response(request)
        origin = request.headers.get("Origin", "")
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        response = HttpResponse(status=204) if is_preflight else self._get_response(request)
        patch_vary_headers(response, ("Origin",))
        if origin in self._origins:
            response["Access-Control-Allow-Origin"] = origin
            response["Access-Control-Expose-Headers"] = EXPOSED
            if is_preflight:
                response["Access-Control-Allow-Methods"] = "GET, HEAD, OPTIONS"
                response["Access-Control-Allow-Headers"] = "X-MBX-TIME-UNIT, X-MBX-APIKEY, If-None-Match"
                response["Access-Control-Max-Age"] = str(PREFLIGHT_MAX_AGE_S)
        return response
