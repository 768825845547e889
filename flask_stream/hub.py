"""From a Kafka record to the channels it concerns, and from a subscription to its snapshot. No I/O.

Called by the fan-out thread only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from flask_stream import binance_payloads
from flask_stream.alerts import ALERTS, Alerts
from flask_stream.audience import Subscriber
from flask_stream.bars import bar_of_second
from flask_stream.channels import (
    NO_TIMES,
    EventTimes,
    LiveChannel,
    StreamChannel,
    is_json,
    json_items,
    stamp,
    times_of,
)
from flask_stream.names import Content, LiveName, StreamName
from flask_stream.symbol_state import (
    SNAPSHOT_SECONDS,
    Stored,
    SymbolState,
    candle_decoder,
    kline_decoder,
    limits_for,
)
from market.interval import STORED_INTERVALS, Interval
from market.kline import Candle, Kline
from market.record_codec import encode_record

TICKERS: Final = "tickers"
#: /live channels whose updates replace one another.
STATE_CHANNELS: Final = frozenset({"kline", "book", "best", "ticker", "feed", TICKERS, ALERTS})


class Record(NamedTuple):
    """One Kafka record; `appended_ms` is the broker's time."""

    content: Content
    symbol: str
    value: bytes
    appended_ms: int


class Outage(msgspec.Struct):
    """The part of a feed outage that says which stream, and whether it lasts."""

    stream: str
    from_time_ms: int
    to_time_ms: int | None


_outage: Final = msgspec.json.Decoder(Outage)


class Hub:
    """All channels and what is held for their snapshots."""

    def __init__(self, linger_ms: int) -> None:
        self._linger_ms = linger_ms
        self.symbols: dict[str, SymbolState] = {}
        #: True once the relay has read what the topics held at its start: unknown symbols can be told then.
        self.is_caught_up = False
        self._limits = limits_for(0)
        self._tickers: LiveChannel | None = None
        self._changed_tickers: dict[str, None] = {}
        self._alerts = Alerts()

    # --- records ---------------------------------------------------------------------------------------------

    def on_record(self, record: Record, now_ms: int) -> None:
        """Pass one record on. Raises BadRecord or msgspec.MsgspecError for one that cannot be used."""
        if record.content is Content.ALERT:
            self._alerts.on_record(record.value, record.appended_ms, now_ms)
            return
        state = self.symbols.get(record.symbol)
        if state is None:
            state = self._new_symbol(record.symbol)
        state.has_data = True
        if record.content is Content.SECOND:
            state.keep_second(record.value, self._limits)
            if state.window is not None:
                self._on_second(state, kline_decoder.decode(record.value), record.appended_ms, now_ms)
        elif record.content is Content.CANDLE:
            interval = state.keep_candle(record.value, self._limits)
            if interval in state.bars:
                self._on_candle(state, candle_decoder.decode(record.value), record.appended_ms, now_ms)
        else:
            self._on_plain(state, record, now_ms)

    def _new_symbol(self, symbol: str) -> SymbolState:
        state = self.symbols[symbol] = SymbolState(symbol)
        self._limits = limits_for(len(self.symbols))
        return state

    def _on_second(self, state: SymbolState, kline: Kline, appended_ms: int, now_ms: int) -> None:
        assert state.window is not None
        if not state.window.add(kline):
            return
        t = stamp(EventTimes(kline.event_time_ms, kline.received_at_ms), appended_ms, now_ms)
        self._publish_bar(state, bar_of_second(kline), t)
        for series in state.bars.values():
            bar = series.on_second(kline)
            if bar is not None:
                self._publish_bar(state, bar, t)

    def _on_candle(self, state: SymbolState, candle: Candle, appended_ms: int, now_ms: int) -> None:
        bar = state.bars[candle.interval].on_candle(candle)
        if bar is not None:
            self._publish_bar(state, bar, stamp(EventTimes(bar.event_time_ms), appended_ms, now_ms))

    def _publish_bar(self, state: SymbolState, bar: Candle, t: bytes) -> None:
        channel = state.live.get(f"kline:{bar.interval}")
        if channel is not None:
            channel.publish(encode_record(bar), t, bar.open_time_ms)
        stream = state.streams.get(f"kline_{bar.interval}")
        if stream is not None:
            payload = binance_payloads.kline(bar, stream)
            if payload is not None:
                stream.publish(payload, bar.open_time_ms)

    def _on_plain(self, state: SymbolState, record: Record, now_ms: int) -> None:
        content, value = record.content, record.value
        if content is Content.TRADE:
            state.keep_trade(value, self._limits)
        elif content is Content.FEED:
            state.outages[_outage.decode(value).stream] = Stored(value, record.appended_ms)
        elif content is not Content.DEPTH:
            state.newest[content] = Stored(value, record.appended_ms)
        if content is Content.TICKER and self._tickers is not None:
            self._changed_tickers[record.symbol] = None
        if state.live:
            channel = state.live.get(content)
            if channel is not None:
                channel.publish(value, stamp(times_of(value), record.appended_ms, now_ms))
        if state.streams:
            self._publish_streams(state, content, value)

    def _publish_streams(self, state: SymbolState, content: Content, value: bytes) -> None:
        payload: bytes | None = None
        for suffix in binance_payloads.STREAMS_OF.get(content, ()):
            stream = state.streams.get(suffix)
            if stream is not None:
                payload = payload or binance_payloads.ENCODERS[content](value)
                stream.publish(payload)

    def on_lost(self, content: Content, now_ms: int) -> None:
        """Records of this content were lost before they could be read: every channel made of it starts anew."""
        for state in self.symbols.values():
            for name, channel in state.live.items():
                if name.startswith("kline:") if content in (Content.SECOND, Content.CANDLE) else name == content:
                    self._start_anew(channel, LiveName(*_split(name, state.symbol)), now_ms)
        if content is Content.TICKER and self._tickers is not None:
            self._start_anew(self._tickers, LiveName(TICKERS), now_ms)
        if content is Content.ALERT and self._alerts.channel is not None:
            self._start_anew(self._alerts.channel, LiveName(ALERTS), now_ms)

    def _start_anew(self, channel: LiveChannel, name: LiveName, now_ms: int) -> None:
        channel.forget()
        t = stamp(NO_TIMES, None, now_ms)
        snapshot = self._snapshot(channel, name, now_ms)
        for subscriber in channel.subscribers:
            subscriber.deliver(channel.reset(t), asked=True)
            subscriber.deliver(snapshot, asked=True)

    # --- subscriptions to /live ------------------------------------------------------------------------------

    def is_known(self, symbol: str) -> bool:
        """False when all that the topics hold has been read and none of it was of this symbol."""
        if not self.is_caught_up:
            return True
        state = self.symbols.get(symbol)
        return state is not None and state.has_data

    def subscribe(self, subscriber: Subscriber, name: LiveName, since: int | None, now_ms: int) -> None:
        """Begin, or begin again from `since`: replay of what was missed, else (reset and) snapshot."""
        channel = self._open_live(name, now_ms)
        missed = channel.missed(since) if since is not None else None
        if missed is not None:
            for frame in missed:
                subscriber.deliver(frame, asked=True)
        else:
            if since is not None:
                subscriber.deliver(channel.reset(stamp(NO_TIMES, None, now_ms)), asked=True)
            subscriber.deliver(self._snapshot(channel, name, now_ms), asked=True)
        channel.subscribers.add(subscriber)

    def unsubscribe(self, subscriber: Subscriber, name: LiveName, now_ms: int) -> None:
        """End; the channel stays a while for those who come back with `since`."""
        channel = self._find_live(name)
        if channel is not None:
            channel.subscribers.discard(subscriber)
            channel.idle_since_ms = now_ms

    def _find_live(self, name: LiveName) -> LiveChannel | None:
        if name.kind == TICKERS:
            return self._tickers
        if name.kind == ALERTS:
            return self._alerts.channel
        state = self.symbols.get(name.symbol)
        return state.live.get(name.within_symbol) if state is not None else None

    def _open_live(self, name: LiveName, now_ms: int) -> LiveChannel:
        channel = self._find_live(name)
        if channel is None:
            channel = LiveChannel(str(name), now_ms, is_state=name.kind in STATE_CHANNELS)
            if name.kind == TICKERS:
                self._tickers = channel
            elif name.kind == ALERTS:
                self._alerts.channel = channel
            else:
                state = self.symbols.get(name.symbol) or self._new_symbol(name.symbol)
                state.live[name.within_symbol] = channel
                self._open_klines(state, name.interval)
        return channel

    def _open_klines(self, state: SymbolState, interval: Interval | None) -> None:
        if interval is not None:
            state.open_window(self._limits)
            if interval in STORED_INTERVALS:
                state.open_bars(interval, self._limits)

    def _snapshot(self, channel: LiveChannel, name: LiveName, now_ms: int) -> bytes:
        if name.kind == ALERTS:
            return channel.snapshot(stamp(NO_TIMES, None, now_ms), self._alerts.snapshot())
        if name.kind == TICKERS:
            self._changed_tickers.clear()
            held = (state.newest.get(Content.TICKER) for state in self.symbols.values())
            values = json_items(stored.value for stored in held if stored is not None)
            return channel.snapshot(stamp(NO_TIMES, None, now_ms), b'{"tickers":[%b]}' % values)
        state = self.symbols[name.symbol]
        if name.kind == "kline":
            bars = self._bars(state, name.interval)
            times = EventTimes(bars[-1].event_time_ms) if bars else NO_TIMES
            data = b'{"bars":[%b]}' % b",".join(map(encode_record, bars))
            return channel.snapshot(stamp(times, None, now_ms), data)
        if name.kind == "trade":
            return channel.snapshot(stamp(NO_TIMES, None, now_ms), b'{"trades":[%b]}' % json_items(state.trades))
        if name.kind == "depth":
            return channel.snapshot(stamp(NO_TIMES, None, now_ms), b"{}")
        stored = _present_outage(state) if name.kind == "feed" else state.newest.get(Content(name.kind))
        if stored is None or not is_json(stored.value):
            return channel.snapshot(stamp(NO_TIMES, None, now_ms), b"null")
        return channel.snapshot(stamp(times_of(stored.value), stored.appended_ms, now_ms), stored.value)

    def _bars(self, state: SymbolState, interval: Interval | None) -> list[Candle]:
        window = state.open_window(self._limits)
        if interval is Interval.S1 or interval is None:
            return [bar_of_second(kline) for kline in window.newest(SNAPSHOT_SECONDS)]
        return state.open_bars(interval, self._limits).bars()

    # --- subscriptions to Binance's streams ------------------------------------------------------------------

    def subscribe_stream(self, subscriber: Subscriber, name: StreamName, *, combined: bool) -> None:
        """Begin a stream of Binance's dialect; it has no snapshot, as at the exchange."""
        state = self.symbols.get(name.symbol) or self._new_symbol(name.symbol)
        stream = state.streams.get(name.suffix)
        if stream is None:
            stream = state.streams[name.suffix] = StreamChannel(str(name), is_state=name.is_state)
            self._open_klines(state, name.interval)
            if name.interval is not None:
                # What closed before somebody came is not news to them, however often it is revised.
                stream.last_closed_ms = binance_payloads.newest_closed_ms(self._bars(state, name.interval))
        (stream.combined if combined else stream.raw).add(subscriber)

    def unsubscribe_stream(self, subscriber: Subscriber, name: StreamName) -> None:
        """End a stream."""
        state = self.symbols.get(name.symbol)
        stream = state.streams.get(name.suffix) if state is not None else None
        if state is None or stream is None:
            return
        stream.raw.discard(subscriber)
        stream.combined.discard(subscriber)
        if not stream.raw and not stream.combined:
            del state.streams[name.suffix]
            self._close_unused(state)

    # --- time ------------------------------------------------------------------------------------------------

    def on_second_tick(self, now_ms: int) -> None:
        """Once a second: publish `tickers`, drop channels that nobody has listened to for a while."""
        self._alerts.forget_old(now_ms)
        if self._alerts.channel is not None and self._is_over(self._alerts.channel, now_ms):
            self._alerts.channel = None
        tickers = self._tickers
        if tickers is not None:
            held = (self.symbols[symbol].newest[Content.TICKER].value for symbol in self._changed_tickers)
            if values := json_items(held):
                tickers.publish(b'{"tickers":[%b]}' % values, stamp(NO_TIMES, None, now_ms))
            self._changed_tickers.clear()
            if self._is_over(tickers, now_ms):
                self._tickers = None
        for state in list(self.symbols.values()):
            if not state.live:
                continue
            over = [name for name, channel in state.live.items() if self._is_over(channel, now_ms)]
            for name in over:
                del state.live[name]
            if over:
                self._close_unused(state)

    def _is_over(self, channel: LiveChannel, now_ms: int) -> bool:
        return not channel.subscribers and now_ms - channel.idle_since_ms >= self._linger_ms

    def _close_unused(self, state: SymbolState) -> None:
        """Stop building bars that no channel shows."""
        used = {name[len("kline:") :] for name in state.live if name.startswith("kline:")}
        used |= {name[len("kline_") :] for name in state.streams if name.startswith("kline_")}
        for interval in [interval for interval in state.bars if interval.value not in used]:
            state.close_bars(interval)
        if not used:
            state.close_window()
        if not (state.has_data or state.live or state.streams):
            del self.symbols[state.symbol]


def _present_outage(state: SymbolState) -> Stored | None:
    """The outage that lasts, else the last that was; None when there was none."""
    lasting = [stored for stored in state.outages.values() if _outage.decode(stored.value).to_time_ms is None]
    return max(lasting or list(state.outages.values()), key=lambda stored: stored.appended_ms, default=None)


def _split(within_symbol: str, symbol: str) -> tuple[str, str, Interval | None]:
    kind, _, interval = within_symbol.partition(":")
    return kind, symbol, Interval(interval) if interval else None
