"""What a client sends, as events: messages, pings, close, and breaches of the limits. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from flask_stream.frames import CloseCode

MESSAGES_PER_S = 5.0
BURST_MESSAGES = 20.0


@dataclass(frozen=True)
class Message:
    """A whole text message."""

    text: str


@dataclass(frozen=True)
class PingReceived:
    """To be answered with a pong of the same payload."""

    payload: bytes


@dataclass(frozen=True)
class Closing:
    """The connection is to be closed with this code: the client asked, or broke a rule."""

    code: int
    reason: str
    by_client: bool = False


class Inbound:
    """Parser of one client's bytes with its limits: `max_message_bytes`, 5 frames a second, burst of 20."""

    __slots__ = ("_at_s", "_connection", "_max_message_bytes", "_parts", "_size_bytes", "_tokens")

    def __init__(self, max_message_bytes: int, now_s: float) -> None:
        self._connection = Connection(ConnectionType.SERVER)
        self._max_message_bytes = max_message_bytes
        self._parts: list[str] = []
        self._size_bytes = 0
        self._tokens = BURST_MESSAGES
        self._at_s = now_s

    def receive(self, data: bytes, now_s: float) -> Iterator[Message | PingReceived | Closing]:
        """Events of these bytes; nothing follows a Closing."""
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, CloseConnection):
                yield Closing(int(event.code), event.reason or "", by_client=True)
                return
            is_whole = not isinstance(event, (TextMessage, BytesMessage)) or event.frame_finished
            if is_whole and not self._take_token(now_s):
                yield Closing(CloseCode.POLICY, f"more than {MESSAGES_PER_S:.0f} messages a second")
                return
            if isinstance(event, Pong):
                continue
            if isinstance(event, Ping):
                yield PingReceived(bytes(event.payload))
            elif isinstance(event, BytesMessage):
                yield Closing(CloseCode.POLICY, "text messages only")
                return
            elif isinstance(event, TextMessage):
                self._size_bytes += len(event.data.encode())
                if self._size_bytes > self._max_message_bytes:
                    yield Closing(CloseCode.TOO_LARGE, f"more than {self._max_message_bytes} bytes")
                    return
                self._parts.append(event.data)
                if event.message_finished:
                    text = "".join(self._parts)
                    self._parts, self._size_bytes = [], 0
                    yield Message(text)

    def _take_token(self, now_s: float) -> bool:
        self._tokens = min(BURST_MESSAGES, self._tokens + (now_s - self._at_s) * MESSAGES_PER_S)
        self._at_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
