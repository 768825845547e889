"""Bars of stored intervals as text, written by the database: a page of a thousand costs the server one row.

One query: the bars that are over, the newest one, and the seconds that it does not cover yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from market.interval import Interval
from market.kline import Candle
from market.odd_intervals import Grid
from webapp.forming_bars import MAX_FRESH_SECONDS, bars_of, candle_of
from webapp.kline_selectors import Page, native_columns
from webapp.selectors import fetch, ms, to_time

#: Between two rows of a column; a newline stands in no value, so that a text can be cut at it.
SEPARATOR: Final = ",\n"


class Shape(msgspec.Struct, frozen=True):
    """How a dialect writes bars, column by column: SQL that makes the text of a stored one, and the same in Python for
    a bar that still forms."""

    columns: tuple[str, ...]
    write: Callable[[Candle], tuple[str, ...]]


class Text(msgspec.Struct, frozen=True):
    """`count` bars, oldest first: one text a column, rows parted by SEPARATOR. `is_settled`: the page has an end and
    everything in it is over, so that only a repair or a revision changes it."""

    columns: tuple[str, ...]
    count: int
    is_settled: bool


def klines_text(symbol: str, interval: Interval, page: Page, shape: Shape) -> Text:
    """The bars of the page, with those that are forming."""
    return _seconds(symbol, page, shape) if interval is Interval.S1 else _candles(symbol, interval, page, shape)


def _texts(shape: Shape) -> str:
    return ", ".join(f"string_agg({column}, e',\\n' order by open_time)" for column in shape.columns)


def _rows(page: Page, where: str) -> str:
    direction = "asc" if page.oldest_first else "desc"
    return f"{where}{page.bounds()[0]} order by open_time {direction} limit %s"


def _seconds(symbol: str, page: Page, shape: Shape) -> Text:
    query = f"""
        select count(*), {_texts(shape)}, (select {ms("event_time")} from symbol_watermark
                                           where symbol = %s and stream = 'kline_1s')
        from (select * from {_rows(page, "kline_1s where symbol = %s")}) page
    """
    ((count, *texts, watermark_ms),) = fetch(query, [symbol, symbol, *page.bounds()[1], page.limit])
    return Text(_filled(texts), count, _is_settled(page, watermark_ms))


def _candles(symbol: str, interval: Interval, page: Page, shape: Shape) -> Text:
    own, parts = native_columns(interval), native_columns(Interval.S1)
    query = f"""
        with newest as materialized (
            select * from aggregated_kline where symbol = %s and interval = %s order by open_time desc limit 1
        ), page as (
            select * from {_rows(page, "aggregated_kline where symbol = %s and interval = %s")}
        ), fresh as (
            select * from kline_1s where symbol = %s and open_time >= (select covered_until from newest)
                and (%s::timestamptz is null or %s >= (select open_time from newest))
            order by open_time limit {MAX_FRESH_SECONDS}
        )
        select count(*), {_texts(shape)},
            (select json_build_array({own})::text from newest),
            (select json_agg(json_build_array({parts}) order by open_time)::text from fresh)
        from page where open_time < (select open_time from newest)
    """
    series = [symbol, interval.value]
    end = None if page.end_ms is None else to_time(page.end_ms)
    values = [*series, *series, *page.bounds()[1], page.limit, symbol, end, end]
    ((count, *texts, newest_json, fresh_json),) = fetch(query, values)
    if newest_json is None:
        return Text(_filled(texts), 0, is_settled=False)
    newest = candle_of(symbol, interval, msgspec.json.decode(newest_json))
    seconds = [candle_of(symbol, Interval.S1, row) for row in msgspec.json.decode(fresh_json or "[]")]
    tail = [bar for bar in _tail(newest, seconds) if page.holds(bar.open_time_ms)]
    return _joined(_filled(texts), count, [shape.write(bar) for bar in tail], page, newest.open_time_ms)


def _filled(texts: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(text or "" for text in texts)


def _is_settled(page: Page, newest_ms: int | None) -> bool:
    return page.end_ms is not None and newest_ms is not None and page.end_ms < newest_ms


def _tail(newest: Candle, seconds: Sequence[Candle]) -> list[Candle]:
    """The newest stored bar, taken further by the seconds that follow it, and the bars after it."""
    if not seconds:
        return [newest]
    bars = bars_of([newest], seconds, Grid(newest.interval.value))
    forming = {bar.open_ms: bar.candle(newest.symbol, newest.interval) for bar in bars}
    return [bar for _, bar in sorted({newest.open_time_ms: newest, **forming}.items())]


def _joined(texts: tuple[str, ...], count: int, tail: list[tuple[str, ...]], page: Page, newest_ms: int) -> Text:
    """What is over and what is newest, at most what the page holds."""
    if page.oldest_first:
        tail = tail[: page.limit - count]
    else:
        tail = tail[-page.limit :]
        too_many = max(0, count + len(tail) - page.limit)
        if too_many:
            count -= too_many
            texts = tuple(text.split(SEPARATOR, too_many)[-1] if count else "" for text in texts)
    rows = zip(*tail, strict=True) if tail else [()] * len(texts)
    columns = tuple(
        SEPARATOR.join(part for part in (text, *more) if part) for text, more in zip(texts, rows, strict=True)
    )
    return Text(columns, count + len(tail), _is_settled(page, newest_ms))


def binance_shape(unit: int) -> Shape:
    """A row of /api/v3/klines: one column, 12 values, eight decimals. `unit` 1000 = microseconds."""

    def money(*names: str) -> str:
        return "||'\",\"'||".join(f"round({name}, 8)" for name in names)

    row = (
        f"'['||{ms('open_time')} * {unit}||',\"'||{money('open', 'high', 'low', 'close', 'base_volume')}||'\",'||"
        f"({ms('close_time')} + 1) * {unit} - 1||',\"'||{money('quote_volume')}||'\",'||trade_count||',\"'||"
        f'{money("taker_buy_base_volume", "taker_buy_quote_volume")}||\'","0"]\''
    )

    def write(bar: Candle) -> tuple[str, ...]:
        prices = '","'.join(f"{value:.8f}" for value in (bar.open, bar.high, bar.low, bar.close, bar.base_volume))
        takers = f'{bar.taker_buy_base_volume:.8f}","{bar.taker_buy_quote_volume:.8f}'
        return (
            f'[{bar.open_time_ms * unit},"{prices}",{(bar.close_time_ms + 1) * unit - 1},"{bar.quote_volume:.8f}",'
            f'{bar.trade_count},"{takers}","0"]',
        )

    return Shape((row,), write)


_NUMBERS: Final = ("open", "high", "low", "close", "base_volume")


def _number(value: Decimal) -> str:
    return f"{value:f}"


#: Open time in seconds, open, high, low, close, volume: JSON numbers with all the digits that are stored.
SECONDS_AND_NUMBERS: Final = Shape(
    ("extract(epoch from open_time)::bigint::text", *(f"{name}::text" for name in _NUMBERS)),
    lambda bar: (str(bar.open_time_ms // 1000), *(_number(getattr(bar, name)) for name in _NUMBERS)),
)


def nearest_before_s(symbol: str, interval: Interval, time_ms: int) -> int | None:
    """Open time, in seconds, of the newest bar that begins before this instant, be it forming; None without one."""
    text = klines_text(symbol, interval, Page(None, time_ms - 1, 1, oldest_first=False), SECONDS_AND_NUMBERS)
    return int(text.columns[0]) if text.count else None
