"""Who operates: this machine, or who knows OPERATOR_TOKEN.

A loopback address counts only where nobody forwarded the request unasked: behind a proxy that is not in
WEB_TRUSTED_PROXIES every visitor would seem to be this machine. The name in the address bar must be an exact one of
WEB_ALLOWED_HOSTS, so that a foreign name that is made to point here (DNS rebinding) gives no rights.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from runtime.clock import SystemClock
from runtime.logs import get_logger
from webapp.api.limits import WeightLimiter, address_of

COOKIE: Final = "operator"
COOKIE_MAX_AGE_S: Final = 12 * 3600
LOGINS_PER_MINUTE: Final = 10
OPERATOR_PAGE: Final = "/operator"
REFUSED: Final = (
    "only for operators: from this machine itself, or with OPERATOR_TOKEN (Authorization: Bearer, or /operator/login)"
)
#: Beginnings of the headers by which a proxy says that it forwards, whatever else it says.
FORWARDED: Final = ("HTTP_X_FORWARDED_", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA", "HTTP_CF_CONNECTING_IP")
LOGINS: Final = WeightLimiter(LOGINS_PER_MINUTE, SystemClock())

log = get_logger(__name__)


def operator_of(request: HttpRequest) -> str | None:
    """Who asks, for the audit: an address, and whether by the token; None = no operator."""
    address = address_of(request)
    if has_bearer(request) or _has_cookie(request):
        return f"{address} (token)"
    return address if _is_this_machine(request, address) else None


def has_bearer(request: HttpRequest) -> bool:
    """The token stands in the header, which no foreign page can make a browser send: no CSRF token is needed then."""
    kind, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return kind.lower() == "bearer" and is_token(token.strip())


def is_token(given: str) -> bool:
    """Compare with OPERATOR_TOKEN in a time that tells nothing; without that setting no token is right."""
    wanted = settings.ROOM.operator_token.get_secret_value()
    # Digests, because the comparison itself would tell the length.
    same = hmac.compare_digest(_digest(given), _digest(wanted))
    return bool(wanted) and same


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _salt() -> str:
    """Changes with the token, so that cookies of an old one end with it."""
    return f"operator:{_digest(settings.ROOM.operator_token.get_secret_value()).hex()}"


def _has_cookie(request: HttpRequest) -> bool:
    if not settings.ROOM.operator_token.get_secret_value():
        return False
    try:
        signing.loads(request.COOKIES.get(COOKIE, ""), salt=_salt(), max_age=COOKIE_MAX_AGE_S)
    except signing.BadSignature:
        return False
    return True


def _is_this_machine(request: HttpRequest, address: str) -> bool:
    forwarded = any(name.startswith(FORWARDED) for name in request.META)
    vouched = request.META.get("REMOTE_ADDR", "") in settings.ROOM.trusted_proxies()
    if forwarded != vouched or (vouched and "HTTP_X_FORWARDED_FOR" not in request.META):
        return False
    host = request.get_host()
    name = host if host.endswith("]") else host.partition(":")[0]
    return _is_loopback(address) and (name.lower() in settings.ALLOWED_HOSTS or _is_loopback(name.strip("[]")))


def _is_loopback(text: str) -> bool:
    if text == "localhost":
        return True
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class IsOperator(BasePermission):
    """For the views of the API: 403 with problem details for everybody else."""

    message = REFUSED

    def has_permission(self, request: Request, view: APIView) -> bool:
        """It is an operator's request."""
        return operator_of(request._request) is not None


def operators_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """For pages: everybody else gets a plain page with status 403, with the way in where there is one."""

    @never_cache
    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs) if operator_of(request) is not None else _refuse(request, "")

    return guarded


def _refuse(request: HttpRequest, why: str, status: int = 403) -> HttpResponse:
    """The plain page; with a form where a token would help."""
    context = {"has_token": bool(settings.ROOM.operator_token.get_secret_value()), "why": why}
    return render(request, "operator_login.html", context, status=status)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """The form, and what it sends: the right token gives the cookie, a wrong one the form again."""
    if request.method != "POST":
        return _refuse(request, "", 200)
    address = address_of(request)
    _, wait_s = LOGINS.take(address, 1)
    if wait_s:
        answer = _refuse(request, f"Too many attempts. Try again in {wait_s} s.", 429)
        answer["Retry-After"] = str(wait_s)
        return answer
    if not is_token(request.POST.get("token", "")):
        log.warning("operator_login_refused", address=address)
        return _refuse(request, "This is not the token.")
    log.info("operator_login", address=address)
    answer = HttpResponseRedirect(OPERATOR_PAGE)
    answer.set_cookie(
        COOKIE,
        signing.dumps("", salt=_salt()),
        max_age=COOKIE_MAX_AGE_S,
        httponly=True,
        samesite="Strict",
        secure=settings.CSRF_COOKIE_SECURE,
    )
    return answer


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """Forget the cookie."""
    answer = HttpResponseRedirect("/")
    answer.delete_cookie(COOKIE, samesite="Strict")
    return answer
