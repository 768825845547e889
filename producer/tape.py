"""A tape: raw frames and REST answers as they came, as zstd-compressed JSON lines (extension .tape.zst).

First line: `{"candlewire_tape":1,"started_at_ms":..,"exchange":..,"symbols":[..],"streams":[..]}`; then, in order of
arrival, `{"received_at_ms":..,"connection":"c1.1","frame":"<text>"}` and
`{"received_at_ms":..,"rest":"/api/v3/depth?symbol=..&limit=1000","body":"<text>"}`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import zstandard

EXTENSION = ".tape.zst"
LEVEL = 6


class TapeHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    candlewire_tape: int = 1
    started_at_ms: int
    exchange: str
    symbols: Sequence[str]
    streams: Sequence[str]


class TapeFrame(msgspec.Struct, frozen=True):
    """One WebSocket frame. `connection` tells which frames are in order with each other."""

    received_at_ms: int
    connection: str
    frame: str


class TapeAnswer(msgspec.Struct, frozen=True):
    """One REST answer; `rest` is path and query."""

    received_at_ms: int
    rest: str
    body: str


class TapeWriter:
    """Writes one tape, at most `max_bytes` of uncompressed lines; the file has its name only when it is complete."""

    def __init__(self, path: Path, header: TapeHeader, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._partial = path.with_name(path.name + ".partial")
        self._file = self._partial.open("wb")
        self._writer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(self._file)
        self._encoder = msgspec.json.Encoder()
        self._hash = hashlib.sha256()
        self.frames = 0
        self.bytes = 0
        self._line(header)

    def __enter__(self) -> TapeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.flush(zstandard.FLUSH_FRAME)
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)

    @property
    def is_full(self) -> bool:
        """True when the bound is reached: nothing more is written."""
        return self.bytes >= self._max_bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the uncompressed lines, hexadecimal."""
        return self._hash.hexdigest()

    def frame(self, frame: TapeFrame) -> None:
        """Append a frame, unless the tape is full."""
        if not self.is_full:
            self.frames += 1
            self._line(frame)

    def answer(self, answer: TapeAnswer) -> None:
        """Append a REST answer, unless the tape is full."""
        if not self.is_full:
            self._line(answer)

    def _line(self, line: TapeHeader | TapeFrame | TapeAnswer) -> None:
        encoded = self._encoder.encode(line) + b"\n"
        self._hash.update(encoded)
        self.bytes += len(encoded)
        self._writer.write(encoded)
