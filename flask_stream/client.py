"""One client's way out: sends at once while the socket takes it, else a bounded buffer.

State updates waiting in the buffer are replaced by newer ones of the same key; facts wait in order.
All methods are called by the fan-out thread only.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable
from typing import Final, Protocol

from prometheus_client import Counter

from flask_stream.audience import Audience
from flask_stream.frames import CloseCode, Opcode, close_frame, encode_frame
from flask_stream.inbound import Inbound

#: Snapshots and replays are asked for by the client and are not counted as slowness; this bounds them.
MAX_ASKED_BYTES: Final = 8 * 1024 * 1024
SEND_CHUNK_BYTES: Final = 16_384
#: How long a client may take to read its close frame.
CLOSE_DEADLINE_S: Final = 3.0

CONFLATED = Counter("relay_conflated", "state updates replaced by a newer one while they waited for a slow client")


class Session(Protocol):
    """The dialect that a client speaks."""

    def on_text(self, text: str) -> None:
        """A message came."""
        ...

    def on_gone(self) -> None:
        """The client is gone: end its subscriptions."""
        ...


class Client:
    """A connected client. `watch(client)` asks the loop to look at it again: blocked, unblocked or finished."""

    __slots__ = (
        "_asked_bytes",
        "_buffer_bytes",
        "_fact_count",
        "_head",
        "_waiting",
        "_waiting_bytes",
        "_watch",
        "address",
        "audiences",
        "close_reason",
        "deadline_s",
        "direct",
        "heard_s",
        "inbound",
        "is_closing",
        "is_finished",
        "ping_at_s",
        "progress_s",
        "session",
        "sock",
    )

    def __init__(
        self, sock: socket.socket, address: str, buffer_bytes: int, inbound: Inbound, watch: Callable[[Client], None]
    ) -> None:
        self.sock = sock
        self.address = address
        self.inbound = inbound
        self.session: Session | None = None
        self.heard_s = 0.0
        self.progress_s = 0.0
        self.deadline_s = 0.0
        self.ping_at_s = 0.0
        self.close_reason = ""
        self.is_closing = False
        self.is_finished = False
        self.direct: socket.socket | None = sock
        self.audiences: set[Audience] = set()
        self._watch = watch
        self._buffer_bytes = buffer_bytes
        self._head: memoryview | None = None
        self._waiting: dict[Hashable, tuple[bytes, bool]] = {}
        self._waiting_bytes = 0
        self._asked_bytes = 0
        self._fact_count = 0

    @property
    def is_blocked(self) -> bool:
        """True while bytes wait for the socket."""
        return self._head is not None or bool(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Bytes held for this client."""
        return self._waiting_bytes + self._asked_bytes + (len(self._head) if self._head is not None else 0)

    def deliver(self, frame: bytes, key: Hashable | None = None, *, asked: bool = False) -> None:
        """Send the frame, or let it wait. `key` marks state: a waiting frame of the same key is replaced.

        `asked` frames (snapshots, replays, replies) do not count against the buffer of updates.
        """
        if self.direct is None:
            self._wait(frame, key, asked)
            return
        try:
            sent = self.direct.send(frame)
        except OSError as error:
            self.on_send_error(error, frame)
            return
        if sent != len(frame):
            self.on_short_send(frame, sent)

    def on_short_send(self, frame: bytes, sent: int) -> None:
        """The socket took only `sent` bytes: the rest, and everything after it, waits."""
        self._head = memoryview(frame)[sent:]
        self._set_direct(False)
        self._watch(self)

    def _set_direct(self, is_direct: bool) -> None:
        self.direct = self.sock if is_direct else None
        for audience in self.audiences:
            audience.on_change()

    def on_send_error(self, error: OSError, frame: bytes) -> None:
        """A full socket makes the frame wait; any other error is the end."""
        if isinstance(error, BlockingIOError):
            self.on_short_send(frame, 0)
        else:
            self.finish("gone")

    def _wait(self, frame: bytes, key: Hashable | None, asked: bool) -> None:
        if self.is_closing or self.is_finished:
            return
        if key is None or asked:
            self._fact_count += 1
            key = self._fact_count
        else:
            replaced = self._waiting.pop(key, None)
            if replaced is not None:
                self._waiting_bytes -= len(replaced[0])
                CONFLATED.inc()
        self._waiting[key] = (frame, asked)
        if asked:
            self._asked_bytes += len(frame)
        else:
            self._waiting_bytes += len(frame)
        if self._waiting_bytes > self._buffer_bytes or self._asked_bytes > MAX_ASKED_BYTES:
            self.close(CloseCode.TOO_SLOW, "too slow", "too_slow")

    def flush(self, now_s: float) -> None:
        """Send what waits, as far as the socket takes it."""
        if self.is_finished:
            return
        try:
            while self._head is not None or self._waiting:
                if self._head is None:
                    self._head = self._next_chunk()
                sent = self.sock.send(self._head)
                self.progress_s = now_s
                self._head = self._head[sent:] if sent < len(self._head) else None
        except BlockingIOError:
            return
        except OSError:
            self.finish("gone")
            return
        self._watch(self)
        if self.is_closing:
            self._end_sending()
        else:
            self._set_direct(True)

    def _next_chunk(self) -> memoryview:
        """Waiting frames in order, joined up to SEND_CHUNK_BYTES."""
        frames: list[bytes] = []
        size_bytes = 0
        while self._waiting and size_bytes < SEND_CHUNK_BYTES:
            frame, asked = self._waiting.pop(next(iter(self._waiting)))
            if asked:
                self._asked_bytes -= len(frame)
            else:
                self._waiting_bytes -= len(frame)
            frames.append(frame)
            size_bytes += len(frame)
        return memoryview(b"".join(frames))

    def ping(self) -> None:
        """Send a ping; behind what waits already."""
        self.deliver(encode_frame(Opcode.PING, b""), asked=True)

    def pong(self, payload: bytes) -> None:
        """Answer a ping."""
        self.deliver(encode_frame(Opcode.PONG, payload), asked=True)

    def close(self, code: int, reason: str, why: str) -> None:
        """Drop what waits, send a close frame and end; `why` is the label of the metric."""
        if self.is_closing or self.is_finished:
            return
        self._waiting.clear()
        self._waiting_bytes = self._asked_bytes = 0
        frame = close_frame(code, reason)
        self.close_reason = why
        if self._head is not None:
            # A frame is half out: the close frame has to come behind the other half.
            self._waiting[0] = (frame, True)
            self._asked_bytes = len(frame)
            self.is_closing = True
        else:
            self.deliver(frame)
            self.is_closing = True
            self._set_direct(False)
            if not self.is_blocked and not self.is_finished:
                self._end_sending()
        self._watch(self)

    def _end_sending(self) -> None:
        """The close frame is out. What the client still sends is read and dropped until it ends too: closing
        with unread bytes would make the kernel reset the connection and lose the close frame."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.finish(self.close_reason)

    def finish(self, why: str) -> None:
        """The loop is to close the socket."""
        self.close_reason = self.close_reason or why
        self.is_finished = True
        self._set_direct(False)
        self._head = None
        self._waiting.clear()
        self._waiting_bytes = self._asked_bytes = 0
        self._watch(self)
