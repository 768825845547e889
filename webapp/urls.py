"""All paths of the site."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularJSONAPIView

from webapp.api.docs import docs

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v3/", include("webapp.api.binance.urls")),
    path("api/v1/", include("webapp.api.native.urls")),
    path("udf/", include("webapp.api.udf.urls")),
    path("api/docs/", docs, name="api-docs"),
    path("api/schema/", SpectacularJSONAPIView.as_view(), name="schema"),
    path("", include("webapp.operations.urls")),
    path("", include("webapp.pages.urls")),
]
handler404 = "webapp.pages.views.not_found"
