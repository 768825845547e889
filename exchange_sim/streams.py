"""Who listens to which stream, and the frames that each of them gets: encoded once per stream and dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, Protocol

from exchange_sim.faults import Faults
from exchange_sim.klines import INTERVALS

_KINDS: Final = frozenset(
    [
        "trade",
        "aggTrade",
        "bookTicker",
        "miniTicker",
        "ticker",
        *(f"depth{levels}{speed}" for levels in ("", "5", "10", "20") for speed in ("", "@100ms", "@1000ms")),
        *(f"kline_{interval}" for interval in INTERVALS),
    ]
)
ALL_MINI_TICKERS: Final = "!miniTicker@arr"
_ALL_PATTERN: Final = re.compile(r"^!miniTicker@arr$")
Build = Callable[[int], bytes]


class Listener(Protocol):
    """A connection as the hub sees it. `unit`: 1 = ms, 1000 = microseconds."""

    combined: bool
    unit: int

    def push(self, frame: bytes) -> None:
        """Take an encoded frame for sending; must not block."""
        ...

    def buffered_bytes(self) -> int:
        """Bytes taken but not yet read by the other side."""
        ...


def encode_text(payload: bytes) -> bytes:
    """One unmasked, final WebSocket text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def split_stream(name: str) -> tuple[str, str] | None:
    """(SYMBOL, kind) of a stream name that exists in the protocol, or None."""
    if _ALL_PATTERN.match(name):
        return "", name
    symbol, at, kind = name.partition("@")
    if not at or kind not in _KINDS or symbol != symbol.lower():
        return None
    return symbol.upper(), kind


class Hub:
    """Subscriptions by stream. Unknown names are held too: they are acknowledged and stay silent, as there."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._kinds: dict[str, dict[str, str]] = {}
        self.frames_sent = 0

    def add(self, listener: Listener, name: str) -> None:
        """Start sending this stream to the listener."""
        self._listeners.setdefault(name, {})[listener] = None
        parts = split_stream(name)
        if parts is not None:
            self._kinds.setdefault(parts[1], {})[parts[0]] = name

    def remove(self, listener: Listener, name: str) -> None:
        """Stop sending this stream to the listener."""
        listeners = self._listeners.get(name)
        if listeners is None:
            return
        listeners.pop(listener, None)
        if not listeners:
            del self._listeners[name]
            parts = split_stream(name)
            if parts is not None:
                self._kinds[parts[1]].pop(parts[0], None)

    def symbols_of(self, kind: str) -> dict[str, str]:
        """Symbols of which somebody listens to this kind, each with its stream name."""
        return self._kinds.get(kind, {})

    def active_kinds(self) -> list[str]:
        """Kinds that somebody listens to."""
        return [kind for kind, symbols in self._kinds.items() if symbols]

    def wants(self, name: str) -> bool:
        """True while somebody listens to this stream."""
        return name in self._listeners

    def largest_backlog_bytes(self) -> int:
        """Unsent bytes of the slowest reader."""
        listeners = {listener for group in self._listeners.values() for listener in group}
        return max((listener.buffered_bytes() for listener in listeners), default=0)

    def publish(self, name: str, build: Build) -> None:
        """Send one event to all listeners of the stream; build(unit) makes its payload."""
        listeners = self._listeners.get(name)
        if not listeners:
            return
        encoded: dict[tuple[bool, int], list[bytes]] = {}
        for listener in listeners:
            key = (listener.combined, listener.unit)
            frames = encoded.get(key)
            if frames is None:
                payloads = [build(listener.unit)]
                if self.faults.active:
                    payloads = self.faults.transform(name, payloads[0], f"{key}")
                frames = encoded[key] = [encode_text(self._wrap(name, p, key[0])) for p in payloads]
            for frame in frames:
                listener.push(frame)
                self.frames_sent += 1

    @staticmethod
    def _wrap(name: str, payload: bytes, combined: bool) -> bytes:
        if not combined:
            return payload
        return b'{"stream":' + json.dumps(name, ensure_ascii=False).encode() + b',"data":' + payload + b"}"
