"""Names of channels (`kline:BTCUSDT:1m`) and of Binance's streams (`btcusdt@kline_1m`), parsed once."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from market.errors import MarketError
from market.interval import Interval
from market.symbol import parse_symbol

CHANNEL_KINDS: Final = ("kline", "trade", "book", "depth", "best", "ticker", "feed")
ALLOWED_CHANNELS: Final = (
    *(f"kline:SYMBOL:{interval}" for interval in Interval),
    *(f"{kind}:SYMBOL" for kind in CHANNEL_KINDS[1:]),
    "tickers",
    "alerts:operator",
)
PLAIN_STREAMS: Final = frozenset(
    {"trade", "depth20", "depth20@100ms", "depth", "depth@100ms", "bookTicker", "miniTicker"}
)
#: Streams in which each event counts; all others are state.
FACT_STREAMS: Final = frozenset({"trade", "depth", "depth@100ms"})


class Content(StrEnum):
    """What a Kafka record is about. All but the first two and the last pass on as they are, in the channel of this
    name."""

    SECOND = "second"
    CANDLE = "candle"
    TRADE = "trade"
    DEPTH = "depth"
    BOOK = "book"
    BEST = "best"
    TICKER = "ticker"
    FEED = "feed"
    ALERT = "alert"


class BadName(ValueError):
    """The name is none of ours; the message says why."""


class LiveName(NamedTuple):
    """A channel of /live."""

    kind: str
    symbol: str = ""
    interval: Interval | None = None

    @property
    def within_symbol(self) -> str:
        """The name without its symbol: `kline:1m`, `trade`."""
        return self.kind if self.interval is None else f"{self.kind}:{self.interval}"

    def __str__(self) -> str:
        return ":".join(part for part in (self.kind, self.symbol, self.interval) if part)


class StreamName(NamedTuple):
    """A stream of Binance's dialect; `symbol` in upper case, `suffix` as after the first @."""

    symbol: str
    suffix: str
    interval: Interval | None = None

    @property
    def is_state(self) -> bool:
        """True when a newer event makes an older one worthless."""
        return self.suffix not in FACT_STREAMS

    def __str__(self) -> str:
        return f"{self.symbol.lower()}@{self.suffix}"


def parse_channel(text: str) -> LiveName:
    """The channel named `text`. Raises BadName."""
    kind, *rest = text.split(":")
    try:
        if text in ("tickers", "alerts:operator"):
            return LiveName(text)
        if kind == "kline" and len(rest) == 2:
            return LiveName(kind, _exact_symbol(rest[0]), Interval.parse(rest[1]))
        if kind in CHANNEL_KINDS[1:] and len(rest) == 1:
            return LiveName(kind, _exact_symbol(rest[0]))
    except MarketError as error:
        raise BadName(f"{text!r}: {error}") from error
    raise BadName(f"{text!r} is not a channel")


def parse_stream(text: str) -> StreamName:
    """The stream named `text`; names are in lower case as at the exchange. Raises BadName."""
    symbol, _, suffix = text.partition("@")
    try:
        if symbol == symbol.lower():
            if suffix in PLAIN_STREAMS:
                return StreamName(parse_symbol(symbol), suffix)
            if suffix.startswith("kline_"):
                return StreamName(parse_symbol(symbol), suffix, Interval.parse(suffix[len("kline_") :]))
    except MarketError as error:
        raise BadName(f"{text!r}: {error}") from error
    raise BadName(f"{text!r} is not a stream")


def _exact_symbol(text: str) -> str:
    symbol = parse_symbol(text)
    if symbol != text:
        raise BadName(f"{text!r}: symbols are written in capitals, {symbol}")
    return symbol
