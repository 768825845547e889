"""Reading recorded traffic: our own recorder's files and three formats that others publish.

own         first line {"candlewire_tape":1,...}, then {"received_at_ms","connection","frame"} with the raw text of
            a combined frame, or {"received_at_ms","rest","body"} with a REST answer; zstd, gzip or plain
hftbacktest `<receive time ns> <combined frame or bare REST depth answer>`
cryptofeed  `<receive time s>: <combined frame>`, `wss://... <-> <time>`, `https://...symbol=X... -> <time>: <answer>`
jsonl       one combined frame a line, without a receive time: its event time stands in
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec
import zstandard

LINE_MAX_BYTES: Final = 16_000_000
MICROSECONDS_FROM: Final = 10**14
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_NANOSECONDS_LINE: Final = re.compile(rb"^\d{16,19} \{")
_SECONDS_LINE: Final = re.compile(rb"^(\d{9,11}(?:\.\d+)?): (\{.*)$")
_REST_LINE: Final = re.compile(rb"^(https?://\S+) -> (\d+(?:\.\d+)?): (.*)$")
_NOT_DATA: Final = (b"wss://", b"ws://", b"configuration:")

_decode = msgspec.json.Decoder().decode


class TapeError(ValueError):
    """The file cannot be played at all; the message says why."""


class TapeLine(NamedTuple):
    """One recorded message. `stream` is "" for a REST answer; `symbol` is set for a REST depth answer."""

    received_ms: float
    stream: str
    data: dict[str, Any]
    symbol: str


class Tape:
    """A file of recorded traffic. Iterating it again reads it again; `cut_at_line` tells of a cut file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_at_line: int | None = None
        self.lines_read = 0
        try:
            with self._open() as file:
                first = file.readline(LINE_MAX_BYTES)
        except (OSError, EOFError, zstandard.ZstdError) as error:
            raise TapeError(f"TAPE {path} cannot be read: {error}") from None
        self._parse, self.format = _parser_of(first, path)

    def __iter__(self) -> Iterator[TapeLine]:
        """The messages in recorded order. A cut file ends at the cut, a line nobody can read is the cut."""
        number = 0
        self.cut_at_line = None
        try:
            with self._open() as file:
                while raw := file.readline(LINE_MAX_BYTES):
                    number += 1
                    line = self._parse(raw.rstrip(b"\r\n"))
                    if line is not None:
                        yield line
        except (EOFError, OSError, zstandard.ZstdError, msgspec.DecodeError, KeyError, ValueError):
            self.cut_at_line = number + 1
        self.lines_read = number

    def _open(self) -> io.BufferedReader:
        with self.path.open("rb") as file:
            magic = file.read(4)
        if magic.startswith(_GZIP_MAGIC):
            return io.BufferedReader(gzip.GzipFile(self.path, "rb"))
        raw = self.path.open("rb")
        if magic == _ZSTD_MAGIC:
            return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        return raw


def event_time_ms(data: dict[str, Any]) -> float | None:
    """The exchange's event time of a message, None where it carries none."""
    value = data.get("E")
    if not isinstance(value, int):
        return None
    return value / 1000 if value >= MICROSECONDS_FROM else float(value)


def _parser_of(first: bytes, path: Path) -> tuple[Callable[[bytes], TapeLine | None], str]:
    if not first.strip():
        raise TapeError(f"TAPE {path} is empty")
    if b'"candlewire_tape"' in first:
        return _own_line, "own"
    if _NANOSECONDS_LINE.match(first):
        return _nanoseconds_line, "hftbacktest"
    if first.startswith(_NOT_DATA) or _SECONDS_LINE.match(first.strip()) or _REST_LINE.match(first.strip()):
        return _seconds_line, "cryptofeed"
    if first.startswith(b'{"stream":'):
        return _bare_line, "jsonl"
    raise TapeError(f"TAPE {path} is in no known format (its first line begins with {first[:40]!r})")


def _frame(received_ms: float | None, text: str | bytes) -> TapeLine | None:
    message = _decode(text)
    if not isinstance(message, dict):
        raise ValueError("a recorded message must be an object")
    if "stream" in message:
        stream, data = str(message["stream"]), message["data"]
        if not isinstance(data, dict):
            return None
        if received_ms is None:
            received_ms = event_time_ms(data)
        return None if received_ms is None else TapeLine(received_ms, stream, data, "")
    if "lastUpdateId" in message and received_ms is not None:
        return TapeLine(received_ms, "", message, "")
    return None  # answers to control messages


def _own_line(raw: bytes) -> TapeLine | None:
    entry = _decode(raw)
    if "frame" in entry:
        return _frame(float(entry["received_at_ms"]), entry["frame"])
    if "rest" in entry:
        return _rest(float(entry["received_at_ms"]), entry["rest"], entry["body"])
    return None


def _nanoseconds_line(raw: bytes) -> TapeLine | None:
    time, _, text = raw.partition(b" ")
    return _frame(int(time) / 1_000_000, text)


def _seconds_line(raw: bytes) -> TapeLine | None:
    match = _SECONDS_LINE.match(raw)
    if match is not None:
        return _frame(float(match[1]) * 1000, match[2])
    match = _REST_LINE.match(raw)
    if match is not None:
        return _rest(float(match[2]) * 1000, match[1].decode(), match[3])
    if raw.startswith(_NOT_DATA) or not raw:
        return None
    raise ValueError("not a line of this format")


def _bare_line(raw: bytes) -> TapeLine | None:
    return _frame(None, raw)


def _rest(received_ms: float, address: str, body: str | bytes) -> TapeLine | None:
    parts = urlsplit(address)
    symbol = parse_qs(parts.query).get("symbol", [""])[0]
    if not parts.path.endswith("/depth") or not symbol:
        return None
    return TapeLine(received_ms, "", _decode(body), symbol)
