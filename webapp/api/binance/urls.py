"""Paths of /api/v3."""

from __future__ import annotations

from django.urls import path

from webapp.api.binance.klines import klines
from webapp.api.binance.live import agg_trades, book_ticker, depth, historical_trades, trades
from webapp.api.binance.market import exchange_info, ping, time
from webapp.api.binance.tickers import day, price

urlpatterns = [
    path("ping", ping),
    path("time", time),
    path("exchangeInfo", exchange_info),
    path("klines", klines),
    path("depth", depth),
    path("trades", trades),
    path("aggTrades", agg_trades),
    path("historicalTrades", historical_trades),
    path("ticker/price", price),
    path("ticker/24hr", day),
    path("ticker/bookTicker", book_ticker),
]
