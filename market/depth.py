"""Messages about the order book and the day (binance.md 3.4 to 3.7)."""

from __future__ import annotations

from decimal import Decimal

import msgspec

#: price, quantity
Level = tuple[Decimal, Decimal]


class DepthUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """A diff: absolute new quantities, 0 removes the level. Contiguous when first_update_id == previous last + 1."""

    symbol: str
    first_update_id: int
    last_update_id: int
    bids: list[Level]
    asks: list[Level]
    event_time_ms: int
    received_at_ms: int = 0


class PartialDepth(msgspec.Struct, frozen=True, kw_only=True):
    """The best levels of both sides, best first, complete in itself. The exchange gives no time with it."""

    symbol: str
    last_update_id: int
    bids: list[Level]
    asks: list[Level]
    received_at_ms: int = 0


class BookTicker(msgspec.Struct, frozen=True, kw_only=True):
    """Best bid and ask after order-book update `update_id`. The exchange gives no time with it."""

    symbol: str
    update_id: int
    bid_price: Decimal
    bid_quantity: Decimal
    ask_price: Decimal
    ask_quantity: Decimal
    received_at_ms: int = 0


class MiniTicker(msgspec.Struct, frozen=True, kw_only=True):
    """Rolling 24 h figures (not the UTC day)."""

    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    base_volume: Decimal
    quote_volume: Decimal
    event_time_ms: int
    received_at_ms: int = 0
