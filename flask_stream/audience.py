"""Who listens to one channel, and the hot loop that sends to all of them. No I/O of its own, no clock."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator
from os import write
from typing import Protocol


class Subscriber(Protocol):
    """Who gets frames: a client. It tells its audiences when `direct_fd` changes."""

    #: The socket's descriptor, to write to at once; None while frames have to wait or the client is closing.
    direct_fd: int | None
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

    __slots__ = ("_direct_fds", "_others", "_ready", "_subscribers")

    def __init__(self) -> None:
        self._subscribers: dict[Subscriber, None] = {}
        self._direct_fds: array[int] | None = None
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
        """The `direct_fd` of somebody has changed."""
        self._direct_fds = None

    def send(self, frame: bytes, key: Hashable | None) -> None:
        """To all; `key` as in Subscriber.deliver."""
        direct_fds = self._direct_fds
        if direct_fds is None:
            direct_fds = self._lay_out()
        others, size_bytes = self._others, len(frame)
        for fd in direct_fds:
            try:
                sent = write(fd, frame)
            except OSError as error:
                self._ready[direct_fds.index(fd)].on_send_error(error, frame)
                continue
            if sent != size_bytes:
                self._ready[direct_fds.index(fd)].on_short_send(frame, sent)
        for subscriber in others:
            subscriber.deliver(frame, key)

    def _lay_out(self) -> array[int]:
        self._ready = [subscriber for subscriber in self._subscribers if subscriber.direct_fd is not None]
        self._others = [subscriber for subscriber in self._subscribers if subscriber.direct_fd is None]
        self._direct_fds = array("i", [fd for subscriber in self._ready if (fd := subscriber.direct_fd) is not None])
        return self._direct_fds
