"""What the relay holds of one symbol: the newest records as they came (raw), and the channels in use.

Records are decoded only where somebody listens: 2,000 symbols without a viewer cost little more than a
dictionary look-up a record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from flask_stream.bars import BarSeries, SecondsWindow
from flask_stream.channels import LiveChannel, StreamChannel
from flask_stream.names import Content
from market.errors import BadRecord
from market.interval import Interval
from market.kline import Candle, Kline
from market.record_codec import RecordDecoder

KEPT_TRADES: Final = 100
SNAPSHOT_SECONDS: Final = 120

kline_decoder: Final = RecordDecoder(Kline)
candle_decoder: Final = RecordDecoder(Candle)


@dataclass(frozen=True)
class KeepLimits:
    """How much is held of each symbol; smaller when there are many symbols, so that the sum stays bounded."""

    seconds: int
    bars: int
    trades: int


def limits_for(symbol_count: int) -> KeepLimits:
    """Bounds of what is kept of each of so many symbols: at most about 80 MB of seconds in all."""
    if symbol_count <= 200:
        return KeepLimits(seconds=190, bars=11, trades=KEPT_TRADES)
    return KeepLimits(seconds=75, bars=3, trades=20)


_T = TypeVar("_T", Kline, Candle)


class CandleHead(msgspec.Struct):
    """The part of a candle that says which version of which bar it is."""

    interval: Interval
    open_time_ms: int
    revision: int
    covered_until_ms: int


_candle_head: Final = msgspec.json.Decoder(CandleHead)


@dataclass(frozen=True)
class Stored:
    """A record as it came, with the broker's time."""

    value: bytes
    appended_ms: int


class SymbolState:
    """Everything held of one symbol."""

    __slots__ = (
        "bars",
        "candles",
        "has_data",
        "live",
        "newest",
        "outages",
        "seconds",
        "streams",
        "symbol",
        "trades",
        "window",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        #: False for a symbol that somebody asked for and no record has named.
        self.has_data = False
        self.seconds: deque[bytes] = deque()
        self.trades: deque[bytes] = deque()
        self.candles: dict[Interval, dict[int, tuple[int, int, bytes]]] = {}
        self.newest: dict[Content, Stored] = {}
        self.outages: dict[str, Stored] = {}
        self.live: dict[str, LiveChannel] = {}
        self.streams: dict[str, StreamChannel] = {}
        self.window: SecondsWindow | None = None
        self.bars: dict[Interval, BarSeries] = {}

    def keep_second(self, value: bytes, limits: KeepLimits) -> None:
        """Hold a second."""
        self.seconds.append(value)
        while len(self.seconds) > limits.seconds:
            self.seconds.popleft()

    def keep_trade(self, value: bytes, limits: KeepLimits) -> None:
        """Hold a trade."""
        self.trades.append(value)
        while len(self.trades) > limits.trades:
            self.trades.popleft()

    def keep_candle(self, value: bytes, limits: KeepLimits) -> Interval:
        """Hold a candle unless a newer version of the bar is held; returns its interval.

        Raises msgspec.MsgspecError for a record that is none.
        """
        head = _candle_head.decode(value)
        held = self.candles.setdefault(head.interval, {})
        version = (head.revision, head.covered_until_ms)
        if head.open_time_ms not in held or held[head.open_time_ms][:2] <= version:
            held[head.open_time_ms] = (*version, value)
        while len(held) > limits.bars:
            del held[min(held)]
        return head.interval

    def open_window(self, limits: KeepLimits) -> SecondsWindow:
        """The decoded seconds; decoded now when nobody has asked so far."""
        if self.window is None:
            self.window = SecondsWindow(limits.seconds, _usable(kline_decoder, self.seconds))
        return self.window

    def open_bars(self, interval: Interval, limits: KeepLimits) -> BarSeries:
        """The bars of a stored interval; built now when nobody has asked so far."""
        series = self.bars.get(interval)
        if series is None:
            raw = self.candles.get(interval, {})
            candles = _usable(candle_decoder, (raw[open_ms][2] for open_ms in sorted(raw)))
            series = BarSeries(interval, self.open_window(limits), candles, limits.bars)
            self.bars[interval] = series
        return series

    def close_bars(self, interval: Interval) -> None:
        """Nobody listens to this interval any more."""
        self.bars.pop(interval, None)

    def close_window(self) -> None:
        """Nobody listens to any kline of this symbol any more."""
        self.bars.clear()
        self.window = None


def _usable(decoder: RecordDecoder[_T], values: Iterable[bytes]) -> Iterator[_T]:
    """The records among the raw values; bad ones came in unread and are left out."""
    for value in values:
        try:
            yield decoder.decode(value)
        except BadRecord:
            continue
