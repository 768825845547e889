"""`candlewire import`: rows of published files, the ledger after them, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.completeness import mark_uncounted, recount
from aggregator.import_archive import main
from aggregator.missing import reopen
from aggregator.retention import apply_retention
from aggregator.roll_up import roll_up as roll_up_dirty
from market.interval import HOUR_MS, MINUTE_MS, SECOND_MS, Interval
from market.kline import VALUE_COLUMNS, Kline, Source
from market.rollup import roll_up
from runtime.database import Connection, TupleRow, connect
from tests.aggregator_rows import candles_of, insert
from tests.archive_files import HEADER, write_archive
from tests.klines_of import seconds_of
from tests.stack_process import ROOT
from tests.webapp_process import make_klines

SYMBOL = "BTCUSDT"
#: 2026-10-01 00:58 UTC: an hour ends within the file.
START_MS = 1_790_816_280_000
ROWS = seconds_of(SYMBOL, START_MS, 300)


@pytest.fixture
def database(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection[TupleRow]]:
    monkeypatch.setenv("DATABASE_URL", fresh_database)
    with connect(fresh_database, "test") as connection:
        yield connection


@pytest.fixture
def imported(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process: (exit code, reports)."""

    def run(*arguments: object) -> tuple[int, list[dict[str, Any]]]:
        code = main([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)["files"]

    return run


def make_day(connection: Connection[TupleRow]) -> None:
    connection.execute("select ensure_kline_1s_day('2026-10-01')")
    connection.commit()


def rows_of(connection: Connection[TupleRow]) -> dict[int, tuple[object, ...]]:
    """By open time: the values, trade ids and the source."""
    columns = ", ".join((*VALUE_COLUMNS, "first_trade_id", "last_trade_id", "source"))
    query = f"select (extract(epoch from open_time) * 1000)::bigint, {columns} from kline_1s where symbol = %s"
    found = {row[0]: row[1:] for row in connection.execute(query, [SYMBOL]).fetchall()}
    connection.commit()
    return found


def gaps_of(connection: Connection[TupleRow]) -> list[tuple[object, ...]]:
    """(from, to, state, resolved_by) in seconds after START_MS, in order of time."""
    seconds = "extract(epoch from {})::bigint - %s"
    query = (
        f"select {seconds.format('from_time')}, {seconds.format('to_time')}, state, resolved_by from kline_gap "
        "where symbol = %s order by from_time"
    )
    found = connection.execute(query, [START_MS // 1000, START_MS // 1000, SYMBOL]).fetchall()
    connection.commit()
    return found


def open_gap(connection: Connection[TupleRow], from_s: int, to_s: int) -> None:
    """An open gap of the seconds after START_MS."""
    connection.execute(
        "insert into kline_gap (symbol, from_time, to_time, cause) values (%s, to_timestamp(%s), to_timestamp(%s), %s)",
        [SYMBOL, START_MS // 1000 + from_s, START_MS // 1000 + to_s, "silence"],
    )
    connection.commit()


def values(kline: Kline) -> tuple[object, ...]:
    return tuple(getattr(kline, name) for name in VALUE_COLUMNS)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("csv", (1, "")), ("csv.gz", (1000, HEADER + "\n")), ("zip", (1000, ""))],
)
def test_a_file_of_seconds_of_a_symbol_that_nobody_follows(
    database: Connection[TupleRow], imported: Any, tmp_path: Path, name: str, layout: tuple[int, str]
) -> None:
    path = write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.{name}", ROWS, *layout)
    code, (report,) = imported(path)
    assert (code, report["rows"], report["inserted"], report["equal"], report["different"]) == (0, 300, 300, 0, [])
    stored = rows_of(database)
    assert [stored[k.open_time_ms][:-3] for k in ROWS] == [values(k) for k in ROWS]
    ids = {(None, None) if k.trade_count else (-1, -1): stored[k.open_time_ms][-3:-1] for k in ROWS}
    assert all(expected == found for expected, found in ids.items())
    assert {row[-1] for row in stored.values()} == {"archive"}
    candles = candles_of(database, SYMBOL)
    minute = [k for k in ROWS if k.open_time_ms < START_MS + MINUTE_MS]
    expected = roll_up(minute, Interval.M1)
    assert values_of_candle(candles[Interval.M1, START_MS]) == values_of_candle(expected)
    assert candles[Interval.H1, START_MS - 58 * MINUTE_MS].row_count == 120
    assert gaps_of(database) == []
    assert imported(path)[1][0] | {"file": ""} == report | {"file": "", "inserted": 0, "equal": 300}


def values_of_candle(candle: Any) -> tuple[object, ...]:
    return (*(getattr(candle, name) for name in VALUE_COLUMNS), candle.row_count)


def test_a_difference_keeps_the_file_out_and_nothing_is_overwritten(
    database: Connection[TupleRow], imported: Any, tmp_path: Path
) -> None:
    path = write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.csv", ROWS)
    make_day(database)
    other = msgspec.structs.replace(ROWS[7], high=ROWS[7].high + 1, trade_count=ROWS[7].trade_count + 1)
    insert(database, [*ROWS[:7], other])
    before = rows_of(database)
    database.execute("update symbol_watermark set event_time = event_time + interval '1 day'")
    database.commit()
    code, (report,) = imported(path)
    assert (code, report["inserted"], report["equal"], report["different_count"]) == (1, 0, 7, 1)
    columns = {
        "high": [str(other.high), str(ROWS[7].high)],
        "trade_count": [str(n) for n in (other.trade_count, ROWS[7].trade_count)],
    }
    assert report["different"] == [{"open_time": ROWS[7].open_time_ms, "columns": columns}]
    assert rows_of(database) == before
    code, (report,) = imported(path, "--keep-stored")
    assert (code, report["inserted"], report["different_count"]) == (1, 292, 1)
    assert {time_ms: row for time_ms, row in rows_of(database).items() if time_ms in before} == before


def test_imported_seconds_settle_the_part_of_the_gap_that_they_fill(
    database: Connection[TupleRow], imported: Any, tmp_path: Path
) -> None:
    make_day(database)
    insert(database, [*ROWS[:100], *ROWS[200:]])
    open_gap(database, 100, 200)
    roll_up_dirty(database, 100)
    path = write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.csv", ROWS[90:180])
    code, (report,) = imported(path)
    assert (code, report["inserted"], report["equal"]) == (0, 80, 10)
    assert gaps_of(database) == [(100, 180, "repaired", "archive"), (180, 200, "open", None)]
    assert roll_up_dirty(database, 100).minutes == 2
    while recount(database).more:
        pass
    counted = database.execute(
        "select sum(stream), sum(rest), sum(open), sum(expected) from completeness_hour"
    ).fetchone()
    assert counted == (200, 80, 20, 300)
    database.commit()


def test_trades_that_do_not_fit_into_the_gap_keep_the_file_out(
    database: Connection[TupleRow], imported: Any, tmp_path: Path
) -> None:
    make_day(database)
    insert(database, [*ROWS[:100], *ROWS[200:]])
    open_gap(database, 100, 200)
    wrong = [msgspec.structs.replace(k, trade_count=k.trade_count + 1) for k in ROWS[100:200]]
    code, (report,) = imported(write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.csv", wrong))
    assert code == 1
    assert "trade chain" in report["error"]
    assert len(rows_of(database)) == 200
    assert gaps_of(database) == [(100, 200, "open", None)]


def test_what_lies_between_an_archive_and_the_account_is_listed_and_not_asked_for(
    database: Connection[TupleRow], imported: Any, tmp_path: Path
) -> None:
    make_day(database)
    live = seconds_of(SYMBOL, START_MS + 5 * HOUR_MS, 120)
    insert(database, live)
    island = [k for number, k in enumerate(ROWS) if number not in (20, 21)]
    assert imported(write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.csv", island))[0] == 0
    later = ROWS[299].open_time_ms + SECOND_MS - START_MS
    first_s = 5 * HOUR_MS // 1000
    assert gaps_of(database) == [
        (20, 22, "absent", "archive"),
        (later // 1000, first_s, "unrepairable", "archive"),
    ]
    assert reopen(database, None, 0, START_MS * 2) == []
    assert roll_up_dirty(database, 100).minutes == 7
    mark_uncounted(database)
    while recount(database).more:
        pass
    hours = database.execute("select expected, stream, rest, open from completeness_hour order by hour").fetchall()
    database.commit()
    assert hours == [(120, 120, 0, 0)], "the account begins with the line's own seconds"
    second = seconds_of(SYMBOL, START_MS + 2 * HOUR_MS, 60)
    assert imported(write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-02.csv", second))[0] == 0
    between = 2 * HOUR_MS // 1000
    assert gaps_of(database)[1:] == [
        (later // 1000, between, "unrepairable", "archive"),
        (between, between + 60, "repaired", "archive"),
        (between + 60, first_s, "unrepairable", "archive"),
    ]


def test_rows_after_the_watermark_are_left_to_the_line(
    database: Connection[TupleRow], imported: Any, tmp_path: Path
) -> None:
    make_day(database)
    insert(database, ROWS[:100])
    code, (report,) = imported(write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.csv", ROWS))
    assert code == 1
    assert "followed up to" in report["error"]
    assert len(rows_of(database)) == 100


def test_recorded_candles_in_microseconds(
    database: Connection[TupleRow], imported: Any, shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / "klines" / "BTCUSDT-5m-2025-01.csv.gz"
    code, (report,) = imported(path)
    assert (code, report["rows"], report["inserted"]) == (0, 8928, 8928)
    candle = candles_of(database, SYMBOL)[Interval.M5, 1_735_689_600_000]
    assert (candle.source, candle.is_complete, candle.is_closed, candle.row_count) == (Source.ARCHIVE, True, True, 300)
    assert str(candle.quote_volume) == "4301907.48382050"
    database.execute("update aggregated_kline set low = low - 1 where open_time = '2025-01-01'")
    database.commit()
    code, (report,) = imported(path)
    assert (code, report["inserted"], report["equal"], report["different_count"]) == (1, 0, 8927, 1)


def test_imported_candles_make_the_longer_ones_that_they_fill(
    database: Connection[TupleRow], imported: Any, tmp_path: Path
) -> None:
    four_hours_ms = Interval.H4.floor(START_MS)
    minutes = make_klines(SYMBOL, Interval.M1, four_hours_ms + Interval.H4.length_ms, 245)
    part = write_archive(tmp_path / f"{SYMBOL}-1m-2026-10-01.csv", minutes[6:])
    code, (report,) = imported(part)
    assert (code, report["inserted"], report["longer"]) == (0, 239, 47 + 15 + 3)
    change = "update aggregated_kline set {} where interval = %s and open_time = to_timestamp(%s)"
    database.execute(change.format("high = high + 7"), ["5m", four_hours_ms // 1000 + 3600])
    database.execute(change.format("row_count = 800, is_complete = false"), ["15m", four_hours_ms // 1000 + 7200])
    database.commit()
    before = candles_of(database, SYMBOL)
    code, (report,) = imported(write_archive(part, minutes))
    assert (code, report["inserted"], report["equal"], report["longer"]) == (0, 6, 239, 2 + 2 + 1 + 1)
    after = candles_of(database, SYMBOL)
    for interval in (Interval.M5, Interval.M15, Interval.H1, Interval.H4):
        parts = [k for k in minutes if four_hours_ms <= k.open_time_ms < four_hours_ms + interval.length_ms]
        made = after[interval, four_hours_ms]
        assert values_of_candle(made) == values_of_candle(roll_up(parts, interval))
        assert (made.source, made.is_complete, made.is_closed) == (Source.ARCHIVE, True, True)
    assert {interval for interval, _ in after} == {*Interval} - {Interval.S1, Interval.D1}
    mended = Interval.M15, four_hours_ms + 2 * HOUR_MS
    assert (after[mended].row_count, after[mended].revision) == (900, 1)
    assert {key: after[key] for key in before if key != mended} == {k: v for k, v in before.items() if k != mended}


def test_recorded_five_minutes_make_the_exchanges_own_hours(
    database: Connection[TupleRow], imported: Any, shared_data: Path
) -> None:
    klines = shared_data / "klines"
    code, (report,) = imported(klines / "BTCUSDT-5m-2024-01.csv.gz")
    assert (code, report["longer"]) == (0, 31 * (96 + 24 + 6 + 1))
    candles = candles_of(database, SYMBOL)
    for row in json.loads((klines / "BTCUSDT-1h-2024-01-15.rest-klines.json").read_bytes()):
        values = [Decimal(text) for text in (*row[1:6], *row[7:11])]
        candle = candles[Interval.H1, row[0]]
        assert [getattr(candle, name) for name in VALUE_COLUMNS] == values


def test_recorded_seconds_make_the_exchanges_own_five_minutes(
    database: Connection[TupleRow], imported: Any, shared_data: Path
) -> None:
    klines = shared_data / "klines"
    assert imported(klines / "BTCUSDT-1s-2024-03-01.first300.csv")[0] == 0
    made = candles_of(database, SYMBOL)[Interval.M5, 1_709_251_200_000]
    database.execute("delete from aggregated_kline")
    database.commit()
    assert imported(klines / "BTCUSDT-5m-2024-03.csv.gz")[0] == 0
    published = candles_of(database, SYMBOL)[Interval.M5, 1_709_251_200_000]
    assert values_of_candle(made) == values_of_candle(published)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("1s-2026-10-01.csv", b"1,2,3\n", "line 1: 3 columns, 12 expected"),
        ("1s-2026-10-01.zip", b"PK\x03\x04 not a zip", "not a zip file"),
        ("1s-2026-10-01.csv.gz", b"\x1f\x8b broken", "BTCUSDT-1s-2026-10-01.csv.gz: "),
        ("1s-2026-10-01.csv", b"\xff" * 50, "ascii"),
        ("1s-2026-10-01.csv", b"1" * 5_000, "longer than 1000 characters"),
        ("1m-2026-10-01.csv", b"", "no klines"),
    ],
    ids=["columns", "zip", "gzip", "bytes", "long", "empty"],
)
def test_unreadable_files_change_nothing(imported: Any, tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    path = tmp_path / f"{SYMBOL}-{name}"
    path.write_bytes(data)
    code, (report,) = imported(path)
    assert (code, report["rows"], report["inserted"]) == (1, 0, 0)
    assert reason in report["error"]


@pytest.mark.parametrize("arguments", [["no.csv"], ["{}/x.csv"], ["{}/BTCUSDT-3m-2026-10-01.csv"]])
def test_usage(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.csv", "BTCUSDT-3m-2026-10-01.csv"):
        (tmp_path / name).touch()
    with pytest.raises(SystemExit) as ended:
        main([argument.format(tmp_path) for argument in arguments])
    assert ended.value.code == 2
    capsys.readouterr()


@pytest.mark.parametrize("point", ["import_before_rows", "import_after_rows", "import_before_commit"])
def test_killed_at_any_point_nothing_has_happened(
    database: Connection[TupleRow], fresh_database: str, imported: Any, tmp_path: Path, point: str
) -> None:
    path = write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.zip", ROWS)
    command = [sys.executable, "-m", "aggregator.import_archive", str(path)]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": fresh_database, "CRASH_POINT": point}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert rows_of(database) == {}
    assert imported(path)[0] == 0


def test_retention_keeps_imported_rows_unless_asked(
    database: Connection[TupleRow], imported: Any, tmp_path: Path
) -> None:
    make_day(database)
    insert(database, ROWS[:10])
    database.execute("update symbol_watermark set event_time = '2026-11-21'")
    database.commit()
    assert imported(write_archive(tmp_path / f"{SYMBOL}-1s-2026-10-01.csv", ROWS))[0] == 0
    assert apply_retention(database, 48, 30, 90) == []
    assert {row[-1] for row in rows_of(database).values()} == {"archive"}
    assert len(rows_of(database)) == 290
    assert apply_retention(database, 48, 30, 90, drop_archive=True) == ["kline_1s_20261001"]
