"""The 24 hour statistics of `ticker` and REST ticker/24hr, from the bar of the last day."""

from __future__ import annotations

from typing import NamedTuple

from exchange_sim.symbols import SymbolSpec, text8
from exchange_sim.trades import Bar, TradeLog

Best = tuple[tuple[int, int], tuple[int, int]]


class DayStatistics(NamedTuple):
    """The day's bar, the close before it, the last trade's quantity, and the book's best levels."""

    day: Bar
    close_before: int
    last_quantity: int
    best: Best | None


def day_statistics(log: TradeLog, spec: SymbolSpec, day: Bar, best: Best | None) -> DayStatistics:
    """Statistics of the bar `day`."""
    before = log.last_before(spec, day.open_ms)
    last = log.last_before(spec, day.close_ms + 1)
    return DayStatistics(
        day,
        int(before.price[0]) if before is not None else day.open,
        int(last.quantity[0]) if last is not None else 0,
        best,
    )


def texts(spec: SymbolSpec, stats: DayStatistics) -> dict[str, str]:
    """All amounts, by the names of REST ticker/24hr."""
    day, p, q = stats.day, spec.price_unit, spec.quantity_unit
    change = day.close - day.open
    average = day.quote * p // day.base if day.base else day.close * p
    bid, ask = stats.best or ((0, 0), (0, 0))
    sign = "-" if change < 0 else ""
    thousandths = (abs(change) * 100_000 * 2 + day.open) // (2 * day.open)
    return {
        "priceChange": sign + text8(abs(change) * p),
        "priceChangePercent": f"{sign}{thousandths // 1000}.{thousandths % 1000:03d}",
        "weightedAvgPrice": text8(average),
        "prevClosePrice": text8(stats.close_before * p),
        "lastPrice": text8(day.close * p),
        "lastQty": text8(stats.last_quantity * q),
        "bidPrice": text8(bid[0] * p),
        "bidQty": text8(bid[1] * q),
        "askPrice": text8(ask[0] * p),
        "askQty": text8(ask[1] * q),
        "openPrice": text8(day.open * p),
        "highPrice": text8(day.high * p),
        "lowPrice": text8(day.low * p),
        "volume": text8(day.base * q),
        "quoteVolume": text8(spec.quote8(day.quote)),
    }
