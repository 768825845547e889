"""Channels: numbered events, a bounded memory of recent frames, and who listens. No I/O, no clock.

A channel lives while somebody listens and a while after. Its numbers begin at the time of its making in
microseconds, so they never go back: not when it is made again, not when the relay restarts. They fit 2^53.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final

import msgspec

from flask_stream.audience import Audience
from flask_stream.frames import text_frame

RING_MAX_FRAMES: Final = 1_000
RING_MAX_BYTES: Final = 262_144


class EventTimes(msgspec.Struct):
    """The two times that a record of ours carries; the rest of its fields is skipped."""

    event_time_ms: int | None = None
    received_at_ms: int | None = None


_times = msgspec.json.Decoder(EventTimes)
NO_TIMES: Final = EventTimes()


def times_of(value: bytes) -> EventTimes:
    """Times of a record. Raises msgspec.MsgspecError when it is no JSON object."""
    return _times.decode(value)


def is_json(value: bytes) -> bool:
    """True for a JSON object, which may stand in a message as it is."""
    try:
        _times.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def json_items(values: Iterable[bytes]) -> bytes:
    """The JSON objects among the values as the inside of a JSON list."""
    return b",".join(value for value in values if is_json(value))


def stamp(times: EventTimes, appended_ms: int | None, relayed_ms: int) -> bytes:
    """The `t` object of the envelope."""
    event, received, appended = (
        b"null" if value is None else b"%d" % value
        for value in (times.event_time_ms, times.received_at_ms or None, appended_ms)
    )
    return b'{"event":%b,"received":%b,"appended":%b,"relayed":%d}' % (event, received, appended, relayed_ms)


def envelope(channel: bytes, seq: int, kind: bytes, t: bytes, data: bytes) -> bytes:
    """One message of docs/LIVE.md as a frame; `channel` and `data` are JSON already."""
    return text_frame(b'{"ch":%b,"seq":%d,"kind":"%b","t":%b,"data":%b}' % (channel, seq, kind, t, data))


class LiveChannel:
    """One channel of /live that is in use."""

    __slots__ = ("_name_json", "_ring", "_ring_bytes", "idle_since_ms", "is_state", "name", "seq", "subscribers")

    def __init__(self, name: str, now_ms: int, *, is_state: bool) -> None:
        self.name = name
        self.is_state = is_state
        self.seq = now_ms * 1000
        self.subscribers = Audience()
        self.idle_since_ms = now_ms
        self._name_json = msgspec.json.encode(name)
        self._ring: deque[bytes] = deque()
        self._ring_bytes = 0

    def publish(self, data: bytes, t: bytes, key: Hashable | None = None) -> None:
        """Send one update to all. `key` names what a newer update replaces; None means the whole channel
        for a state channel and nothing for the others."""
        self.seq += 1
        frame = envelope(self._name_json, self.seq, b"update", t, data)
        self._ring.append(frame)
        self._ring_bytes += len(frame)
        while self._ring_bytes > RING_MAX_BYTES or len(self._ring) > RING_MAX_FRAMES:
            self._ring_bytes -= len(self._ring.popleft())
        state_key = (self.name, key) if self.is_state else None
        self.subscribers.send(frame, state_key)

    def missed(self, since: int) -> list[bytes] | None:
        """Frames after `since`, oldest first; None when the memory does not reach back that far."""
        count = self.seq - since
        if count < 0 or count > len(self._ring):
            return None
        return [self._ring[index] for index in range(len(self._ring) - count, len(self._ring))]

    def snapshot(self, t: bytes, data: bytes) -> bytes:
        """A snapshot as of now; the next update has the following number."""
        return envelope(self._name_json, self.seq, b"snapshot", t, data)

    def reset(self, t: bytes) -> bytes:
        """Tells one client that what it holds is void."""
        return envelope(self._name_json, self.seq, b"reset", t, b"null")

    def forget(self) -> None:
        """Something was lost on the way here: nobody can resume from before."""
        self.seq += 1
        self._ring.clear()
        self._ring_bytes = 0


class StreamChannel:
    """One stream of Binance's dialect that is in use: no numbers, no memory; some want it wrapped."""

    __slots__ = ("_name_json", "combined", "is_state", "last_closed_ms", "name", "raw")

    def __init__(self, name: str, *, is_state: bool) -> None:
        self.name = name
        self.is_state = is_state
        self.raw = Audience()
        self.combined = Audience()
        #: Open time of the newest bar that was sent as closed: the exchange sends each but once.
        self.last_closed_ms = -1
        self._name_json = msgspec.json.encode(name)

    def publish(self, payload: bytes, key: Hashable | None = None) -> None:
        """Send one event to all, in the shape each has asked for."""
        state_key = (self.name, key) if self.is_state else None
        if self.raw:
            self.raw.send(text_frame(payload), state_key)
        if self.combined:
            frame = text_frame(b'{"stream":%b,"data":%b}' % (self._name_json, payload))
            self.combined.send(frame, state_key)
