"""The feed as a state machine without I/O: frames in, records into the buffer, outages noticed. Takes the clock.

frame -> envelope -> typed event -> is it new? -> our record -> the lane of its topic. Of kline_1s only closed
klines pass: one that still forms is no fact, a moment later it is replaced, and the table it goes to holds facts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from market.binance_codec import MarketEvent, decode_envelope, decode_event
from market.depth import DepthUpdate, MiniTicker
from market.errors import BadFrame
from market.feed import BadFrameRecord, FeedOutage, GapCause
from market.kline import Kline
from market.record_codec import encode_record
from market.stream import Stream
from market.topics import Topic, TopicKind, Topics
from market.trade import Trade
from producer.buffer import RANK_BAD_FRAME, RANK_FACT, RANK_FEED, RANK_REPLACEABLE, Buffer, Lane
from producer.connections import StreamKey
from producer.dedup import Dedup
from producer.outages import OutageState, first_missing_ms, overflow_outage, start_mark, step_ms_of
from producer.silence import Silence
from producer.subscriptions import ControlFrame, decode_control
from runtime.clock import Clock

#: No frame of these streams is larger; a dead letter keeps the first MAX_KEPT_BYTES.
MAX_GOOD_FRAME_BYTES = 512 * 1024
MAX_KEPT_BYTES = 64 * 1024
MAX_NAME_CHARS = 100
UNKNOWN_NAME = "?"


class TooManyBadFrames(Exception):
    """The declared share of the last frames was bad: what comes in is not what we understand."""


@dataclass(slots=True)
class _Channel:
    """One stream of one symbol."""

    key: StreamKey
    lane: Lane
    silence: Silence
    outage: OutageState
    dedup: Dedup
    carriers: set[str]


class BadShare:
    """The share of bad ones among the last `window` frames."""

    def __init__(self, window: int, max_share: float) -> None:
        self._last: deque[bool] = deque(maxlen=window)
        self._max_bad = int(window * max_share)
        self._bad = 0

    def note(self, *, bad: bool) -> bool:
        """Count one frame; true when too many of a full window are bad."""
        if len(self._last) == self._last.maxlen:
            self._bad -= self._last[0]
        self._last.append(bad)
        self._bad += bad
        return len(self._last) == self._last.maxlen and self._bad > self._max_bad


class Feed:
    """Everything that is known of the wanted streams. One event loop calls it; nothing here waits."""

    def __init__(self, keys: Iterable[StreamKey], topics: Topics, buffer: Buffer, clock: Clock, bad: BadShare) -> None:
        self._buffer, self._clock, self._bad = buffer, clock, bad
        self._topic_of = _topic_of(topics)
        self._outage_lane = buffer.add_lane(topics.feed_outage, topics.feed_outage.name, RANK_FEED)
        self._dead_lane = buffer.add_lane(topics.dead_frame, topics.dead_frame.name, RANK_BAD_FRAME)
        self._lanes: dict[Stream, Lane] = {}
        self._channels: dict[str, _Channel] = {}
        #: streams that were wanted once: what still comes of them is nobody's fault
        self._left: set[str] = set()
        for key in keys:
            self._open_channel(key)
        self.messages: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self.bad_frames = 0
        self.outages: Counter[tuple[str, str]] = Counter()
        self.newest_received_ms: dict[str, int] = {}
        self.on_delivered: dict[str, Callable[[str], None]] = {}

    def _open_channel(self, key: StreamKey) -> _Channel:
        lane = self._lanes.get(key.stream)
        if lane is None:
            topic = self._topic_of[key.stream]
            rank = RANK_FACT if topic.kind is TopicKind.FACT else RANK_REPLACEABLE
            lane = self._lanes[key.stream] = self._buffer.add_lane(topic, key.stream.value, rank)
        first_ms = first_missing_ms(key.stream, self._clock.now_ms())
        state = OutageState(key.symbol, key.stream, step_ms_of(key.stream), first_ms)
        channel = _Channel(key, lane, Silence(key.stream), state, Dedup(), set())
        self._channels[key.name] = channel
        self._left.discard(key.name)
        return channel

    def report_start(self) -> None:
        """Write down that a producer starts now: what came before, this process cannot know."""
        for channel in self._channels.values():
            self._mark_start(channel)

    def _mark_start(self, channel: _Channel) -> None:
        key = channel.key
        self._put_outage(start_mark(key.symbol, key.stream, channel.outage.next_event_ms, self._clock.now_ms()))

    def add(self, keys: Iterable[StreamKey]) -> None:
        """These streams are wanted too, as if a producer started for them now."""
        for key in keys:
            self._mark_start(self._open_channel(key))

    def remove(self, keys: Iterable[StreamKey]) -> None:
        """These streams are not wanted any more: what does not come of them is not missing."""
        for key in keys:
            self._channels.pop(key.name, None)
            self._left.add(key.name)

    def pause(self, keys: Iterable[StreamKey], detail: str) -> None:
        """Nothing listens to these streams, because an operator wants it so: out from their next event on."""
        for key in keys:
            channel = self._channels[key.name]
            channel.carriers.clear()
            channel.dedup.after_cut()
            channel.silence.on_cut()
            self._open_outage(channel, GapCause.DOWNTIME, detail)

    def on_frame(self, connection: str, frame: bytes) -> ControlFrame | None:
        """One text frame as it came. Returns it when it is a control frame, which the connection must handle.

        A frame that cannot be used becomes a dead letter. Raises TooManyBadFrames over the declared share.
        """
        received_at_ms = self._clock.now_ms()
        stream = ""
        try:
            if len(frame) > MAX_GOOD_FRAME_BYTES:
                raise BadFrame(f"frame of {len(frame)} bytes, more than {MAX_GOOD_FRAME_BYTES}")
            envelope = decode_envelope(frame)
            if envelope.stream is None or envelope.stream.startswith("!"):
                control = decode_control(frame if envelope.stream is None else bytes(envelope.data))
                if control is None:
                    raise BadFrame("neither data nor an answer nor an event of the protocol")
                return control
            stream = envelope.stream
            channel = self._channels.get(stream)
            if channel is None and stream in self._left:
                return None
            if channel is None:
                raise BadFrame(f"nobody asked for the stream {stream}")
            event = decode_event(stream, envelope.data, received_at_ms)
            if event.symbol != channel.key.symbol:
                raise BadFrame(f"symbol {event.symbol!r} on {stream}")
        except BadFrame as error:
            self._dead_letter(connection, stream, frame, str(error))
            return None
        self._bad.note(bad=False)
        self._on_event(connection, channel, event)
        return None

    def _on_event(self, connection: str, channel: _Channel, event: MarketEvent) -> None:
        name = channel.key.stream.value
        channel.silence.on_frame(self._clock.monotonic_s())
        channel.carriers.add(connection)
        self.messages[name] += 1
        self.newest_received_ms[name] = event.received_at_ms
        delivered = self.on_delivered.get(connection)
        if delivered is not None:
            delivered(channel.key.name)
        if channel.key.stream is Stream.KLINE_1S and isinstance(event, Kline) and not event.is_closed:
            return
        if not channel.dedup.is_new(event):
            self.duplicates[name] += 1
            return
        event_time_ms = _event_time_ms(event, channel.key.stream)
        ended = channel.outage.delivered(event_time_ms, self._clock)
        times_ms = (event.received_at_ms, event_time_ms, channel.outage.step_ms)
        self._buffer.put(channel.lane, event.symbol, encode_record(event), times_ms=times_ms)
        if ended is not None:
            self._put_outage(ended)

    def on_listening(self, connection: str, names: Iterable[str]) -> None:
        """The exchange lists these streams for the connection: from now on it carries them."""
        now_s = self._clock.monotonic_s()
        for name in names:
            channel = self._channels[name]
            if not channel.carriers:
                channel.silence.on_listening(now_s)
            channel.carriers.add(connection)

    def on_gone(self, connection: str, names: Iterable[str], detail: str) -> None:
        """The connection ended. Streams that no other connection carries are out from their next event on."""
        self.on_delivered.pop(connection, None)
        for name in names:
            channel = self._channels[name]
            channel.carriers.discard(connection)
            if not channel.carriers:
                channel.dedup.after_cut()
                channel.silence.on_cut()
                self._open_outage(channel, GapCause.DISCONNECT, detail)

    def on_unreachable(self, names: Iterable[str], detail: str) -> None:
        """No connection could be made for these streams."""
        for name in names:
            if not self._channels[name].carriers:
                self._open_outage(self._channels[name], GapCause.DISCONNECT, detail)

    def silent_streams(self, names: Iterable[str]) -> list[str]:
        """Those of the carried streams that are silent for longer than usual; each is out from now on."""
        now_s = self._clock.monotonic_s()
        silent = []
        for name in names:
            channel = self._channels[name]
            if channel.carriers and channel.silence.is_silent(now_s):
                silent.append(name)
                self._open_outage(channel, GapCause.SILENCE, f"no frame for {channel.silence.silent_s(now_s):.1f} s")
        return silent

    def living_streams(self, names: Iterable[str]) -> list[str]:
        """Those that have delivered and are not silent: a replacement must deliver them before it takes over."""
        now_s = self._clock.monotonic_s()
        return [
            name
            for name in names
            if self._channels[name].silence.last_frame_s is not None
            and not self._channels[name].silence.is_silent(now_s)
        ]

    def report_losses(self) -> None:
        """Write down as outages what the buffer had to drop; call it when the broker takes records again."""
        now_ms = self._clock.now_ms()
        for loss in self._buffer.take_losses():
            span_ms = (loss.from_ms, loss.to_ms)
            self.outages[loss.stream, GapCause.OVERFLOW.value] += 1
            self._put_outage(overflow_outage(loss.symbol, loss.stream, span_ms, loss.records, now_ms))

    def open_outages(self) -> list[str]:
        """Names of the streams that are out now."""
        return [name for name, channel in self._channels.items() if channel.outage.open is not None]

    def _open_outage(self, channel: _Channel, cause: GapCause, detail: str) -> None:
        record = channel.outage.out(cause, detail, self._clock)
        if record is not None:
            self.outages[channel.key.stream.value, cause.value] += 1
            self._put_outage(record)

    def _put_outage(self, record: FeedOutage) -> None:
        times_ms = (record.received_at_ms, record.event_time_ms, 1)
        self._buffer.put(self._outage_lane, record.symbol, encode_record(record), times_ms=times_ms)

    def _dead_letter(self, connection: str, stream: str, frame: bytes, reason: str) -> None:
        self.bad_frames += 1
        stream = stream[:MAX_NAME_CHARS]
        received_at_ms = self._clock.now_ms()
        record = BadFrameRecord(
            stream=stream,
            reason=reason[:500],
            frame=frame[:MAX_KEPT_BYTES],
            connection=connection,
            received_at_ms=received_at_ms,
        )
        times_ms = (received_at_ms, received_at_ms, 1)
        self._buffer.put(self._dead_lane, stream or UNKNOWN_NAME, encode_record(record), times_ms=times_ms)
        if self._bad.note(bad=True):
            raise TooManyBadFrames(f"too many bad frames, the last one: {reason[:200]}")


def _event_time_ms(event: MarketEvent, stream: Stream) -> int:
    """The time an event stands for: of a closed second its begin, else the exchange's time, else our receive time."""
    if isinstance(event, Kline):
        return event.open_time_ms if stream is Stream.KLINE_1S else event.event_time_ms
    if isinstance(event, Trade):
        return event.trade_time_ms
    if isinstance(event, DepthUpdate | MiniTicker):
        return event.event_time_ms
    return event.received_at_ms


def _topic_of(topics: Topics) -> dict[Stream, Topic]:
    return {
        Stream.KLINE_1S: topics.kline_1s,
        Stream.KLINE_1M: topics.kline_1m,
        Stream.TRADE: topics.trade,
        Stream.DEPTH: topics.depth,
        Stream.DEPTH20: topics.depth20,
        Stream.BOOK_TICKER: topics.book_ticker,
        Stream.MINI_TICKER: topics.mini_ticker,
    }
