"""How the exchange writes things: JSON payloads of streams and rows of REST answers (binance.md 3 and 5).

`unit` is 1 for times in milliseconds, 1000 for microseconds. Amounts come in ticks and lots and are written
with eight decimals.
"""

from __future__ import annotations

from exchange_sim.statistics import DayStatistics, texts
from exchange_sim.symbols import SymbolSpec, text8
from exchange_sim.trades import Bar

Row = tuple[int, int, int, int, bool]


def last_of(close_ms: int, unit: int) -> int:
    """The last moment of a bar whose last millisecond is close_ms, in the unit."""
    return (close_ms + 1) * unit - 1


def kline_event(spec: SymbolSpec, interval: str, bar: Bar, at: tuple[int, bool, int]) -> bytes:
    """Payload of `<symbol>@kline_<interval>`; at = (event time ms, closed, unit)."""
    event_ms, closed, unit = at
    p, q = spec.price_unit, spec.quantity_unit
    return (
        f'{{"e":"kline","E":{event_ms * unit},"s":"{spec.name}","k":{{"t":{bar.open_ms * unit},'
        f'"T":{last_of(bar.close_ms, unit)},"s":"{spec.name}","i":"{interval}","f":{bar.first_id},"L":{bar.last_id},'
        f'"o":"{text8(bar.open * p)}","c":"{text8(bar.close * p)}","h":"{text8(bar.high * p)}",'
        f'"l":"{text8(bar.low * p)}","v":"{text8(bar.base * q)}","n":{bar.trade_count},'
        f'"x":{"true" if closed else "false"},"q":"{text8(spec.quote8(bar.quote))}","V":"{text8(bar.taker_base * q)}",'
        f'"Q":"{text8(spec.quote8(bar.taker_quote))}","B":"0"}}}}'
    ).encode()


def kline_row(spec: SymbolSpec, bar: Bar, unit: int) -> list[object]:
    """One row of REST klines."""
    p, q = spec.price_unit, spec.quantity_unit
    return [
        bar.open_ms * unit,
        text8(bar.open * p),
        text8(bar.high * p),
        text8(bar.low * p),
        text8(bar.close * p),
        text8(bar.base * q),
        last_of(bar.close_ms, unit),
        text8(spec.quote8(bar.quote)),
        bar.trade_count,
        text8(bar.taker_base * q),
        text8(spec.quote8(bar.taker_quote)),
        "0",
    ]


def trade_event(spec: SymbolSpec, row: Row, at: tuple[int, int]) -> bytes:
    """Payload of `<symbol>@trade`; row = (id, time, price, quantity, sold); at = (event ms, unit)."""
    event_ms, unit = at
    price_text, quantity_text = text8(row[2] * spec.price_unit), text8(row[3] * spec.quantity_unit)
    trade_id, time_ms, _, _, sold = row
    return (
        f'{{"e":"trade","E":{event_ms * unit},"s":"{spec.name}","t":{trade_id},"p":"{price_text}",'
        f'"q":"{quantity_text}","T":{time_ms * unit},"m":{"true" if sold else "false"},"M":true}}'
    ).encode()


def aggregate_event(spec: SymbolSpec, row: Row, ids: tuple[int, int], at: tuple[int, int]) -> bytes:
    """Payload of `<symbol>@aggTrade`; row's id is the aggregate's, ids = (first, last) trade; at = (event ms, unit)."""
    aggregate_id, time_ms, price, quantity, sold = row
    event_ms, unit = at
    return (
        f'{{"e":"aggTrade","E":{event_ms * unit},"s":"{spec.name}","a":{aggregate_id},'
        f'"p":"{text8(price * spec.price_unit)}","q":"{text8(quantity * spec.quantity_unit)}",'
        f'"f":{ids[0]},"l":{ids[1]},'
        f'"T":{time_ms * unit},"m":{"true" if sold else "false"},"M":true}}'
    ).encode()


def trade_object(spec: SymbolSpec, row: Row, unit: int) -> dict[str, object]:
    """One element of REST trades and historicalTrades."""
    trade_id, time_ms, price, quantity, sold = row
    return {
        "id": trade_id,
        "price": text8(price * spec.price_unit),
        "qty": text8(quantity * spec.quantity_unit),
        "quoteQty": text8(spec.quote8(price * quantity)),
        "time": time_ms * unit,
        "isBuyerMaker": sold,
        "isBestMatch": True,
    }


def aggregate_object(spec: SymbolSpec, row: Row, ids: tuple[int, int], unit: int) -> dict[str, object]:
    """One element of REST aggTrades."""
    aggregate_id, time_ms, price, quantity, sold = row
    return {
        "a": aggregate_id,
        "p": text8(price * spec.price_unit),
        "q": text8(quantity * spec.quantity_unit),
        "f": ids[0],
        "l": ids[1],
        "T": time_ms * unit,
        "m": sold,
        "M": True,
    }


def mini_ticker_event(spec: SymbolSpec, bar: Bar, at: tuple[int, int]) -> bytes:
    """Payload of `<symbol>@miniTicker` from the bar of the last 24 hours; at = (event ms, unit)."""
    event_ms, unit = at
    p = spec.price_unit
    return (
        f'{{"e":"24hrMiniTicker","E":{event_ms * unit},"s":"{spec.name}","c":"{text8(bar.close * p)}",'
        f'"o":"{text8(bar.open * p)}","h":"{text8(bar.high * p)}","l":"{text8(bar.low * p)}",'
        f'"v":"{text8(bar.base * spec.quantity_unit)}","q":"{text8(spec.quote8(bar.quote))}"}}'
    ).encode()


def levels(spec: SymbolSpec, rows: list[tuple[int, int]]) -> str:
    """Order book levels as JSON."""
    p, q = spec.price_unit, spec.quantity_unit
    return "[" + ",".join(f'["{text8(price * p)}","{text8(lots * q)}"]' for price, lots in rows) + "]"


def depth_event(spec: SymbolSpec, ids: tuple[int, int], sides: tuple[str, str], at: tuple[int, int]) -> bytes:
    """Payload of `<symbol>@depth`; ids = (U, u), sides = levels() of bids and asks, at = (event ms, unit)."""
    event_ms, unit = at
    return (
        f'{{"e":"depthUpdate","E":{event_ms * unit},"s":"{spec.name}","U":{ids[0]},"u":{ids[1]},'
        f'"b":{sides[0]},"a":{sides[1]}}}'
    ).encode()


def partial_depth(update_id: int, sides: tuple[str, str]) -> bytes:
    """Payload of `<symbol>@depth20`, and body of REST depth."""
    return f'{{"lastUpdateId":{update_id},"bids":{sides[0]},"asks":{sides[1]}}}'.encode()


def book_ticker_event(spec: SymbolSpec, update_id: int, bid: tuple[int, int], ask: tuple[int, int]) -> bytes:
    """Payload of `<symbol>@bookTicker`."""
    p, q = spec.price_unit, spec.quantity_unit
    return (
        f'{{"u":{update_id},"s":"{spec.name}","b":"{text8(bid[0] * p)}","B":"{text8(bid[1] * q)}",'
        f'"a":"{text8(ask[0] * p)}","A":"{text8(ask[1] * q)}"}}'
    ).encode()


def ticker_event(spec: SymbolSpec, stats: DayStatistics, at: tuple[int, int]) -> bytes:
    """Payload of `<symbol>@ticker`; at = (event ms, unit)."""
    event_ms, unit = at
    t, day = texts(spec, stats), stats.day
    return (
        f'{{"e":"24hrTicker","E":{event_ms * unit},"s":"{spec.name}","p":"{t["priceChange"]}",'
        f'"P":"{t["priceChangePercent"]}","w":"{t["weightedAvgPrice"]}","x":"{t["prevClosePrice"]}",'
        f'"c":"{t["lastPrice"]}","Q":"{t["lastQty"]}","b":"{t["bidPrice"]}","B":"{t["bidQty"]}",'
        f'"a":"{t["askPrice"]}","A":"{t["askQty"]}","o":"{t["openPrice"]}","h":"{t["highPrice"]}",'
        f'"l":"{t["lowPrice"]}","v":"{t["volume"]}","q":"{t["quoteVolume"]}","O":{day.open_ms * unit},'
        f'"C":{last_of(day.close_ms, unit)},"F":{day.first_id},"L":{day.last_id},"n":{day.trade_count}}}'
    ).encode()
