"""Binance's JSON to our types (binance.md 3 and 5). The exchange's spelling (`U`, `k.x`, `m`) stops here.

Decoding is typed (msgspec): a missing field, a wrong type or a number that is none raises BadFrame.
Prices and quantities arrive as decimal strings and stay exact.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from market.depth import BookTicker, DepthUpdate, Level, MiniTicker, PartialDepth
from market.errors import BadFrame
from market.interval import Interval
from market.kline import Kline, require_sane_kline
from market.symbol import SymbolInfo
from market.trade import Trade

MarketEvent = Kline | Trade | DepthUpdate | PartialDepth | BookTicker | MiniTicker


class _KlineFields(msgspec.Struct, frozen=True):
    open_time: int = msgspec.field(name="t")
    close_time: int = msgspec.field(name="T")
    interval: Interval = msgspec.field(name="i")
    first_trade_id: int = msgspec.field(name="f")
    last_trade_id: int = msgspec.field(name="L")
    open: Decimal = msgspec.field(name="o")
    close: Decimal = msgspec.field(name="c")
    high: Decimal = msgspec.field(name="h")
    low: Decimal = msgspec.field(name="l")
    base_volume: Decimal = msgspec.field(name="v")
    quote_volume: Decimal = msgspec.field(name="q")
    taker_base: Decimal = msgspec.field(name="V")
    taker_quote: Decimal = msgspec.field(name="Q")
    trade_count: int = msgspec.field(name="n")
    is_closed: bool = msgspec.field(name="x")


class _KlineFrame(msgspec.Struct, frozen=True):
    event_time: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    kline: _KlineFields = msgspec.field(name="k")


class _TradeFrame(msgspec.Struct, frozen=True):
    event_time: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    trade_id: int = msgspec.field(name="t")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    trade_time: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class _DepthFrame(msgspec.Struct, frozen=True):
    event_time: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    first_update_id: int = msgspec.field(name="U")
    last_update_id: int = msgspec.field(name="u")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")


class _PartialDepthFrame(msgspec.Struct, frozen=True):
    last_update_id: int = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class _BookTickerFrame(msgspec.Struct, frozen=True):
    update_id: int = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bid_price: Decimal = msgspec.field(name="b")
    bid_quantity: Decimal = msgspec.field(name="B")
    ask_price: Decimal = msgspec.field(name="a")
    ask_quantity: Decimal = msgspec.field(name="A")


class _MiniTickerFrame(msgspec.Struct, frozen=True):
    event_time: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    close: Decimal = msgspec.field(name="c")
    open: Decimal = msgspec.field(name="o")
    high: Decimal = msgspec.field(name="h")
    low: Decimal = msgspec.field(name="l")
    base_volume: Decimal = msgspec.field(name="v")
    quote_volume: Decimal = msgspec.field(name="q")


class Envelope(msgspec.Struct, frozen=True):
    """A frame of a combined connection: the stream's name and the payload, still raw.

    `stream` is None for control replies and other unwrapped frames (binance.md 0.16).
    """

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


_envelope = msgspec.json.Decoder(Envelope)
_kline = msgspec.json.Decoder(_KlineFrame)
_trade = msgspec.json.Decoder(_TradeFrame)
_depth = msgspec.json.Decoder(_DepthFrame)
_partial = msgspec.json.Decoder(_PartialDepthFrame)
_book_ticker = msgspec.json.Decoder(_BookTickerFrame)
_mini_ticker = msgspec.json.Decoder(_MiniTickerFrame)

#: One row of REST klines (binance.md 5): 12 columns, the last unused.
_KlineRow = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int, Decimal, int, Decimal, Decimal, Any]
_kline_rows = msgspec.json.Decoder(list[_KlineRow])


def decode_envelope(frame: str | bytes) -> Envelope:
    """Split a combined frame. Raises BadFrame when it is not a JSON object."""
    try:
        return _envelope.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"not a frame of the exchange: {error}") from error


def decode_event(stream: str, payload: bytes | msgspec.Raw, received_at_ms: int) -> MarketEvent:
    """One market event from the payload of the stream called `stream`, stamped with our receive time.

    Raises BadFrame for an unknown stream or a payload of the wrong shape.
    """
    symbol_part, _, name = stream.partition("@")
    try:
        if name.startswith("kline_"):
            return _to_kline(_kline.decode(payload), received_at_ms)
        if name == "trade":
            return _to_trade(_trade.decode(payload), received_at_ms)
        if name == "bookTicker":
            return _to_book_ticker(_book_ticker.decode(payload), received_at_ms)
        if name == "miniTicker":
            return _to_mini_ticker(_mini_ticker.decode(payload), received_at_ms)
        if name in ("depth", "depth@100ms"):
            return _to_depth(_depth.decode(payload), received_at_ms)
        if name.startswith("depth"):
            return _to_partial(_partial.decode(payload), symbol_part.upper(), received_at_ms)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad payload on {stream}: {error}") from error
    raise BadFrame(f"unknown stream {stream!r}")


def _to_kline(frame: _KlineFrame, received_at_ms: int) -> Kline:
    k = frame.kline
    kline = Kline(
        symbol=frame.symbol,
        interval=k.interval,
        open_time_ms=k.open_time,
        close_time_ms=k.close_time,
        open=k.open,
        high=k.high,
        low=k.low,
        close=k.close,
        base_volume=k.base_volume,
        quote_volume=k.quote_volume,
        trade_count=k.trade_count,
        taker_buy_base_volume=k.taker_base,
        taker_buy_quote_volume=k.taker_quote,
        first_trade_id=k.first_trade_id,
        last_trade_id=k.last_trade_id,
        is_closed=k.is_closed,
        event_time_ms=frame.event_time,
        received_at_ms=received_at_ms,
    )
    require_sane_kline(kline)
    return kline


def _to_trade(frame: _TradeFrame, received_at_ms: int) -> Trade:
    if not (frame.price.is_finite() and frame.quantity.is_finite()):
        raise BadFrame(f"trade {frame.trade_id} of {frame.symbol}: price or quantity is not a number")
    return Trade(
        symbol=frame.symbol,
        trade_id=frame.trade_id,
        price=frame.price,
        quantity=frame.quantity,
        trade_time_ms=frame.trade_time,
        is_buyer_maker=frame.is_buyer_maker,
        event_time_ms=frame.event_time,
        received_at_ms=received_at_ms,
    )


def _to_depth(frame: _DepthFrame, received_at_ms: int) -> DepthUpdate:
    return DepthUpdate(
        symbol=frame.symbol,
        first_update_id=frame.first_update_id,
        last_update_id=frame.last_update_id,
        bids=frame.bids,
        asks=frame.asks,
        event_time_ms=frame.event_time,
        received_at_ms=received_at_ms,
    )


def _to_partial(frame: _PartialDepthFrame, symbol: str, received_at_ms: int) -> PartialDepth:
    return PartialDepth(
        symbol=symbol,
        last_update_id=frame.last_update_id,
        bids=frame.bids,
        asks=frame.asks,
        received_at_ms=received_at_ms,
    )


def _to_book_ticker(frame: _BookTickerFrame, received_at_ms: int) -> BookTicker:
    if not (frame.bid_price.is_finite() and frame.ask_price.is_finite()):
        raise BadFrame(f"bookTicker of {frame.symbol}: a price is not a number")
    return BookTicker(
        symbol=frame.symbol,
        update_id=frame.update_id,
        bid_price=frame.bid_price,
        bid_quantity=frame.bid_quantity,
        ask_price=frame.ask_price,
        ask_quantity=frame.ask_quantity,
        received_at_ms=received_at_ms,
    )


def _to_mini_ticker(frame: _MiniTickerFrame, received_at_ms: int) -> MiniTicker:
    values = (frame.open, frame.high, frame.low, frame.close, frame.base_volume, frame.quote_volume)
    if not all(value.is_finite() for value in values):
        raise BadFrame(f"miniTicker of {frame.symbol}: a value is not a number")
    return MiniTicker(
        symbol=frame.symbol,
        open=frame.open,
        high=frame.high,
        low=frame.low,
        close=frame.close,
        base_volume=frame.base_volume,
        quote_volume=frame.quote_volume,
        event_time_ms=frame.event_time,
        received_at_ms=received_at_ms,
    )


def decode_rest_klines(body: bytes, symbol: str, interval: Interval, received_at_ms: int) -> list[Kline]:
    """Rows of GET /api/v3/klines, closed and forming alike: `is_closed` is judged by `received_at_ms`
    only (the caller passes the exchange's own time), trade ids are -1 because REST rows carry none.

    Raises BadFrame for a wrong column count or a value of the wrong type.
    """
    try:
        rows = _kline_rows.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad klines answer for {symbol} {interval}: {error}") from error
    klines = [
        Kline(
            symbol=symbol,
            interval=interval,
            open_time_ms=row[0],
            close_time_ms=row[6],
            open=row[1],
            high=row[2],
            low=row[3],
            close=row[4],
            base_volume=row[5],
            quote_volume=row[7],
            trade_count=row[8],
            taker_buy_base_volume=row[9],
            taker_buy_quote_volume=row[10],
            first_trade_id=-1,
            last_trade_id=-1,
            is_closed=row[6] < received_at_ms,
            event_time_ms=row[6],
            received_at_ms=received_at_ms,
        )
        for row in rows
    ]
    for kline in klines:
        require_sane_kline(kline)
    return klines


class _Filter(msgspec.Struct, frozen=True):
    filter_type: str = msgspec.field(name="filterType")
    tick_size: Decimal | None = msgspec.field(name="tickSize", default=None)
    step_size: Decimal | None = msgspec.field(name="stepSize", default=None)


class _SymbolEntry(msgspec.Struct, frozen=True):
    symbol: str
    status: str
    base_asset: str = msgspec.field(name="baseAsset")
    quote_asset: str = msgspec.field(name="quoteAsset")
    filters: list[_Filter] = []


class _ExchangeInfo(msgspec.Struct, frozen=True):
    symbols: list[_SymbolEntry]


_exchange_info = msgspec.json.Decoder(_ExchangeInfo)


def decode_exchange_info(body: bytes) -> list[SymbolInfo]:
    """Symbols of GET /api/v3/exchangeInfo with their price and quantity steps. Raises BadFrame."""
    try:
        info = _exchange_info.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad exchangeInfo answer: {error}") from error
    return [
        SymbolInfo(
            symbol=entry.symbol,
            base_asset=entry.base_asset,
            quote_asset=entry.quote_asset,
            status=entry.status,
            tick_size=next((f.tick_size for f in entry.filters if f.tick_size), Decimal("0.00000001")),
            step_size=next((f.step_size for f in entry.filters if f.step_size), Decimal("0.00000001")),
        )
        for entry in info.symbols
    ]
