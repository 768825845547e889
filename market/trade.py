"""Trades as the exchange reports them (binance.md 3.2)."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade. `is_buyer_maker` true means that the taker (aggressor) sold."""

    symbol: str
    trade_id: int
    price: Decimal
    quantity: Decimal
    trade_time_ms: int
    is_buyer_maker: bool
    event_time_ms: int
    received_at_ms: int = 0
