"""Klines in the layout of the exchange's public archive (binance.md 10): 12 columns without a header, times as numbers,
one zip a day (a month for bars longer than a day) with its checksum beside it, so that existing loaders read them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from market.interval import DAY_MS
from market.odd_intervals import MONTH, grid_of
from runtime.time_text import iso
from webapp.export.tables import Column, Kind
from webapp.selectors import ms

#: Since 2025-01-01 the files have microseconds.
MICROSECONDS_FROM_MS: Final = 1_735_689_600_000
#: Of every file in a zip, so that the same rows give the same bytes.
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


class Unit(StrEnum):
    """Unit of the times in a file; AUTO: as the exchange has it for that day."""

    AUTO = "auto"
    MS = "ms"
    US = "us"

    def at(self, open_ms: int) -> Unit:
        """MS or US, for a file that begins at this time."""
        if self is not Unit.AUTO:
            return self
        return Unit.US if open_ms >= MICROSECONDS_FROM_MS else Unit.MS


def columns(unit: Unit) -> tuple[Column, ...]:
    """The 12 columns; decimals with eight places, as the exchange writes them."""
    factor = 1000 if unit is Unit.US else 1
    amounts = {name: Column(name, Kind.DECIMAL, f"round({name}, 8)") for name in _AMOUNTS}
    return (
        Column("open_time", Kind.NUMBER, f"{ms('open_time')} * {factor}"),
        *(amounts[name] for name in _AMOUNTS[:5]),
        Column("close_time", Kind.NUMBER, f"({ms('close_time')} + 1) * {factor} - 1"),
        amounts["quote_volume"],
        Column("trade_count", Kind.NUMBER),
        amounts["taker_buy_base_volume"],
        amounts["taker_buy_quote_volume"],
        Column("ignore", Kind.NUMBER, "0"),
    )


_AMOUNTS: Final = (
    "open", "high", "low", "close", "base_volume", "quote_volume", "taker_buy_base_volume", "taker_buy_quote_volume",
)  # fmt: skip


@dataclass(frozen=True)
class Period:
    """One file: its name without suffix, and its open times from `start_ms` to `end_ms` (exclusive)."""

    stem: str
    start_ms: int
    end_ms: int


def periods(symbol: str, interval: str, start_ms: int, end_ms: int) -> Iterator[Period]:
    """The files of a range: UTC days, or months for bars longer than a day. The archive writes 1M as 1mo."""
    grid = grid_of(interval)
    is_daily = grid.step(0, 1) <= DAY_MS
    files = grid_of("1d" if is_daily else MONTH)
    name = "1mo" if interval == MONTH else interval
    for open_ms in files.opens(files.floor(start_ms), end_ms):
        day = iso(open_ms)[: 10 if is_daily else 7]
        yield Period(f"{symbol}-{name}-{day}", max(start_ms, open_ms), min(end_ms, files.step(open_ms, 1)))


def write_zip(directory: Path, stem: str, lines: Iterable[bytes]) -> tuple[Path, str]:
    """STEM.zip with STEM.csv in it and STEM.zip.CHECKSUM, in place when they are whole. The file and its SHA-256."""
    path = directory / f"{stem}.zip"
    partial = path.with_suffix(".zip.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(f"{stem}.csv", _ZIP_TIME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=True) as file:
            for piece in lines:
                file.write(piece)
    with partial.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    partial.replace(path)
    path.with_suffix(".zip.CHECKSUM").write_text(f"{sha256}  {path.name}\n", "utf-8")
    return path, sha256
