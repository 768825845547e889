"""A tape: raw frames and REST answers as they came, as zstd-compressed JSON lines (extension .tape.zst).

First line: `{"candlewire_tape":1,"started_at_ms":..,"exchange":..,"symbols":[..],"streams":[..],"part":1}`; then, in
order of arrival, `{"received_at_ms":..,"connection":"c1.1","frame":"<text>"}` and
`{"received_at_ms":..,"rest":"/api/v3/depth?symbol=..&limit=1000","body":"<text>"}`; last
`{"candlewire_tape_end":1,...}` with the name of the next part or the digest of the whole recording
(market/tape_lines.py). A long recording has several parts: a.tape.zst, a.0002.tape.zst, ...
What was flushed can be read whatever happens to the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import msgspec
import zstandard

from market.tape_lines import TapeEnd
from runtime.clock import Clock

EXTENSION: Final = ".tape.zst"
LEVEL: Final = 6
#: Kept free for the last line of the recording.
END_RESERVE_BYTES: Final = 1024


class TapeHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of each part."""

    candlewire_tape: int = 1
    started_at_ms: int
    exchange: str
    symbols: Sequence[str]
    streams: Sequence[str]
    part: int = 1


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


@dataclass(frozen=True)
class TapeLimits:
    """Most bytes on disk of all parts together, and when a part is followed by the next."""

    max_bytes: int
    part_bytes: int
    part_s: float


def part_path(path: Path, part: int) -> Path:
    """The file of the part; the first has the name of the recording."""
    name = path.name.removesuffix(EXTENSION)
    return path if part == 1 else path.with_name(f"{name}.{part:04d}{EXTENSION}")


class TapeWriter:
    """Writes one recording, never over a file that is there. A disk that takes no more ends it (`problem`)."""

    def __init__(self, path: Path, header: TapeHeader, limits: TapeLimits, clock: Clock) -> None:
        """Opens the first part. Raises OSError when it cannot be made."""
        self._path, self._header, self._limits, self._clock = path, header, limits, clock
        self._encoder = msgspec.json.Encoder()
        self._bytes_before = 0
        self._unflushed_bytes = 0
        self.frames = 0
        self.problem = ""
        self.files: list[Path] = []
        self._open()

    def __enter__(self) -> TapeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def byte_count(self) -> int:
        """Bytes on disk of all parts."""
        return self._bytes_before + self._file_bytes

    @property
    def is_full(self) -> bool:
        """True when the bound is reached or the disk takes no more: nothing more is written."""
        return bool(self.problem)

    def frame(self, frame: TapeFrame) -> None:
        """Append a frame, unless the tape is full."""
        if self._line(frame):
            self.frames += 1

    def answer(self, answer: TapeAnswer) -> None:
        """Append a REST answer, unless the tape is full."""
        self._line(answer)

    def flush(self, *, rotate: bool = False) -> None:
        """Hand everything to the system, and go on to the next part when this one is large or old enough, or when
        told to (`rotate`)."""
        if self.is_full:
            return
        try:
            self._flush(zstandard.FLUSH_BLOCK)
            age_s = self._clock.monotonic_s() - self._opened_s
            if rotate or self._file_bytes >= self._limits.part_bytes or age_s >= self._limits.part_s:
                self._next_part()
        except OSError as error:
            self.problem = f"the disk takes no more: {error.strerror or error}"

    def finish(self, digest: str) -> None:
        """The last line, with the digest of the whole recording; none when the next part could not be made."""
        if self._file.closed:
            return
        try:
            self._end(TapeEnd(digest=digest, frames=self.frames))
        except OSError as error:
            self.problem = f"the disk takes no more: {error.strerror or error}"

    def _line(self, line: TapeFrame | TapeAnswer) -> bool:
        if self.is_full:
            return False
        encoded = self._encoder.encode(line) + b"\n"
        try:
            if self._would_overflow(len(encoded)):
                self._flush(zstandard.FLUSH_BLOCK)
                if self._would_overflow(len(encoded)):
                    self.problem = f"the bound of {self._limits.max_bytes} bytes is reached"
                    return False
            self._write(encoded)
        except OSError as error:
            self.problem = f"the disk takes no more: {error.strerror or error}"
            return False
        return True

    def _would_overflow(self, size: int) -> bool:
        """Judged as if nothing that waits could be compressed."""
        return self.byte_count + self._unflushed_bytes + size + END_RESERVE_BYTES > self._limits.max_bytes

    def _write(self, encoded: bytes) -> None:
        self._writer.write(encoded)
        self._unflushed_bytes += len(encoded)

    def _flush(self, mode: int) -> None:
        self._writer.flush(mode)
        self._file_bytes = self._file.tell()
        self._unflushed_bytes = 0

    def _open(self) -> None:
        part = len(self.files) + 1
        path = part_path(self._path, part)
        self._file: BinaryIO = path.open("xb", buffering=0)
        self.files.append(path)
        self._file_bytes, self._unflushed_bytes = 0, 0
        self._opened_s = self._clock.monotonic_s()
        self._writer: zstandard.ZstdCompressionWriter = zstandard.ZstdCompressor(
            level=LEVEL, write_checksum=True
        ).stream_writer(self._file)
        self._write(self._encoder.encode(msgspec.structs.replace(self._header, part=part)) + b"\n")
        self._flush(zstandard.FLUSH_BLOCK)

    def _next_part(self) -> None:
        self._end(TapeEnd(next=part_path(self._path, len(self.files) + 1).name, frames=self.frames))
        self._file.close()
        self._bytes_before += self._file_bytes
        self._open()

    def _end(self, end: TapeEnd) -> None:
        self._write(self._encoder.encode(end) + b"\n")
        self._flush(zstandard.FLUSH_FRAME)
