"""Paths of /api/v3."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path

from webapp.api.binance import errors
from webapp.api.binance.klines import klines
from webapp.api.binance.market import exchange_info, ping, time
from webapp.api.binance.tickers import day, price


def _unknown(request: HttpRequest) -> HttpResponse:
    return errors.for_status(404, "")


urlpatterns = [
    path("ping", ping),
    path("time", time),
    path("exchangeInfo", exchange_info),
    path("klines", klines),
    path("ticker/price", price),
    path("ticker/24hr", day),
    re_path(r"", _unknown),
]
