"""What all views of this dialect share: GET only, weight, names of parameters, the source's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webapp.api.caching import ASKED_AGAIN, LIVE
from webapp.api.limits import LIMITER, address_of
from webapp.api.native import parameters
from webapp.api.native.problems import TooManyRequests


class NativeView(APIView):
    """A read of /api/v1; `weight` counts against the address, in Binance's weights. `operation` is what OpenAPI says
    of the read: a query parameter that it does not name is refused."""

    http_method_names = ["get", "head", "options"]
    weight = 2
    limiter = LIMITER
    operation: ClassVar[Mapping[str, Any]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Weigh the request before any work, and read the names of its parameters."""
        super().initial(request, *args, **kwargs)
        _, wait_s = self.limiter.take(address_of(request._request), self.weight)
        if wait_s:
            raise TooManyRequests(wait_s)
        if request.method in ("GET", "HEAD"):
            parameters.require_names(request.query_params, [one.name for one in self.operation.get("parameters", ())])


def answer(body: dict[str, Any], *, is_settled: bool = False) -> Response:
    """The body with the source's name; where all of it is over, caches may keep it and ask whether it stands."""
    return Response(
        {"source": settings.ROOM.source, **body}, headers={"Cache-Control": ASKED_AGAIN if is_settled else LIVE}
    )
