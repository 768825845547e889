"""Paths of /api/v3."""

from __future__ import annotations

from django.urls import path

from webapp.api.binance.klines import klines
from webapp.api.binance.market import exchange_info, ping, time
from webapp.api.binance.tickers import day, price

urlpatterns = [
    path("ping", ping),
    path("time", time),
    path("exchangeInfo", exchange_info),
    path("klines", klines),
    path("ticker/price", price),
    path("ticker/24hr", day),
]
