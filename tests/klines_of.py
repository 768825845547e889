"""Made-up 1 s klines whose trade ids chain, quiet seconds included; the same for the same arguments."""

from __future__ import annotations

from decimal import Decimal

from market.interval import SECOND_MS, Interval
from market.kline import Kline
from runtime.clock import new_random

CENT = Decimal("0.01")


def seconds_of(symbol: str, start_ms: int, count: int, *, quiet_share: float = 0.3) -> list[Kline]:
    """`count` consecutive klines from `start_ms`."""
    rng = new_random(sum(symbol.encode()) + start_ms // SECOND_MS)
    klines, price, trade_id = [], 100_00, 0
    for second in range(count):
        open_ms = start_ms + second * SECOND_MS
        is_quiet = rng.random() < quiet_share
        trades = 0 if is_quiet else rng.randint(1, 9)
        before = price
        price += 0 if is_quiet else rng.randint(-20, 20)
        spread = 0 if is_quiet else rng.randint(0, 5)
        opened = before if is_quiet else before + rng.randint(-2, 2)
        volume = Decimal(trades) / 8
        klines.append(
            Kline(
                symbol=symbol,
                interval=Interval.S1,
                open_time_ms=open_ms,
                close_time_ms=open_ms + SECOND_MS - 1,
                open=opened * CENT,
                high=(max(opened, price) + spread) * CENT,
                low=(min(opened, price) - spread) * CENT,
                close=price * CENT,
                base_volume=volume,
                quote_volume=volume * 100,
                trade_count=trades,
                taker_buy_base_volume=volume / 2,
                taker_buy_quote_volume=volume * 50,
                first_trade_id=trade_id + 1 if trades else -1,
                last_trade_id=trade_id + trades if trades else -1,
                is_closed=True,
                event_time_ms=open_ms + SECOND_MS + 4,
                received_at_ms=open_ms + SECOND_MS + 9,
            )
        )
        trade_id += trades
    return klines
