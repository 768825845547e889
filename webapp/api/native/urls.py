"""Paths of /api/v1."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path

from webapp.api.native import views
from webapp.api.native.problems import problem


def _unknown(request: HttpRequest) -> HttpResponse:
    return problem(404, "no such resource; /api/docs/ lists what there is", request.path)


urlpatterns = [
    path("klines", views.KlinesView.as_view()),
    path("symbols", views.SymbolsView.as_view()),
    path("gaps", views.GapsView.as_view()),
    path("minutes", views.MinutesView.as_view()),
    path("completeness", views.CompletenessView.as_view()),
    path("checkpoints", views.CheckpointsView.as_view()),
    path("status", views.StatusView.as_view()),
    re_path(r"", _unknown),
]
