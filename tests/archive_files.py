"""Klines as files of the exchange's public archive."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterable
from pathlib import Path

from market.kline import Kline

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def archive_line(kline: Kline, unit: int = 1) -> str:
    """The line of a kline; `unit` 1000: in microseconds."""
    k = kline
    values = [k.open_time_ms * unit, k.open, k.high, k.low, k.close, k.base_volume, (k.close_time_ms + 1) * unit - 1]
    values += [k.quote_volume, k.trade_count, k.taker_buy_base_volume, k.taker_buy_quote_volume, 0]
    return ",".join(map(str, values)) + "\n"


def write_archive(path: Path, klines: Iterable[Kline], unit: int = 1, header: str = "") -> Path:
    """A .csv, .csv.gz or .zip of them. The path."""
    data = (header + "".join(archive_line(kline, unit) for kline in klines)).encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.csv", data)
    else:
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
