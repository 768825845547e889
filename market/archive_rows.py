"""Lines of the exchange's published kline files as klines (binance.md 10).

Twelve columns: open time, open, high, low, close, base volume, close time, quote volume, trades, taker buy base volume,
taker buy quote volume, unused. Times are ms, or us in newer files, one unit a file. Some files begin with a header.
Pure; a file is taken or refused as a whole: one line that cannot be makes the others doubtful too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

from market.errors import BadFrame, MarketError, UnknownInterval
from market.interval import Interval
from market.kline import Kline, require_sane_kline
from market.symbol import parse_symbol

COLUMNS: Final = 12
#: Larger numbers are microseconds (the year 5138 in milliseconds).
MICROSECONDS_FROM: Final = 10**14
#: A month of 1 s klines has 2,678,400 lines.
MAX_LINES: Final = 3_000_000
MAX_LINE_CHARS: Final = 1_000
_FIRST_NAME: Final = "open_time"
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")
_NAMES: Final = (
    "open time", "open", "high", "low", "close", "volume", "close time", "quote volume", "trades",
    "taker buy volume", "taker buy quote volume", "last column",
)  # fmt: skip
_FILE_NAME: Final = re.compile(r"([^-/]+)-([0-9]+[a-zA-Z]+)-[0-9]{4}-[0-9]{2}(-[0-9]{2})?\b.*")


class BadArchive(MarketError):
    """A file that cannot be taken; says in which line, counted from 1, and why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


def named(file_name: str) -> tuple[str, str] | None:
    """Symbol and interval of SYMBOL-INTERVAL-YYYY-MM[-DD].*; None for another name."""
    match = _FILE_NAME.fullmatch(file_name)
    return None if match is None else (parse_symbol(match[1]), match[2])


def stored_interval(text: str) -> Interval:
    """The interval of a file. Raises UnknownInterval for one that is not stored."""
    try:
        return Interval.parse(text)
    except UnknownInterval:
        allowed = ", ".join(Interval)
        raise UnknownInterval(f"klines of {text!r} are not stored; allowed (case-sensitive): {allowed}") from None


def archive_klines(lines: Iterable[str], symbol: str, interval: Interval, now_ms: int) -> Iterator[Kline]:
    """The klines of a file, oldest first; `now_ms`: nothing that ends later can be in it.

    Trade ids are not in these files: -1. Raises BadArchive with the first thing wrong: columns, numbers, mixed units,
    off the grid, no sane kline, doubles, out of order, from the future.
    """
    unit, last_ms, number = 0, -1, 0
    for number, line in enumerate(lines, 1):
        if number > MAX_LINES:
            raise BadArchive(number, f"more than {MAX_LINES} lines")
        cells = _cells(line, number)
        if number == 1 and cells[0] == _FIRST_NAME:
            continue
        found = _kline(cells, number, symbol, interval)
        if unit not in (0, found[0]):
            raise BadArchive(number, "times in another unit than in the lines before")
        unit, kline = found
        if kline.open_time_ms <= last_ms:
            what = "a double" if kline.open_time_ms == last_ms else "out of order"
            raise BadArchive(number, f"{what}: open time {cells[0]}")
        if kline.close_time_ms >= now_ms:
            raise BadArchive(number, f"from the future: closes at {kline.close_time_ms}, it is {now_ms}")
        last_ms = kline.open_time_ms
        yield kline
    if last_ms < 0:
        raise BadArchive(max(1, number), "no klines in the file")


def _cells(line: str, number: int) -> list[str]:
    if len(line) > MAX_LINE_CHARS:
        raise BadArchive(number, f"longer than {MAX_LINE_CHARS} characters")
    cells = line.rstrip("\r\n").split(",")
    if len(cells) != COLUMNS:
        raise BadArchive(number, f"{len(cells)} columns, {COLUMNS} expected")
    return cells


def _kline(cells: list[str], number: int, symbol: str, interval: Interval) -> tuple[int, Kline]:
    """Unit (how many of it are a ms) and kline of a line."""
    for name, cell, pattern in zip(_NAMES[:-1], cells, _PATTERNS, strict=False):
        if not pattern.fullmatch(cell):
            raise BadArchive(number, f"{name} {cell[:40]!r} is not a number")
    open_time, close_time = int(cells[0]), int(cells[6])
    unit = 1000 if open_time >= MICROSECONDS_FROM else 1
    open_ms = open_time // unit
    if close_time != (interval.close_time(open_ms) + 1) * unit - 1 or open_time % unit:
        raise BadArchive(number, f"close time {close_time} is not open time {open_time} + {interval} - 1")
    kline = Kline(
        symbol=symbol,
        interval=interval,
        open_time_ms=open_ms,
        close_time_ms=interval.close_time(open_ms),
        open=Decimal(cells[1]),
        high=Decimal(cells[2]),
        low=Decimal(cells[3]),
        close=Decimal(cells[4]),
        base_volume=Decimal(cells[5]),
        quote_volume=Decimal(cells[7]),
        trade_count=int(cells[8]),
        taker_buy_base_volume=Decimal(cells[9]),
        taker_buy_quote_volume=Decimal(cells[10]),
        first_trade_id=-1,
        last_trade_id=-1,
        is_closed=True,
        event_time_ms=interval.close_time(open_ms),
    )
    try:
        require_sane_kline(kline)
    except BadFrame as error:
        raise BadArchive(number, str(error)) from None
    if kline.taker_buy_base_volume > kline.base_volume or kline.taker_buy_quote_volume > kline.quote_volume:
        raise BadArchive(number, "takers bought more than was traded")
    return unit, kline


_PATTERNS: Final = tuple(_WHOLE if name in ("open time", "close time", "trades") else _DECIMAL for name in _NAMES)
