"""Payloads of Binance's streams from our records (binance.md 3): field names, order and number format as there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from flask_stream.channels import StreamChannel
from flask_stream.names import Content
from market.depth import BookTicker, DepthUpdate, Level, MiniTicker, PartialDepth
from market.kline import Candle
from market.record_codec import RecordDecoder
from market.trade import Trade

#: The stream names made of each content. The 1000 ms names are served at the
#: pace of the 100 ms feed.
STREAMS_OF: Final[dict[Content, tuple[str, ...]]] = {
    Content.TRADE: ("trade",),
    Content.DEPTH: ("depth@100ms", "depth"),
    Content.BOOK: ("depth20@100ms", "depth20"),
    Content.BEST: ("bookTicker",),
    Content.TICKER: ("miniTicker",),
}
_encode = msgspec.json.encode
_trade = RecordDecoder(Trade)
_depth = RecordDecoder(DepthUpdate)
_partial = RecordDecoder(PartialDepth)
_book_ticker = RecordDecoder(BookTicker)
_mini_ticker = RecordDecoder(MiniTicker)


def plain(value: Decimal) -> str:
    """A number in plain notation, never 0E-8."""
    return format(value, "f")


def kline(bar: Candle, stream: StreamChannel) -> bytes | None:
    """A kline event, or None for what the exchange would not send: a bar older than the newest closed one, or
    closed a second time. A bar is sent as closed when all its seconds are in it or its candle says so."""
    if bar.open_time_ms <= stream.last_closed_ms:
        return None
    is_closed = _is_over(bar)
    if is_closed:
        stream.last_closed_ms = bar.open_time_ms
    return _encode(
        {
            "e": "kline",
            "E": bar.event_time_ms,
            "s": bar.symbol,
            "k": {
                "t": bar.open_time_ms,
                "T": bar.close_time_ms,
                "s": bar.symbol,
                "i": bar.interval,
                "f": -1 if bar.first_trade_id is None else bar.first_trade_id,
                "L": -1 if bar.last_trade_id is None else bar.last_trade_id,
                "o": plain(bar.open),
                "c": plain(bar.close),
                "h": plain(bar.high),
                "l": plain(bar.low),
                "v": plain(bar.base_volume),
                "n": bar.trade_count,
                "x": is_closed,
                "q": plain(bar.quote_volume),
                "V": plain(bar.taker_buy_base_volume),
                "Q": plain(bar.taker_buy_quote_volume),
                "B": "0",
            },
        }
    )


def _is_over(bar: Candle) -> bool:
    return bar.is_closed and (bar.is_complete or bar.updated_at_ms > bar.event_time_ms)


def newest_closed_ms(bars: Sequence[Candle]) -> int:
    """Open time of the newest bar that the exchange would have sent as closed, -1 when there is none: one that is
    over, or that a newer one follows (`bars` oldest first)."""
    if bars and _is_over(bars[-1]):
        return bars[-1].open_time_ms
    return bars[-2].open_time_ms if len(bars) > 1 else -1


def _levels(levels: list[Level]) -> list[tuple[str, str]]:
    return [(plain(price), plain(quantity)) for price, quantity in levels]


def _trade_payload(value: bytes) -> bytes:
    trade = _trade.decode(value)
    return _encode(
        {
            "e": "trade",
            "E": trade.event_time_ms,
            "s": trade.symbol,
            "t": trade.trade_id,
            "p": plain(trade.price),
            "q": plain(trade.quantity),
            "T": trade.trade_time_ms,
            "m": trade.is_buyer_maker,
            "M": True,
        }
    )


def _depth_payload(value: bytes) -> bytes:
    update = _depth.decode(value)
    return _encode(
        {
            "e": "depthUpdate",
            "E": update.event_time_ms,
            "s": update.symbol,
            "U": update.first_update_id,
            "u": update.last_update_id,
            "b": _levels(update.bids),
            "a": _levels(update.asks),
        }
    )


def _partial_payload(value: bytes) -> bytes:
    book = _partial.decode(value)
    return _encode({"lastUpdateId": book.last_update_id, "bids": _levels(book.bids), "asks": _levels(book.asks)})


def _book_ticker_payload(value: bytes) -> bytes:
    best = _book_ticker.decode(value)
    return _encode(
        {
            "u": best.update_id,
            "s": best.symbol,
            "b": plain(best.bid_price),
            "B": plain(best.bid_quantity),
            "a": plain(best.ask_price),
            "A": plain(best.ask_quantity),
        }
    )


def _mini_ticker_payload(value: bytes) -> bytes:
    ticker = _mini_ticker.decode(value)
    return _encode(
        {
            "e": "24hrMiniTicker",
            "E": ticker.event_time_ms,
            "s": ticker.symbol,
            "c": plain(ticker.close),
            "o": plain(ticker.open),
            "h": plain(ticker.high),
            "l": plain(ticker.low),
            "v": plain(ticker.base_volume),
            "q": plain(ticker.quote_volume),
        }
    )


#: Content to the function that makes the exchange's payload from a record. They raise BadRecord.
ENCODERS: Final[dict[Content, Callable[[bytes], bytes]]] = {
    Content.TRADE: _trade_payload,
    Content.DEPTH: _depth_payload,
    Content.BOOK: _partial_payload,
    Content.BEST: _book_ticker_payload,
    Content.TICKER: _mini_ticker_payload,
}
