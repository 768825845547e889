"""Roll-up by the exchange's rules (binance.md 0.5, 0.6).

A bar without trades (trade_count 0) is flat at the previous close and takes no part in open, high and low;
the close is always the last bar's. When every bar is quiet the flat value is carried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from market.interval import SECOND_MS, Interval
from market.kline import Candle, Kline, Source

ZERO = Decimal(0)


class Accumulator(msgspec.Struct, kw_only=True):
    """The values of a forming bar. Parts are added in time order; adding is associative."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    base_volume: Decimal = ZERO
    quote_volume: Decimal = ZERO
    trade_count: int = 0
    taker_buy_base_volume: Decimal = ZERO
    taker_buy_quote_volume: Decimal = ZERO
    first_trade_id: int | None = -1
    last_trade_id: int | None = -1
    row_count: int = 0
    covered_until_ms: int = 0
    event_time_ms: int = 0

    @classmethod
    def starting_with(cls, part: Kline | Candle) -> Accumulator:
        """An accumulator holding just this part."""
        accumulator = cls(open=part.open, high=part.high, low=part.low, close=part.close)
        accumulator.add(part)
        return accumulator

    def add(self, part: Kline | Candle) -> None:
        """Take in the next part (later in time than all before)."""
        if part.trade_count > 0:
            if self.trade_count == 0:
                self.open, self.high, self.low = part.open, part.high, part.low
                self.first_trade_id = part.first_trade_id
            else:
                self.high = max(self.high, part.high)
                self.low = min(self.low, part.low)
            self.last_trade_id = part.last_trade_id
        elif self.trade_count == 0:
            self.open = self.high = self.low = part.close
        self.close = part.close
        self.base_volume += part.base_volume
        self.quote_volume += part.quote_volume
        self.trade_count += part.trade_count
        self.taker_buy_base_volume += part.taker_buy_base_volume
        self.taker_buy_quote_volume += part.taker_buy_quote_volume
        self.row_count += part.row_count if isinstance(part, Candle) else part_seconds(part)
        self.covered_until_ms = part.covered_until_ms if isinstance(part, Candle) else part.close_time_ms + 1
        self.event_time_ms = max(self.event_time_ms, part.event_time_ms)


def part_seconds(part: Kline) -> int:
    """How many seconds a kline of the exchange stands for."""
    return (part.close_time_ms + 1 - part.open_time_ms) // SECOND_MS


def roll_up(parts: Sequence[Kline | Candle], interval: Interval) -> Candle:
    """One candle from its parts (klines of 1s, or candles of a smaller interval), all inside one bar.

    `parts` may be unsorted but must not hold one open time twice. `source` is `seconds` unless a part came
    from somewhere else. Raises ValueError for no parts, or parts of several bars or symbols.
    """
    if not parts:
        raise ValueError("nothing to roll up")
    ordered = sorted(parts, key=lambda part: part.open_time_ms)
    symbol, open_time_ms = ordered[0].symbol, interval.floor(ordered[0].open_time_ms)
    if any(part.symbol != symbol or interval.floor(part.open_time_ms) != open_time_ms for part in ordered):
        raise ValueError(f"parts of more than one {interval} bar or symbol")
    total = Accumulator.starting_with(ordered[0])
    for part in ordered[1:]:
        total.add(part)
    return to_candle(total, symbol, interval, open_time_ms, _source_of(ordered))


def to_candle(total: Accumulator, symbol: str, interval: Interval, open_time_ms: int, source: Source) -> Candle:
    """The accumulated values as a candle; `is_closed` means that the bar is covered to its end."""
    close_time_ms = interval.close_time(open_time_ms)
    return Candle(
        symbol=symbol,
        interval=interval,
        open_time_ms=open_time_ms,
        close_time_ms=close_time_ms,
        open=total.open,
        high=total.high,
        low=total.low,
        close=total.close,
        base_volume=total.base_volume,
        quote_volume=total.quote_volume,
        trade_count=total.trade_count,
        taker_buy_base_volume=total.taker_buy_base_volume,
        taker_buy_quote_volume=total.taker_buy_quote_volume,
        first_trade_id=total.first_trade_id,
        last_trade_id=total.last_trade_id,
        row_count=total.row_count,
        expected_count=interval.seconds,
        covered_until_ms=total.covered_until_ms,
        is_complete=total.row_count == interval.seconds,
        is_closed=total.covered_until_ms > close_time_ms,
        source=source,
        revision=0,
        event_time_ms=total.event_time_ms,
        updated_at_ms=0,
    )


def _source_of(parts: Iterable[Kline | Candle]) -> Source:
    """`seconds` when every part came from our own seconds, else the foreign one: `archive` before `rest`."""
    foreign = (part.source for part in parts if isinstance(part, Candle) and part.source is not Source.SECONDS)
    return min(foreign, default=Source.SECONDS)
