"""Which events are new. While two connections overlap each event arrives twice; after a reorder it arrives late.

Facts (klines, trades) are dropped only when the very same was delivered before; a late or a corrected one
passes. State and chain events are dropped when a newer one was delivered. Pure; memory is bounded per stream.
"""

from __future__ import annotations

from collections import deque

from market.binance_codec import MarketEvent
from market.depth import BookTicker, DepthUpdate, MiniTicker, PartialDepth
from market.kline import Kline, differing_columns
from market.trade import Trade

#: Closed klines that are remembered per stream to recognise a repeat; an older one passes (the rows are upserted).
REMEMBERED_KLINES = 8
#: Trade ids below the newest that may still come late; older ones count as delivered.
LATE_TRADE_IDS = 1024
#: A lower trade id that is this much newer in time is no repeat: the exchange counts from a new start.
RESTART_AFTER_MS = 1000


class KlineDedup:
    """Closed klines by open time and values, open ones by event time."""

    def __init__(self) -> None:
        self._closed: deque[Kline] = deque(maxlen=REMEMBERED_KLINES)
        self._newest_closed_ms = -1
        self._newest_event_ms = -1

    def is_new(self, kline: Kline) -> bool:
        """True unless this very kline, or for an open one a newer state of it, was delivered before."""
        if not kline.is_closed:
            if kline.event_time_ms <= self._newest_event_ms or kline.open_time_ms <= self._newest_closed_ms:
                return False
            self._newest_event_ms = kline.event_time_ms
            return True
        if kline.open_time_ms <= self._newest_closed_ms:
            for known in reversed(self._closed):
                if known.open_time_ms == kline.open_time_ms:
                    if not differing_columns(known, kline):
                        return False
                    break
        self._newest_closed_ms = max(self._newest_closed_ms, kline.open_time_ms)
        self._newest_event_ms = max(self._newest_event_ms, kline.event_time_ms)
        self._closed.append(kline)
        return True


class TradeDedup:
    """Trades by id: the newest, and which of the ids below it have not come yet."""

    def __init__(self) -> None:
        self._newest_id = -1
        self._newest_time_ms = -1
        self._missing: set[int] = set()

    def is_new(self, trade: Trade) -> bool:
        """True unless a trade of this id was delivered before."""
        trade_id = trade.trade_id
        if trade_id == self._newest_id + 1 or self._newest_id < 0:
            self._advance(trade)
            return True
        if trade_id > self._newest_id:
            self._missing.update(range(max(self._newest_id + 1, trade_id - LATE_TRADE_IDS), trade_id))
            self._advance(trade)
            if len(self._missing) > LATE_TRADE_IDS:
                floor = trade_id - LATE_TRADE_IDS
                self._missing = {missing for missing in self._missing if missing >= floor}
            return True
        if trade_id in self._missing:
            self._missing.discard(trade_id)
            return True
        if trade.trade_time_ms > self._newest_time_ms + RESTART_AFTER_MS:
            self._missing.clear()
            self._advance(trade)
            return True
        return False

    def _advance(self, trade: Trade) -> None:
        self._newest_id = trade.trade_id
        self._newest_time_ms = trade.trade_time_ms


class NewestDedup:
    """State and chain events: only what has a higher id (or a later time) than the newest."""

    def __init__(self) -> None:
        self._newest = -1

    def is_new(self, event: MarketEvent) -> bool:
        """True when nothing as new was delivered before."""
        order = _order(event)
        if order <= self._newest:
            return False
        self._newest = order
        return True

    def forget(self) -> None:
        """After a cut without overlap nothing can come twice, and a restarted exchange may count anew."""
        self._newest = -1


def _order(event: MarketEvent) -> int:
    if isinstance(event, DepthUpdate | PartialDepth):
        return event.last_update_id
    if isinstance(event, BookTicker):
        return event.update_id
    if isinstance(event, MiniTicker):
        return event.event_time_ms
    raise TypeError(f"{type(event).__name__} has a rule of its own")


class Dedup:
    """The rule of one stream."""

    def __init__(self) -> None:
        self._klines = KlineDedup()
        self._trades = TradeDedup()
        self._newest = NewestDedup()

    def is_new(self, event: MarketEvent) -> bool:
        """True when the event has not been delivered yet."""
        if isinstance(event, Kline):
            return self._klines.is_new(event)
        if isinstance(event, Trade):
            return self._trades.is_new(event)
        return self._newest.is_new(event)

    def after_cut(self) -> None:
        """The stream's last connection ended: what counts updates may start anew."""
        self._newest.forget()
