"""The operators' page. It asks no engine, so that it comes with any of them away; all its figures come over the API."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from webapp.operations.permission import COOKIE, operators_only
from webapp.pages.views import modules_of, page_config

API: Final = {
    "operator": "/api/v1/operator",
    "history": "/api/v1/operator/history",
    "actions": "/api/v1/operator/actions",
    "retention": "/api/v1/retention",
    "completeness": "/api/v1/completeness",
    "gaps": "/api/v1/gaps",
}
CHART_LIBRARY: Final = "vendor/uplot/uPlot.esm.js"
SHARED: Final = ("dialogs", "dom", "format", "frame", "ledger", "preferences", "theme", "timezone")
MODULES: Final = [
    CHART_LIBRARY,
    *(f"js/{name}.js" for name in SHARED),
    *modules_of("js/operator", "page.js"),
]


@operators_only
@require_safe
@never_cache
def operator(request: HttpRequest) -> HttpResponse:
    """Verdict, engines, topics, readers, rooms, data, alerts, actions."""
    config = {**page_config(request), "api": API, "csrfToken": get_token(request)}
    context = {"config": config, "modules": MODULES, "is_logged_in": COOKIE in request.COOKIES}
    return render(request, "operator.html", context)
