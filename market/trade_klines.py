"""1 s klines out of single trades, by the exchange's rules (binance.md 0, facts 5 to 8).

A second without trades is flat at the close before it, with trade ids -1. Quote amounts are summed exactly and
then cut, not rounded, to the quote asset's precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import ROUND_DOWN, Decimal
from itertools import groupby, pairwise
from typing import Final

from market.interval import SECOND_MS, Interval
from market.kline import Kline
from market.trade import Trade

#: Decimals of the exchange's quote amounts.
QUOTE_DECIMALS: Final = 8
ZERO: Final = Decimal(0)


def klines_of_trades(
    symbol: str,
    trades: Iterable[Trade],
    from_ms: int,
    to_ms: int,
    previous_close: Decimal | None,
    *,
    quote_decimals: int = QUOTE_DECIMALS,
) -> list[Kline]:
    """The closed 1 s klines of [from_ms, to_ms), both on the grid of seconds, out of all trades of that time.

    `trades` of the symbol may be unsorted, doubled (by id) or reach beyond the range; what lies outside is left out.
    A trade belongs to the second of its trade time; where times step back across ids (by a millisecond or so), a
    trade counts as not earlier than the one before it, so that the ids of the klines chain. `previous_close` is the
    last price before from_ms; None = unknown, then seconds before the first trade are left out. Raises ValueError
    for a range off the grid. The event time is the close time, so that the stream's own kline of the second is newer.
    """
    if from_ms % SECOND_MS or to_ms % SECOND_MS:
        raise ValueError(f"range [{from_ms}, {to_ms}) is off the grid of seconds")
    by_second = {
        open_ms: [trade for _, trade in group]
        for open_ms, group in groupby(in_seconds(trades), key=lambda pair: pair[0])
    }
    quantum = Decimal(1).scaleb(-quote_decimals)
    klines: list[Kline] = []
    close = previous_close
    for open_ms in range(from_ms, to_ms, SECOND_MS):
        inside = by_second.get(open_ms)
        if inside:
            klines.append(_kline(symbol, open_ms, inside, quantum))
            close = inside[-1].price
        elif close is not None:
            klines.append(_flat(symbol, open_ms, close))
    return klines


def broken_spans(trades: Iterable[Trade], last_id: int | None = None) -> list[tuple[int, int]]:
    """Seconds [from, to) that trades may be missing in, one span for each break of the chain of ids.

    `last_id` is the trade before the first one, None when nothing is known of it; a break there begins at the
    second of the first trade, because the time of the trade before it is not known here.
    """
    spans: list[tuple[int, int]] = []
    ordered = [(second, trade.trade_id) for second, trade in in_seconds(trades)]
    if ordered and last_id is not None and ordered[0][1] > last_id + 1:
        spans.append((ordered[0][0], ordered[0][0] + SECOND_MS))
    for (before_ms, before_id), (after_ms, after_id) in pairwise(ordered):
        if after_id != before_id + 1:
            spans.append((before_ms, after_ms + SECOND_MS))
    return spans


def in_seconds(trades: Iterable[Trade]) -> Iterator[tuple[int, Trade]]:
    """(second's open time in ms, trade) in order of ids, each id once, times never stepping back."""
    time_ms = 0
    unique = {trade.trade_id: trade for trade in trades}
    for trade_id in sorted(unique):
        trade = unique[trade_id]
        time_ms = max(time_ms, trade.trade_time_ms)
        yield time_ms - time_ms % SECOND_MS, trade


def _kline(symbol: str, open_ms: int, trades: list[Trade], quantum: Decimal) -> Kline:
    prices = [trade.price for trade in trades]
    bought = [trade for trade in trades if not trade.is_buyer_maker]
    return Kline(
        symbol=symbol,
        interval=Interval.S1,
        open_time_ms=open_ms,
        close_time_ms=Interval.S1.close_time(open_ms),
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        base_volume=sum((trade.quantity for trade in trades), ZERO),
        quote_volume=_quote(trades, quantum),
        trade_count=len(trades),
        taker_buy_base_volume=sum((trade.quantity for trade in bought), ZERO),
        taker_buy_quote_volume=_quote(bought, quantum),
        first_trade_id=trades[0].trade_id,
        last_trade_id=trades[-1].trade_id,
        is_closed=True,
        event_time_ms=Interval.S1.close_time(open_ms),
        received_at_ms=max(trade.received_at_ms for trade in trades),
    )


def _quote(trades: list[Trade], quantum: Decimal) -> Decimal:
    total = sum((trade.price * trade.quantity for trade in trades), ZERO)
    return total.quantize(quantum, rounding=ROUND_DOWN)


def _flat(symbol: str, open_ms: int, close: Decimal) -> Kline:
    return Kline(
        symbol=symbol,
        interval=Interval.S1,
        open_time_ms=open_ms,
        close_time_ms=Interval.S1.close_time(open_ms),
        open=close,
        high=close,
        low=close,
        close=close,
        base_volume=ZERO,
        quote_volume=ZERO,
        trade_count=0,
        taker_buy_base_volume=ZERO,
        taker_buy_quote_volume=ZERO,
        first_trade_id=-1,
        last_trade_id=-1,
        is_closed=True,
        event_time_ms=Interval.S1.close_time(open_ms),
    )
