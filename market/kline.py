"""Klines: what the exchange says of one interval of one symbol, and our own candle with its provenance."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from market.errors import BadFrame
from market.interval import Interval


class Source(StrEnum):
    """Where the values of a stored row come from (contract.md, tables)."""

    STREAM = "stream"
    REST = "rest"
    TRADES = "trades"
    ARCHIVE = "archive"
    SECONDS = "seconds"


class Kline(msgspec.Struct, frozen=True, kw_only=True):
    """One kline message of the exchange (binance.md 3.1). Also our record on the kline topics.

    Times are ms UTC; `close_time_ms` is the last millisecond. Trade ids are -1 when there was no trade.
    """

    symbol: str
    interval: Interval
    open_time_ms: int
    close_time_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    base_volume: Decimal
    quote_volume: Decimal
    trade_count: int
    taker_buy_base_volume: Decimal
    taker_buy_quote_volume: Decimal
    first_trade_id: int
    last_trade_id: int
    is_closed: bool
    event_time_ms: int
    received_at_ms: int = 0


class Candle(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `aggregated_kline`; also the record on the candle topic.

    `row_count` of `expected_count` seconds are in it, through `covered_until_ms` (exclusive): later seconds
    of the bar have not been rolled up yet. `first_trade_id`/`last_trade_id` are None when unknown (REST rows
    carry none) and -1 when there was no trade.
    """

    symbol: str
    interval: Interval
    open_time_ms: int
    close_time_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    base_volume: Decimal
    quote_volume: Decimal
    trade_count: int
    taker_buy_base_volume: Decimal
    taker_buy_quote_volume: Decimal
    first_trade_id: int | None
    last_trade_id: int | None
    row_count: int
    expected_count: int
    covered_until_ms: int
    is_complete: bool
    is_closed: bool
    source: Source
    revision: int
    event_time_ms: int
    updated_at_ms: int


#: The nine values in which two candles of the same bar are compared (audit, tests).
VALUE_COLUMNS = (
    "open",
    "high",
    "low",
    "close",
    "base_volume",
    "quote_volume",
    "trade_count",
    "taker_buy_base_volume",
    "taker_buy_quote_volume",
)


def differing_columns(left: Kline | Candle, right: Kline | Candle) -> tuple[str, ...]:
    """Names of the value columns in which the two differ; empty when they are equal."""
    return tuple(name for name in VALUE_COLUMNS if getattr(left, name) != getattr(right, name))


def require_sane_kline(kline: Kline) -> None:
    """Raise BadFrame, naming the first thing that no kline of the exchange can be: off the time grid,
    not finite, negative volume, or open/close outside low..high."""
    where = f"kline {kline.symbol} {kline.interval} {kline.open_time_ms}"
    if kline.open_time_ms % kline.interval.length_ms:
        raise BadFrame(f"{where}: open time is off the {kline.interval} grid")
    if kline.close_time_ms != kline.interval.close_time(kline.open_time_ms):
        raise BadFrame(f"{where}: close time {kline.close_time_ms} is not open time + interval - 1")
    for name in VALUE_COLUMNS:
        value = getattr(kline, name)
        if isinstance(value, Decimal) and not value.is_finite():
            raise BadFrame(f"{where}: {name} is not a number")
        if value < 0:
            raise BadFrame(f"{where}: {name} is negative")
    if not kline.low <= min(kline.open, kline.close) <= max(kline.open, kline.close) <= kline.high:
        raise BadFrame(f"{where}: open or close lies outside low..high")
