"""Recorded traffic as the player wants it: each message with its stream, its data and when it was received."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from market.errors import BadFrame
from market.tape_lines import MICROSECONDS_FROM, TapedAnswer, TapedFrame
from runtime.tape_file import TapeError, TapeFile

__all__ = ["MICROSECONDS_FROM", "Tape", "TapeError", "TapeLine", "event_time_ms"]

_decode = msgspec.json.Decoder().decode


class TapeLine(NamedTuple):
    """One recorded message. `stream` is "" for a REST answer; `symbol` is set for a REST depth answer."""

    received_ms: float
    stream: str
    data: dict[str, Any]
    symbol: str


class Tape:
    """A file of recorded traffic. Iterating it again reads it again; `cut_at_line` tells of a cut file."""

    def __init__(self, path: Path) -> None:
        """Raises TapeError when the file cannot be played at all."""
        self.path = path
        self.cut_at_line: int | None = None
        self.lines_read = 0
        try:
            self._file = TapeFile(path)
        except TapeError as error:
            raise TapeError(f"TAPE {error}") from None
        self.format = self._file.format

    def __iter__(self) -> Iterator[TapeLine]:
        """The messages in recorded order. A cut file ends at the cut, a line nobody can read is the cut."""
        self.cut_at_line = None
        try:
            for raw in self._file:
                line = _line(self._file.parse(raw))
                if line is not None:
                    yield line
            self.cut_at_line = self._file.cut_at_line
        except (BadFrame, msgspec.DecodeError, KeyError, ValueError):
            self.cut_at_line = self._file.lines_read
        self.lines_read = self._file.lines_read


def event_time_ms(data: dict[str, Any]) -> float | None:
    """The exchange's event time of a message, None where it carries none."""
    value = data.get("E")
    if not isinstance(value, int):
        return None
    return value / 1000 if value >= MICROSECONDS_FROM else float(value)


def _line(taped: TapedFrame | TapedAnswer | None) -> TapeLine | None:
    if isinstance(taped, TapedFrame):
        return _frame(taped)
    return _rest(taped) if taped is not None else None


def _frame(taped: TapedFrame) -> TapeLine | None:
    message = _decode(taped.frame)
    if not isinstance(message, dict):
        raise BadFrame("a recorded message must be an object")
    if "stream" not in message:
        return None  # answers to control messages
    stream, data = str(message["stream"]), message["data"]
    if not isinstance(data, dict):
        return None
    received_ms = taped.received_ms if taped.received_ms is not None else event_time_ms(data)
    return None if received_ms is None else TapeLine(received_ms, stream, data, "")


def _rest(taped: TapedAnswer) -> TapeLine | None:
    if not taped.address:  # recorded without its address: a depth answer
        return TapeLine(taped.received_ms, "", _decode(taped.body), "")
    parts = urlsplit(taped.address)
    symbol = parse_qs(parts.query).get("symbol", [""])[0]
    if not parts.path.endswith("/depth") or not symbol:
        return None
    return TapeLine(taped.received_ms, "", _decode(taped.body), symbol)
