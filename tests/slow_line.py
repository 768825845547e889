"""A socket whose other end takes as many bytes as a test allows, behind a descriptor of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

ALL_BYTES = 1 << 30
#: By descriptor.
_LINES: list[SlowLine] = []


class SlowLine:
    """`taken` is what the other end has got; `send` and `write` fail when `is_broken`."""

    def __init__(self, room_bytes: int = ALL_BYTES) -> None:
        self.taken = bytearray()
        self.room_bytes = room_bytes
        self.is_broken = False
        self.is_shut = False
        self._fd = len(_LINES)
        _LINES.append(self)

    def fileno(self) -> int:
        return self._fd

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
def writing_to_slow_lines() -> Iterator[None]:
    """What the relay writes to a descriptor goes to the line of that number."""

    def write(fd: int, data: bytes) -> int:
        return _LINES[fd].send(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flask_stream.audience.write", write)
        patch.setattr("flask_stream.client.write", write)
        yield
    _LINES.clear()
