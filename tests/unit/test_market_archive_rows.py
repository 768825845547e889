"""Lines of published kline files: what is taken, and the line and reason of what is not."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.archive_rows import BadArchive, archive_klines, named, stored_interval
from market.errors import UnknownInterval
from market.interval import Interval
from market.kline import VALUE_COLUMNS, Kline
from tests.archive_files import HEADER, archive_line
from tests.klines_of import seconds_of

NOW_MS = 1_800_000_000_000
START_MS = 1_709_251_200_000


def parsed(lines: list[str], interval: Interval = Interval.S1) -> list[Kline]:
    return list(archive_klines(lines, "BTCUSDT", interval, NOW_MS))


def values_of(kline: Kline) -> tuple[object, ...]:
    return (kline.open_time_ms, *(getattr(kline, name) for name in VALUE_COLUMNS))


@given(st.integers(1, 50), st.sampled_from([1, 1000]), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read_to_the_last_digit(count: int, unit: int, has_header: bool, end: str) -> None:
    klines = seconds_of("BTCUSDT", START_MS, count)
    lines = [archive_line(kline, unit).replace("\n", end) for kline in klines]
    found = parsed([HEADER + end, *lines] if has_header else lines)
    assert [values_of(kline) for kline in found] == [values_of(kline) for kline in klines]
    assert [kline.close_time_ms for kline in found] == [kline.close_time_ms for kline in klines]


@pytest.mark.parametrize(
    ("line", "change", "reason"),
    [
        (3, lambda cells: cells[:6], "6 columns, 12 expected"),
        (2, lambda cells: [*cells, "1"], "13 columns"),
        (4, lambda cells: [cells[0], "1e5", *cells[2:]], "open '1e5' is not a number"),
        (4, lambda cells: [cells[0], "NaN", *cells[2:]], "is not a number"),
        (4, lambda cells: ["", *cells[1:]], "open time '' is not a number"),
        (4, lambda cells: [*cells[:5], "-1", *cells[6:]], "volume '-1' is not a number"),
        (4, lambda cells: ["\u0663" + cells[0][1:], *cells[1:]], "is not a number"),
        (2, lambda cells: [str(int(cells[0]) + 1), *cells[1:6], str(int(cells[6]) + 1), *cells[7:]], "off the 1s grid"),
        (2, lambda cells: [*cells[:6], str(int(cells[6]) + 1), *cells[7:]], "close time"),
        (3, lambda cells: [str(START_MS), *cells[1:6], str(START_MS + 999), *cells[7:]], "out of order"),
        (3, lambda cells: [str(START_MS + 1000), *cells[1:6], str(START_MS + 1999), *cells[7:]], "a double"),
        (3, lambda cells: [cells[0] + "000", *cells[1:6], cells[6] + "999", *cells[7:]], "another unit"),
        (5, lambda cells: [str(NOW_MS), *cells[1:6], str(NOW_MS + 999), *cells[7:]], "from the future"),
        (2, lambda cells: [*cells[:2], "0.01", *cells[3:]], "outside low..high"),
        (2, lambda cells: [*cells[:9], "99999999", *cells[10:]], "takers bought more"),
        (1, lambda cells: ["timestamp", *cells[1:]], "open time 'timestamp' is not a number"),
        (2, lambda cells: ["open_time", *cells[1:]], "open time 'open_time' is not a number"),
    ],
)
def test_a_bad_line_refuses_the_file_with_its_number_and_reason(
    line: int, change: Callable[[list[str]], list[str]], reason: str
) -> None:
    lines = [archive_line(kline) for kline in seconds_of("BTCUSDT", START_MS, 5)]
    lines[line - 1] = ",".join(change(lines[line - 1].strip().split(","))) + "\n"
    with pytest.raises(BadArchive, match=rf"^line {line}: ") as refused:
        parsed(lines)
    assert reason in str(refused.value)


@pytest.mark.parametrize("lines", [[], [HEADER + "\n"], ["\n"]])
def test_a_file_without_klines_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadArchive):
        parsed(lines)


@given(st.lists(st.text(max_size=120), max_size=4))
def test_any_other_text_is_refused_with_its_line(lines: list[str]) -> None:
    with pytest.raises(BadArchive) as refused:
        parsed(lines)
    assert 1 <= refused.value.line <= max(1, len(lines))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("BTCUSDT-1s-2024-03-01.zip", ("BTCUSDT", "1s")),
        ("BTCUSDT-1m-2024-03.csv.gz", ("BTCUSDT", "1m")),
        ("btcusdt-1mo-2024-03.zip", ("BTCUSDT", "1mo")),
        ("BTCUSDT-1s-2024-03-01.first300.csv", ("BTCUSDT", "1s")),
        ("BTCUSDT-1d-ohlcv.csv", None),
        ("klines.csv", None),
    ],
)
def test_symbol_and_interval_by_the_name(name: str, found: tuple[str, str] | None) -> None:
    assert named(name) == found


@pytest.mark.parametrize("name", ["3m", "1mo", "1M", "1D", ""])
def test_intervals_that_are_not_stored_are_refused(name: str) -> None:
    with pytest.raises(UnknownInterval, match="1s, 1m, 5m, 15m, 1h, 4h, 1d"):
        stored_interval(name)


@pytest.mark.parametrize(
    ("name", "interval", "rows", "last_close"),
    [
        ("BTCUSDT-5m-2024-01.csv.gz", Interval.M5, 8_928, "42580.00000000"),
        ("BTCUSDT-5m-2025-01.csv.gz", Interval.M5, 8_928, "102429.56000000"),
        ("usdm_FILUSDT-1m-2023-05.csv.gz", Interval.M1, 44_640, "4.690"),
    ],
)
def test_recorded_files_in_ms_and_us_with_and_without_header(
    shared_data: Path, name: str, interval: Interval, rows: int, last_close: str
) -> None:
    with gzip.open(shared_data / "klines" / name, "rt", encoding="ascii") as lines:
        found = list(archive_klines(lines, "BTCUSDT", interval, NOW_MS))
    assert len(found) == rows
    assert found[-1].open_time_ms - found[0].open_time_ms == (rows - 1) * interval.length_ms
    assert found[-1].close == Decimal(last_close)
