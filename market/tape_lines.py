"""The lines of recorded traffic: our own recorder's format and three that others publish. Pure; files are opened
by runtime/tape_file.py.

own         first line {"candlewire_tape":1,...}, then {"received_at_ms","connection","frame"} with the raw text of
            a combined frame, or {"received_at_ms","rest","body"} with a REST answer; last line
            {"candlewire_tape_end":1,...}, which a tape that was cut lacks
hftbacktest `<receive time ns> <combined frame or bare REST depth answer>`
cryptofeed  `<receive time s>: <combined frame>`, `wss://... <-> <time>`, `https://...symbol=X... -> <time>: <answer>`
jsonl       one combined frame a line, without a receive time: its event time stands in
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from market.errors import BadFrame

MICROSECONDS_FROM: Final = 10**14
OWN: Final = "own"
_NANOSECONDS_LINE: Final = re.compile(rb"^\d{16,19} \{")
_SECONDS_LINE: Final = re.compile(rb"^(\d{9,11}(?:\.\d+)?): (.*)$")
_REST_LINE: Final = re.compile(rb"^(https?://\S+) -> (\d+(?:\.\d+)?): (.*)$")
_NOT_DATA: Final = (b"wss://", b"ws://", b"configuration:")


class TapedFrame(msgspec.Struct, frozen=True):
    """One recorded WebSocket frame. `received_ms` is None where the format keeps no receive time."""

    received_ms: float | None
    connection: str
    frame: bytes


class TapedAnswer(msgspec.Struct, frozen=True):
    """One recorded REST answer; `address` is its path and query (or whole URL), "" where it was not kept."""

    received_ms: float
    address: str
    body: bytes


TapeLine = TapedFrame | TapedAnswer | None
Parser = Callable[[bytes], TapeLine]


class TapeEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last line of a part of an own tape: the name of the file that goes on, or what the whole recording says."""

    candlewire_tape_end: int = 1
    next: str | None = None
    digest: str | None = None
    frames: int = 0


class _Header(msgspec.Struct, frozen=True):
    streams: tuple[str, ...] = ()


class _OwnLine(msgspec.Struct, frozen=True):
    received_at_ms: int = 0
    connection: str = ""
    frame: str | None = None
    rest: str | None = None
    body: str = ""


class _EventTime(msgspec.Struct, frozen=True):
    event_time: int | None = msgspec.field(name="E", default=None)


_header = msgspec.json.Decoder(_Header)
_own = msgspec.json.Decoder(_OwnLine)
_end = msgspec.json.Decoder(TapeEnd)
_event_time = msgspec.json.Decoder(_EventTime)


def parser_of(first_line: bytes) -> tuple[Parser, str]:
    """How to read the lines of the tape that begins so, and the name of the format. Raises BadFrame."""
    if b'"candlewire_tape"' in first_line:
        return _own_line, OWN
    if _NANOSECONDS_LINE.match(first_line):
        return _nanoseconds_line, "hftbacktest"
    line = first_line.strip()
    if line.startswith(_NOT_DATA) or _SECONDS_LINE.match(line) or _REST_LINE.match(line):
        return _seconds_line, "cryptofeed"
    if line.startswith(b'{"stream":'):
        return _bare_line, "jsonl"
    raise BadFrame(f"no known format of recorded traffic (the first line begins with {first_line[:40]!r})")


def streams_of(first_line: bytes) -> tuple[str, ...]:
    """The streams that an own tape was asked for; none for other formats. Raises BadFrame."""
    if b'"candlewire_tape"' not in first_line:
        return ()
    try:
        return _header.decode(first_line).streams
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad first line of a tape: {error}") from error


def end_of(line: bytes) -> TapeEnd | None:
    """What the last line of a part says; None for any other line. Raises BadFrame when it cannot be read."""
    if not line.startswith(b'{"candlewire_tape_end"'):
        return None
    try:
        return _end.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad end of a tape: {error}") from error


def milliseconds(value: int) -> int:
    """A time in ms, given in ms or in microseconds."""
    return value // 1000 if value >= MICROSECONDS_FROM else value


def event_time_of(payload: bytes | msgspec.Raw) -> int | None:
    """The exchange's event time of a message in ms, None where it carries none. Raises BadFrame."""
    try:
        value = _event_time.decode(payload).event_time
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad payload: {error}") from error
    return None if value is None else milliseconds(value)


def _own_line(raw: bytes) -> TapeLine:
    try:
        line = _own.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"not a line of a tape: {error}") from error
    if line.frame is not None:
        return TapedFrame(float(line.received_at_ms), line.connection, line.frame.encode())
    if line.rest is not None:
        return TapedAnswer(float(line.received_at_ms), line.rest, line.body.encode())
    return None  # the header of a part


def _nanoseconds_line(raw: bytes) -> TapeLine:
    time, _, text = raw.partition(b" ")
    if not time.isdigit():
        raise BadFrame("not a line of this format: no receive time")
    received_ms = int(time) / 1_000_000
    if text.startswith(b'{"lastUpdateId"'):
        return TapedAnswer(received_ms, "", text)
    return TapedFrame(received_ms, "", text)


def _seconds_line(raw: bytes) -> TapeLine:
    match = _SECONDS_LINE.match(raw)
    if match is not None:
        return TapedFrame(float(match[1]) * 1000, "", match[2])
    match = _REST_LINE.match(raw)
    if match is not None:
        return TapedAnswer(float(match[2]) * 1000, match[1].decode("utf-8", "replace"), match[3])
    if raw.startswith(_NOT_DATA) or not raw:
        return None
    raise BadFrame("not a line of this format")


def _bare_line(raw: bytes) -> TapeLine:
    return TapedFrame(None, "", raw) if raw else None
