"""Headers that every answer carries, and JSON errors for the APIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from prometheus_client import Counter, Histogram

from runtime.clock import SystemClock
from runtime.logs import get_logger
from webapp.context import stream_origin

GetResponse = Callable[[HttpRequest], HttpResponseBase]

CLOCK = SystemClock()
REQUESTS = Counter("webapp_requests_total", "Requests answered", ["area", "status"])
SECONDS = Histogram("webapp_request_seconds", "Time from request to answer", ["area"])

API_PATHS: Final = ("/api/", "/udf/")
#: The page among them.
DOCS_PATH: Final = "/api/docs"
#: Of answers that are no page: a browser that is made to show one runs, loads and sends nothing.
DATA_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#: PostgreSQL's code of a prepared statement whose columns a migration has changed.
PLAN_CHANGED: Final = "0A000"
#: PostgreSQL's code of a statement that its timeout has ended.
QUERY_CANCELED: Final = "57014"
TOO_LONG: Final = "the query took longer than 5 s and was ended; ask for a shorter range, or for one symbol"
AWAY: Final = "the database does not answer; try again"

log = get_logger(__name__)


class RequestMetrics:
    """Requests and how long they took, by area of the site and status, for /metrics."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        start_s = CLOCK.monotonic_s()
        response = self._get_response(request)
        parts = request.path.split("/")
        area = parts[1] if parts[1] in ("api", "static", "udf") else "pages"
        if area == "api" and len(parts) > 2 and parts[2] in ("v1", "v3"):
            area = f"api_{parts[2]}"
        REQUESTS.labels(area, str(response.status_code)).inc()
        SECONDS.labels(area).observe(CLOCK.monotonic_s() - start_s)
        return response


class SecurityHeaders:
    """Content-Security-Policy without any inline code, and no needless browser powers."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        # By path: a 304 has no content type, and caches take its headers for those of what they keep.
        is_data = request.path.startswith(API_PATHS) and not request.path.startswith(DOCS_PATH)
        response["Content-Security-Policy"] = DATA_POLICY if is_data else _page_policy(request)
        response["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
        return response


def _page_policy(request: HttpRequest) -> str:
    try:
        stream = " " + stream_origin(request)
    except DisallowedHost:
        stream = ""
    return (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self'{stream}; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class ApiErrors:
    """Errors of the APIs in the dialect of the caller, never an HTML page and never a stack trace."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        is_html = response.get("Content-Type", "").startswith("text/html")
        if request.path.startswith(API_PATHS) and response.status_code >= 400 and is_html:
            # Unknown paths and refused methods and hosts, which the framework answers with a page.
            return api_error(request, response.status_code, "")
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The database away: 503 at once, for pages and APIs alike. Our own bugs: logged, 500."""
        from webapp.pages.views import unavailable

        if isinstance(error, (DatabaseError, InterfaceError)):
            log.warning("database_error", path=request.path, error=str(error).splitlines()[0] if str(error) else "")
            # The driver's error is the cause of the framework's.
            sqlstate = getattr(error.__cause__, "sqlstate", None)
            if sqlstate == PLAN_CHANGED:
                connections["reader"].close()
            if request.path.startswith(API_PATHS):
                return api_error(request, 503, TOO_LONG if sqlstate == QUERY_CANCELED else AWAY)
            return unavailable(request)
        if request.path.startswith(API_PATHS):
            log.exception("request_failed", path=request.path, exc_info=error)
            return api_error(request, 500, "")
        return None


def api_error(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    """An error of this status as Binance (under /api/v3), UDF (under /udf) or RFC 9457 words it."""
    from webapp.api.binance import errors as binance
    from webapp.api.native.problems import problem
    from webapp.api.udf import errors as udf

    if request.path.startswith("/api/v3"):
        return binance.for_status(status, detail)
    if request.path.startswith("/udf/"):
        return udf.for_status(status, detail)
    if status == 404:
        detail = "no such resource; /api/docs/ lists what there is"
    return problem(status, detail, request.path)
