"""A socket whose other end takes as many bytes as a test allows."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

ALL_BYTES = 1 << 30


class SlowLine:
    """`taken` is what the other end has got; `send` fails when `is_broken`."""

    def __init__(self, room_bytes: int = ALL_BYTES) -> None:
        self.taken = bytearray()
        self.room_bytes = room_bytes
        self.is_broken = False
        self.is_shut = False

    def send(self, data: bytes | memoryview) -> int:
        if self.is_broken:
            raise ConnectionResetError
        if self.room_bytes == 0:
            raise BlockingIOError
        count = min(len(data), self.room_bytes)
        self.taken += data[:count]
        self.room_bytes -= count
        return count

    def shutdown(self, how: int) -> None:
        self.is_shut = how == socket.SHUT_WR


@contextmanager
def sending_to_slow_lines() -> Iterator[None]:
    """The relay's hot loop calls the method of sockets, and these are none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flask_stream.audience.send", SlowLine.send)
        yield
