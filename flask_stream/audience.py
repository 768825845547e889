"""Who listens to one channel, and the hot loop that sends to all of them. No I/O of its own, no clock."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from socket import socket
from typing import Protocol

#: The method of all sockets, instead of each socket's own: an object less to touch for each send.
send = socket.send


class Subscriber(Protocol):
    """Who gets frames: a client. It tells its audiences when `direct` changes."""

    #: The socket to send to at once; None while frames have to wait or the client is closing.
    direct: socket | None
    audiences: set[Audience]

    def on_short_send(self, frame: bytes, sent: int) -> None:
        """The socket took only `sent` bytes of the frame."""
        ...

    def on_send_error(self, error: OSError, frame: bytes) -> None:
        """The socket took nothing: it is full (BlockingIOError), or gone."""
        ...

    def deliver(self, frame: bytes, key: Hashable | None = None, *, asked: bool = False) -> None:
        """Send or queue the frame (flask_stream.client.Client.deliver)."""
        ...


class Audience:
    """The subscribers of a channel. What `send` needs is laid out flat and kept until somebody comes, goes, is
    blocked or is free again: each object touched between two sends is a cache miss, ten thousand times a second."""

    __slots__ = ("_others", "_ready", "_sockets", "_subscribers")

    def __init__(self) -> None:
        self._subscribers: dict[Subscriber, None] = {}
        self._sockets: list[socket] | None = None
        self._ready: list[Subscriber] = []
        self._others: list[Subscriber] = []

    def __len__(self) -> int:
        return len(self._subscribers)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._subscribers)

    def add(self, subscriber: Subscriber) -> None:
        """Somebody comes; twice is once."""
        self._subscribers[subscriber] = None
        subscriber.audiences.add(self)
        self.on_change()

    def discard(self, subscriber: Subscriber) -> None:
        """Somebody goes, if present."""
        self._subscribers.pop(subscriber, None)
        subscriber.audiences.discard(self)
        self.on_change()

    def on_change(self) -> None:
        """The `direct` of somebody has changed."""
        self._sockets = None

    def send(self, frame: bytes, key: Hashable | None) -> None:
        """To all; `key` as in Subscriber.deliver."""
        sockets = self._sockets
        if sockets is None:
            sockets = self._lay_out()
        others, size_bytes = self._others, len(frame)
        for sock in sockets:
            try:
                sent = send(sock, frame)
            except OSError as error:
                self._ready[sockets.index(sock)].on_send_error(error, frame)
                continue
            if sent != size_bytes:
                self._ready[sockets.index(sock)].on_short_send(frame, sent)
        for subscriber in others:
            subscriber.deliver(frame, key)

    def _lay_out(self) -> list[socket]:
        self._ready = [subscriber for subscriber in self._subscribers if subscriber.direct is not None]
        self._others = [subscriber for subscriber in self._subscribers if subscriber.direct is None]
        self._sockets = [subscriber.direct for subscriber in self._ready if subscriber.direct is not None]
        return self._sockets
