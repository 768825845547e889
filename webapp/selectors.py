"""Reads of market data for pages and APIs. Every query goes through the read-only connection and has a bound.

Times go in and out as int ms UTC; money comes out as text, exactly as stored, or rounded to Binance's eight decimals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from django.db import connections

from market.symbol import decimals_of

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Rows = list[tuple[Any, ...]]

#: Up to so many symbols the 24 h figures of candles are counted by the minute, beyond by quarters of an hour.
EXACT_WINDOW_SYMBOLS: Final = 20


def to_time(time_ms: int) -> datetime:
    """An instant for the database."""
    return EPOCH + timedelta(milliseconds=time_ms)


def fetch(query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Rows:
    """All rows of a bounded query."""
    with connections["reader"].cursor() as cursor:
        cursor.execute(query, parameters)
        rows: Rows = cursor.fetchall()
        return rows


def ms(column: str) -> str:
    """SQL of a timestamp as int ms."""
    return f"(extract(epoch from {column}) * 1000)::bigint"


#: Parameter, three times: the symbol.
SYMBOL_EXISTS: Final = """
    select exists(select from market_symbol where symbol = %s)
        or exists(select from aggregated_kline where symbol = %s)
        or exists(select from kline_1s where symbol = %s)
"""


def symbol_exists(symbol: str) -> bool:
    """Whether we know the symbol: declared, or with rows of its own."""
    return bool(fetch(SYMBOL_EXISTS, [symbol] * 3)[0][0])


class Symbol(msgspec.Struct, frozen=True, kw_only=True):
    """A followed symbol."""

    symbol: str
    base_asset: str
    quote_asset: str
    status: str
    tick_size: Decimal
    step_size: Decimal


def followed_symbols(symbols: Sequence[str] | None = None) -> list[Symbol]:
    """The symbols that this system ingests, in rank order; of `symbols` only, where given."""
    query = """
        select symbol, base_asset, quote_asset, status, tick_size, step_size from market_symbol
        where is_followed and (%s::text[] is null or symbol = any(%s)) order by rank, symbol
    """
    given = None if symbols is None else list(symbols)
    names = Symbol.__struct_fields__
    return [Symbol(**dict(zip(names, row, strict=True))) for row in fetch(query, [given, given])]


class DayFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Rolling 24 h of one symbol; None where nothing is known yet.

    The trade ids are those of the first and the last trade, None where there was none, or one was not told (rows out of
    REST or archives) and seconds are missing. `trade_count`: from one id to the other, else those of our candles."""

    symbol: str
    status: str
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    last: Decimal | None
    base_volume: Decimal | None
    quote_volume: Decimal | None
    event_time_ms: int | None
    trade_count: int
    first_trade_id: int | None
    last_trade_id: int | None


_OLDEST: Final = """
    (select min(open_time) from aggregated_kline where symbol = m.symbol and interval = '{}' and open_time > day.start)
"""
#: Quarters of an hour where they reach further back than minutes: of these a new symbol's history has less than a day.
#: An id that no row carries follows from the other one and the count, where no second is missing (binance.md 0.7).
_DAY_FIGURES = f"""
    select m.symbol, m.status,
        coalesce(t.open, w.open), coalesce(t.high, w.high), coalesce(t.low, w.low), coalesce(t.close, w.last),
        coalesce(t.base_volume, w.base_volume), coalesce(t.quote_volume, w.quote_volume),
        {ms("coalesce(t.event_time, w.event_time)")},
        coalesce(trade.last_id - trade.first_id + 1, w.trade_count, 0)::bigint, trade.first_id, trade.last_id
    from market_symbol m
    left join symbol_ticker t on t.symbol = m.symbol
    left join symbol_watermark s on s.symbol = m.symbol and s.stream = 'kline_1s'
    cross join lateral (select coalesce(t.event_time, s.event_time, now()) - interval '24 hours' as start) day
    cross join lateral (
        select case when %(by_quarters)s
            or {_OLDEST.format("15m")} + interval '15 minutes' <= coalesce({_OLDEST.format("1m")}, 'infinity')
            then '15m' else '1m' end as interval
    ) bar
    left join lateral (
        select (array_agg(k.open order by k.open_time))[1] as open, max(k.high) as high, min(k.low) as low,
            (array_agg(k.close order by k.open_time desc))[1] as last,
            sum(k.base_volume) as base_volume, sum(k.quote_volume) as quote_volume, max(k.event_time) as event_time,
            sum(k.trade_count)::bigint as trade_count,
            (array_agg(k.first_trade_id order by k.open_time) filter (where k.trade_count > 0))[1] as first_id,
            (array_agg(k.last_trade_id order by k.open_time desc) filter (where k.trade_count > 0))[1] as last_id,
            sum(k.row_count) = extract(epoch from max(k.covered_until) - min(k.open_time)) as is_whole
        from aggregated_kline k
        where k.symbol = m.symbol and k.interval = bar.interval and k.open_time > day.start
            and (t.symbol is null or %(with_trades)s)
    ) w on true
    cross join lateral (
        select coalesce(w.first_id, case when w.is_whole then w.last_id - w.trade_count + 1 end) as first_id,
            coalesce(w.last_id, case when w.is_whole then w.first_id + w.trade_count - 1 end) as last_id
    ) trade
    where m.is_followed and (%(given)s::text[] is null or m.symbol = any(%(given)s))
    order by m.rank, m.symbol
"""


def day_figures(symbols: Sequence[str] | None = None, *, with_trades: bool = True) -> list[DayFigures]:
    """Rolling 24 h of the followed symbols: the exchange's own ticker, else from our candles.

    Trades are counted from candles alone; without `with_trades` they are left at zero where a ticker says the rest.

    The window ends at the newest event of the symbol, not at the wall clock, so that a tape shows its own day.
    """
    given = None if symbols is None else list(symbols)
    by_quarters = given is None or len(given) > EXACT_WINDOW_SYMBOLS
    names = DayFigures.__struct_fields__
    rows = fetch(_DAY_FIGURES, {"by_quarters": by_quarters, "with_trades": with_trades, "given": given})
    return [DayFigures(**dict(zip(names, row, strict=True))) for row in rows]


def last_prices(symbols: Sequence[str] | None = None) -> list[tuple[str, str, Decimal]]:
    """(symbol, status, last price) of the followed symbols that have one."""
    query = """
        select m.symbol, m.status, coalesce(t.close, k.close) as last
        from market_symbol m
        left join symbol_ticker t on t.symbol = m.symbol
        left join lateral (
            select close from aggregated_kline where symbol = m.symbol and interval = '1m'
            order by open_time desc limit 1
        ) k on t.symbol is null
        where m.is_followed and (%s::text[] is null or m.symbol = any(%s)) and coalesce(t.close, k.close) is not null
        order by m.rank, m.symbol
    """
    given = None if symbols is None else list(symbols)
    return [(row[0], row[1], row[2]) for row in fetch(query, [given, given])]


def sparklines() -> dict[str, list[str]]:
    """Closes of the last 24 h, one each half hour, oldest first, by symbol."""
    query = """
        select m.symbol, k.closes
        from market_symbol m
        left join symbol_watermark s on s.symbol = m.symbol and s.stream = 'kline_1s'
        cross join lateral (
            select string_agg(close::text, ',' order by open_time) as closes from aggregated_kline
            where symbol = m.symbol and interval = '15m'
                and open_time > coalesce(s.event_time, now()) - interval '24 hours'
                and open_time <= coalesce(s.event_time, now())
                and extract(minute from open_time) in (15, 45)
        ) k
        where m.is_followed and k.closes is not null
    """
    # One text a symbol: 2,000 arrays of 48 would take the driver longer than the database.
    return {symbol: closes.split(",") for symbol, closes in fetch(query)}


def market_list() -> list[dict[str, object]]:
    """The followed symbols with their day, as /api/v1/symbols gives them; money as text, None where unknown."""
    lines = sparklines()
    figures = {day.symbol: day for day in day_figures(with_trades=False)}
    return [
        _market_row(symbol, figures.get(symbol.symbol), lines.get(symbol.symbol, [])) for symbol in followed_symbols()
    ]


def find_symbol(symbol: str) -> dict[str, object] | None:
    """One row of market_list without its sparkline; None for a symbol that we do not follow."""
    found = followed_symbols([symbol])
    if not found:
        return None
    days = day_figures([symbol], with_trades=False)
    return _market_row(found[0], days[0] if days else None, [])


def _market_row(symbol: Symbol, day: DayFigures | None, sparkline: list[str]) -> dict[str, object]:
    change = day.last - day.open if day is not None and day.last is not None and day.open else None
    return {
        "symbol": symbol.symbol,
        "base_asset": symbol.base_asset,
        "quote_asset": symbol.quote_asset,
        "status": symbol.status,
        "tick_size": plain(symbol.tick_size),
        "step_size": plain(symbol.step_size),
        "price_decimals": decimals_of(symbol.tick_size),
        "quantity_decimals": decimals_of(symbol.step_size),
        "last": plain(day.last if day else None),
        "change": plain(change),
        "change_percent": f"{change / day.open * 100:.2f}" if change is not None and day and day.open else None,
        "high": plain(day.high if day else None),
        "low": plain(day.low if day else None),
        "base_volume": plain(day.base_volume if day else None),
        "quote_volume": plain(day.quote_volume if day else None),
        "event_time_ms": day.event_time_ms if day else None,
        "sparkline": sparkline,
    }


def plain(value: Decimal | None) -> str | None:
    """A number in plain notation, never with an exponent."""
    return None if value is None else f"{value:f}"
