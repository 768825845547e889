"""One short text that says whether two accounts of the same time are the same: `v1:sha256:<64 hex digits>`.

Version 1. For each symbol, in order of its name, and for each section of it, in the order 1s, 1m, 5m, 15m, 1h, 4h,
1d, gap, the lines of the section in order of time:

    1s <open_ms> <open> <high> <low> <close> <base> <quote> <count> <taker base> <taker quote> <first id> <last id>
    <interval> <open_ms> <the same values> <row_count>
    gap <from_ms> <to_ms>

- 1s: the closed 1 s klines; candles: rolled up from them, those at the edges from what there is of them; gap: seconds
  without a row between the first and the last row, as the longest ranges, ends exclusive.
- Numbers are decimal without exponent and without zeros at the end (`0.10` is `0.1`, `-0` does not occur); an id that
  is not known is `-`. Fields are parted by one blank, each line ends with a line feed, ASCII.
- A section without lines is left out. The digest is the SHA-256 of the lines `<symbol> <section> <lines> <hex>`,
  where hex is the SHA-256 of the section's lines.

So it does not depend on receive times, order of arrival, doubles, causes of gaps, or where the values came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from market.feed import GapCause
from market.interval import STORED_INTERVALS, Interval
from market.kline import VALUE_COLUMNS, Candle, Kline, Source

VERSION: Final = "v1"
GAP: Final = "gap"
SECTIONS: Final = (Interval.S1.value, *(interval.value for interval in STORED_INTERVALS), GAP)


class Second(msgspec.Struct, frozen=True):
    """A closed 1 s kline and where it comes from (stream or trades)."""

    kline: Kline
    source: Source


class Hole(msgspec.Struct, frozen=True):
    """Seconds [from, to) between rows that have none."""

    symbol: str
    from_ms: int
    to_ms: int
    cause: GapCause


Fact = Second | Candle | Hole


def decimal_text(value: Decimal | int | None) -> str:
    """The number as the digest writes it."""
    if value is None:
        return "-"
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text


class Digest:
    """Takes rows, candles and gaps; of each symbol and section in order of time. Holds no lines."""

    def __init__(self) -> None:
        self._sections: dict[tuple[str, str], _Section] = {}
        #: the last gap of each symbol: the next one may join it
        self._gaps: dict[str, tuple[int, int]] = {}

    def take(self, facts: Iterable[Fact]) -> None:
        """Several facts."""
        for fact in facts:
            self.fact(fact)

    def fact(self, fact: Fact) -> None:
        """A fact of any kind. Raises ValueError when it is out of order."""
        if isinstance(fact, Second):
            self.row(fact.kline)
        elif isinstance(fact, Candle):
            self.candle(fact)
        else:
            self.gap(fact.symbol, fact.from_ms, fact.to_ms)

    def row(self, kline: Kline) -> None:
        """A closed 1 s kline. Raises ValueError when it is out of order."""
        self._bar(kline, "")

    def candle(self, candle: Candle) -> None:
        """A candle. Raises ValueError when it is out of order."""
        self._bar(candle, f" {candle.row_count}")

    def gap(self, symbol: str, from_ms: int, to_ms: int) -> None:
        """Seconds [from, to) without a row. Raises ValueError when it is out of order."""
        held = self._gaps.get(symbol)
        if held is not None:
            if held[1] == from_ms:
                from_ms = held[0]
            else:
                self._section(symbol, GAP).add(held[0], _gap_line(held))
        self._gaps[symbol] = (from_ms, to_ms)

    def sections(self) -> dict[tuple[str, str], str]:
        """Per (symbol, section), in the order of the digest: number of lines and their hash, as in the digest."""
        found: dict[tuple[str, str], str] = {}
        for symbol in sorted({symbol for symbol, _ in self._sections} | self._gaps.keys()):
            for name in SECTIONS:
                section = self._sections.get((symbol, name))
                section = section.copy() if section is not None else _Section()
                if name == GAP and symbol in self._gaps:
                    section.add(self._gaps[symbol][0], _gap_line(self._gaps[symbol]))
                if section.lines:
                    found[symbol, name] = f"{section.lines} {section.hash.hexdigest()}"
        return found

    def text(self) -> str:
        """The digest of all that was taken until now."""
        lines = "".join(f"{symbol} {name} {summary}\n" for (symbol, name), summary in self.sections().items())
        return f"{VERSION}:sha256:{hashlib.sha256(lines.encode()).hexdigest()}"

    def _bar(self, bar: Kline | Candle, end: str) -> None:
        values = " ".join(decimal_text(getattr(bar, name)) for name in VALUE_COLUMNS)
        ids = f"{decimal_text(bar.first_trade_id)} {decimal_text(bar.last_trade_id)}"
        line = f"{bar.interval.value} {bar.open_time_ms} {values} {ids}{end}\n"
        self._section(bar.symbol, bar.interval.value).add(bar.open_time_ms, line)

    def _section(self, symbol: str, name: str) -> _Section:
        return self._sections.setdefault((symbol, name), _Section())


class _Section:
    """The running hash of one section."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.lines = 0
        self._newest_ms = -1

    def add(self, time_ms: int, line: str) -> None:
        if time_ms <= self._newest_ms:
            raise ValueError(f"out of order after {self._newest_ms}: {line.rstrip()}")
        self._newest_ms = time_ms
        self.lines += 1
        self.hash.update(line.encode("ascii"))

    def copy(self) -> _Section:
        other = _Section()
        other.hash, other.lines, other._newest_ms = self.hash.copy(), self.lines, self._newest_ms
        return other


def _gap_line(gap: tuple[int, int]) -> str:
    return f"{GAP} {gap[0]} {gap[1]}\n"
