"""Paths of the pages."""

from __future__ import annotations

from django.urls import path

from webapp.pages import views
from webapp.pages.operator_view import operator

urlpatterns = [
    path("", views.markets, name="markets"),
    path("chart/<str:symbol>", views.chart, name="chart"),
    path("operator", operator, name="operator"),
    path("about/", views.about, name="about"),
    path("favicon.ico", views.favicon),
]
