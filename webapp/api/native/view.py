"""What all views of this dialect share: GET only, weight, the source's name."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webapp.api.caching import ASKED_AGAIN, LIVE
from webapp.api.limits import LIMITER, address_of
from webapp.api.native.problems import TooManyRequests


class NativeView(APIView):
    """A read of /api/v1; `weight` counts against the address, in Binance's weights."""

    http_method_names = ["get", "head", "options"]
    weight = 2

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Weigh the request before any work."""
        super().initial(request, *args, **kwargs)
        _, wait_s = LIMITER.take(address_of(request._request), self.weight)
        if wait_s:
            raise TooManyRequests(wait_s)


def answer(body: dict[str, Any], *, is_settled: bool = False) -> Response:
    """The body with the source's name; where all of it is over, caches may keep it and ask whether it stands."""
    return Response(
        {"source": settings.ROOM.source, **body}, headers={"Cache-Control": ASKED_AGAIN if is_settled else LIVE}
    )
