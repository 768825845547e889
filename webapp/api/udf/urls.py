"""Paths of /udf."""

from __future__ import annotations

from django.urls import path

from webapp.api.udf.history import history
from webapp.api.udf.marks import marks, timescale_marks
from webapp.api.udf.symbols import config, quotes, search, symbol_info, symbols, time

urlpatterns = [
    path("config", config),
    path("symbols", symbols),
    path("search", search),
    path("symbol_info", symbol_info),
    path("history", history),
    path("marks", marks),
    path("timescale_marks", timescale_marks),
    path("quotes", quotes),
    path("time", time),
]
