"""Files of recorded traffic, line by line: zstd, gzip or plain; a file that was cut is read up to the cut.

A recording of several parts is read as one: the last line of a part names the file that goes on.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec
import zstandard

from market.errors import BadFrame
from market.tape_lines import OWN, Parser, TapeEnd, end_of, parser_of, streams_of

LINE_MAX_BYTES: Final = 16_000_000
#: Small, so that of a damaged file little is lost before the damage.
CHUNK_BYTES: Final = 8_192
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31


class TapeError(ValueError):
    """The file cannot be read as a tape at all; the message says why."""


class _Cut(Exception):
    """What can be read ends here, before the file says that it ends."""


class _Decompressor(Protocol):
    """What zlib and zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class TapeFile:
    """Iterating it again reads it again. `cut_at_line` is the first line that is missing, None for a whole tape;
    `end` is what the last line of an own tape says, `streams` what it was recorded from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_at_line: int | None = None
        self.lines_read = 0
        self.end: TapeEnd | None = None
        try:
            first = next(self._lines_of(path), b"")
        except _Cut:
            raise TapeError(f"{path} is cut before the end of its first line") from None
        except OSError as error:
            raise TapeError(f"{path} cannot be read: {error.strerror or error}") from None
        if not first.strip():
            raise TapeError(f"{path} is empty")
        try:
            parser, self.format = parser_of(first)
            self.streams = streams_of(first)
        except BadFrame as error:
            raise TapeError(f"{path}: {error}") from None
        self.parse: Parser = parser

    def __iter__(self) -> Iterator[bytes]:
        """The lines in recorded order, without their ends."""
        self.lines_read, self.cut_at_line, self.end = 0, None, None
        path: Path | None = self.path
        read: set[Path] = set()
        try:
            while path is not None:
                if path in read:
                    raise _Cut
                read.add(path)
                self.end = None
                for line in self._lines_of(path):
                    self.lines_read += 1
                    if self.format == OWN and (end := end_of(line)) is not None:
                        self.end = end
                        continue
                    yield line
                if self.format == OWN and self.end is None:
                    raise _Cut
                path = path.with_name(Path(self.end.next).name) if self.end and self.end.next else None
        except (_Cut, OSError, BadFrame, ValueError):  # ValueError: what is named next is no name of a file
            self.cut_at_line, self.end = self.lines_read + 1, None

    def _lines_of(self, path: Path) -> Iterator[bytes]:
        """Lines of one file. Raises _Cut after the last one that is whole."""
        rest = b""
        for chunk in _chunks(path):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.rstrip(b"\r") for line in lines)
            if len(rest) > LINE_MAX_BYTES:
                raise _Cut
        if rest:  # the last line of a plain file may lack its end
            if not _is_whole(rest):
                raise _Cut
            yield rest


def _is_whole(line: bytes) -> bool:
    """Whether a line without its end has come to the end of its JSON. Our own lines always have an end."""
    start = min((at for at in (line.find(b"{"), line.find(b"[")) if at >= 0), default=len(line))
    try:
        msgspec.json.decode(line[start:], type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return b'"received_at_ms"' not in line


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        chunk = file.read(CHUNK_BYTES)
        if not chunk.startswith((_ZSTD_MAGIC, _GZIP_MAGIC)):
            while chunk:
                yield chunk
                chunk = file.read(CHUNK_BYTES)
            return
        is_zstd = chunk.startswith(_ZSTD_MAGIC)
        decompressor = _decompressor(is_zstd)
        while chunk:
            if decompressor.eof:  # another frame or member follows
                decompressor = _decompressor(is_zstd)
            try:
                yield decompressor.decompress(chunk)
            except (zstandard.ZstdError, zlib.error):
                raise _Cut from None
            chunk = decompressor.unused_data if decompressor.eof else b""
            chunk = chunk or file.read(CHUNK_BYTES)
        if not decompressor.eof:
            raise _Cut


def _decompressor(is_zstd: bool) -> _Decompressor:
    return zstandard.ZstdDecompressor().decompressobj() if is_zstd else zlib.decompressobj(_GZIP_WINDOW)
