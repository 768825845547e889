"""Export: every format equals SQL to the last digit, over HTTP and by command; manifests, resuming, clients that go."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import socket
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow
import pyarrow.parquet
import pytest

from aggregator.archive_files import archive_lines
from market.archive_rows import archive_klines
from market.interval import DAY_MS, HOUR_MS, Interval
from market.kline import VALUE_COLUMNS
from market.odd_intervals import ODD_INTERVALS, grid_of, totals
from tests.conftest import Engines
from tests.stack_process import wait_for
from tests.webapp_process import (
    DEADLINE_S,
    END_MS,
    WebappProcess,
    insert_klines,
    insert_symbols,
    make_klines,
    moment,
    run_webapp,
)
from webapp.export.command import main
from webapp.export.encoders import Format, Unrepresentable, encoder_for
from webapp.export.tables import CANDLES, Column, ExportQuery, Kind, Table, columns_of

SYMBOL = "BTCUSDT"
MINUTES = make_klines(SYMBOL, Interval.M1, END_MS, 400)
DAYS = make_klines(SYMBOL, Interval.D1, END_MS, 120)
SECONDS = make_klines(SYMBOL, Interval.S1, END_MS, 300)
ODD_TEXT = 'a "quoted", text\nof two lines'
#: More rows than sockets hold.
MANY_ROWS = 60_000


@pytest.fixture(scope="module")
def webapp(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebappProcess]:
    with psycopg.connect(module_database) as connection:
        insert_symbols(connection, SYMBOL, "MANYUSDT")
        for klines in (MINUTES, DAYS, SECONDS, make_klines(SYMBOL, Interval.M15, END_MS, 300)):
            insert_klines(connection, klines)
        insert_klines(connection, make_klines(SYMBOL, Interval.H1, END_MS + HOUR_MS, 60), forming=True)
        insert_klines(connection, make_klines(SYMBOL, Interval.H4, END_MS, 60))
        connection.execute("update aggregated_kline set quote_volume = 12345678901234567890.123456789012345678, "
                           "is_complete = false, row_count = 59 where interval = '1m' and open_time = %s",
                           [moment(MINUTES[5].open_time_ms)])  # fmt: skip
        connection.execute("insert into symbol_watermark values (%s, 'kline_1s', %s)", [SYMBOL, moment(END_MS)])
        connection.execute(
            "insert into kline_gap (symbol, from_time, to_time, cause, last_error) values (%s, %s, %s, 'silence', %s)",
            [SYMBOL, moment(END_MS - HOUR_MS), moment(END_MS), ODD_TEXT],
        )
        connection.execute(
            "insert into completeness_hour values (%s, %s, 3600, 3500, 50, 0, 0, 50)",
            [SYMBOL, moment(END_MS - HOUR_MS)],
        )
        columns = ", ".join(column.name for column in CANDLES if column.name not in ("symbol", "open_time"))
        connection.execute(
            f"insert into aggregated_kline (symbol, open_time, {columns}) "
            f"select 'MANYUSDT', k.open_time - n * interval '1 minute', {columns} from generate_series(0, %s) n, "
            "(select * from aggregated_kline where interval = '1m' order by open_time desc limit 1) k",
            [MANY_ROWS - 1],
        )
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "0"}
    with run_webapp(engines.environment, tmp_path_factory.mktemp("webapp") / "log", **variables) as process:
        process.wait_ready()
        yield process


def sql_rows(database: str, interval: str, columns: tuple[Any, ...], symbol: str = SYMBOL) -> list[dict[str, Any]]:
    table = "kline_1s" if interval == "1s" else "aggregated_kline"
    where = "" if interval == "1s" else f" and interval = '{interval}'"
    with psycopg.connect(database, options="-c timezone=UTC") as connection:
        select = ", ".join(f"{column.sql or column.name} as {column.name}" for column in columns)
        rows = connection.execute(f"select {select} from {table} where symbol = %s{where} order by open_time", [symbol])
        return [dict(zip((column.name for column in columns), row, strict=True)) for row in rows]


def read(kind: Format, data: bytes) -> list[dict[str, Any]]:
    """Rows of a file; those of text formats with texts as values."""
    if kind is Format.PARQUET:
        return rows_of(pyarrow.parquet.read_table(io.BytesIO(data)))
    if kind is Format.ARROW:
        return rows_of(pyarrow.ipc.open_stream(data).read_all())
    text = (gzip.decompress(data) if kind is Format.CSV_GZ else data).decode()
    return list(csv.DictReader(io.StringIO(text)))


def rows_of(table: Any) -> list[dict[str, Any]]:
    """Rows of an Arrow table, its times made by hand: the library would load pandas for them."""
    columns = []
    for column in table.columns:
        if pyarrow.types.is_timestamp(column.type):
            assert column.type == pyarrow.timestamp("us", "UTC")
            values = column.cast(pyarrow.int64()).to_pylist()
            columns.append([None if us is None else moment(0) + timedelta(microseconds=us) for us in values])
        else:
            columns.append(column.to_pylist())
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def same(value: Any, text: Any) -> bool:
    """Whether a value of the database is that of the file."""
    if not isinstance(text, str) or isinstance(value, str):
        return bool(value == text)
    if value is None:
        return text == ""
    if isinstance(value, bool):
        return text == str(value).lower()
    if isinstance(value, datetime):
        return datetime.fromisoformat(text) == value
    return Decimal(text) == Decimal(value) and (not isinstance(value, Decimal) or str(value) == text)


def export(webapp: WebappProcess, **query: Any) -> tuple[bytes, dict[str, Any]]:
    """The file and its manifest."""
    answer = webapp.http.get("/api/v1/export", params={"symbol": SYMBOL, **query})
    assert answer.status_code == 200, answer.text
    found = webapp.http.get(answer.links["describedby"]["url"])
    assert found.status_code == 200, found.text
    return answer.content, found.json()


@pytest.mark.parametrize("kind", [*Format])
@pytest.mark.parametrize("interval", ["1s", "1m", "1h"])
def test_every_format_equals_sql_to_the_last_digit(
    webapp: WebappProcess, module_database: str, kind: Format, interval: str
) -> None:
    data, manifest = export(webapp, interval=interval, format=kind.value)
    columns = columns_of(ExportQuery(table=Table.KLINES, symbol=SYMBOL, interval=interval))
    expected = sql_rows(module_database, interval, columns)
    rows = read(kind, data)
    assert [list(row) for row in rows[:1]] == [[column.name for column in columns]]
    assert len(rows) == len(expected) == manifest["rows"]
    assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
    wrong = [(a, b) for a, b in zip(expected, rows, strict=True) if not all(same(a[name], b[name]) for name in a)]
    assert wrong == []
    complete = sum(row["is_complete"] for row in expected)
    assert manifest["completeness"] == (399 / 400 if interval == "1m" else 1.0)
    assert manifest["complete_bars"] == complete


@pytest.mark.parametrize("interval", ODD_INTERVALS)
def test_odd_intervals_equal_the_pure_roll_up(webapp: WebappProcess, interval: str) -> None:
    grid = grid_of(interval)
    parts = {
        "1m": [k for k in MINUTES if k is not MINUTES[5]],
        "15m": make_klines(SYMBOL, Interval.M15, END_MS, 300),
        "1h": make_klines(SYMBOL, Interval.H1, END_MS + HOUR_MS, 60)[:-1],
        "4h": make_klines(SYMBOL, Interval.H4, END_MS, 60),
        "1d": DAYS,
    }[grid.base.value]
    start_ms = grid.ceiling(parts[10].open_time_ms)
    data, manifest = export(webapp, interval=interval, start=start_ms, end=END_MS)
    expected = [(o, t) for o, t in totals(parts, grid) if start_ms <= o < END_MS]
    rows = read(Format.CSV, data)
    assert len(rows) == len(expected) == manifest["rows"] > 0
    names = (*VALUE_COLUMNS, "row_count", "first_trade_id", "last_trade_id")
    for row, (open_ms, total) in zip(rows, expected, strict=True):
        assert row["open_time"] == f"{moment(open_ms):%Y-%m-%d %H:%M:%S}+00"
        assert datetime.fromisoformat(row["close_time"]) == moment(grid.close_time(open_ms))
        values = {name: getattr(total, name) for name in names}
        seconds = (grid.step(open_ms, 1) - open_ms) // 1000
        # Parts in the database are as long as their interval, whatever the pure roll-up counts.
        assert {name: Decimal(row[name]) for name in names} == values | {"row_count": total.row_count}
        assert row["is_complete"] == str(total.row_count == seconds).lower()


def test_gaps_and_completeness(webapp: WebappProcess) -> None:
    for kind in Format:
        row = read(kind, export(webapp, table="gaps", format=kind.value)[0])[0]
        assert (row["cause"], row["last_error"]) == ("silence", ODD_TEXT)
        hour = read(kind, export(webapp, table="completeness", format=kind.value, start=END_MS - 1)[0])[0]
        assert (int(hour["expected"]), int(hour["open"])) == (3600, 50)
    data, manifest = export(webapp, table="gaps", start=END_MS)
    assert (data.count(b"\n"), manifest["rows"], manifest["completeness"]) == (1, 0, None)


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_the_archive_layout_is_read_by_the_import(webapp: WebappProcess, tmp_path: Path, unit: str) -> None:
    query = {"interval": "15m", "layout": "archive", "unit": unit, "format": "csv.gz"}
    path = tmp_path / "BTCUSDT-15m-2026-11-20.csv.gz"
    path.write_bytes(export(webapp, **query)[0])
    with archive_lines(path) as lines:
        found = list(archive_klines(lines, SYMBOL, Interval.M15, END_MS + DAY_MS))
    expected = make_klines(SYMBOL, Interval.M15, END_MS, 300)
    assert [[getattr(k, name) for name in VALUE_COLUMNS] for k in found] == [
        [getattr(k, name) for name in VALUE_COLUMNS] for k in expected
    ]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("table=trades", "table"),
        ("table=nothing", "table"),
        ("interval=1m", "symbol"),
        ("symbol=BTCUSDT", "interval"),
        ("symbol=BTCUSDT&interval=1H", "interval"),
        ("symbol=BTCUSDT&interval=1m&format=xml", "format"),
        ("symbol=BTCUSDT&interval=1m&start=x", "start"),
        ("symbol=BTCUSDT&interval=1m&start=2&end=1", "end"),
        ("symbol=BTCUSDT&interval=1m&layout=archive&format=parquet", "layout"),
        ("symbol=BTCUSDT&interval=1m&layout=archive&unit=s", "unit"),
        ("symbol=NOPEUSDT&interval=1m", "symbol"),
    ],
)
def test_bad_parameters(webapp: WebappProcess, query: str, parameter: str) -> None:
    answer = webapp.http.get(f"/api/v1/export?{query}")
    assert answer.status_code in (400, 404)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["parameter"] == parameter


def test_huge_ranges_and_unknown_manifests_are_no_error(webapp: WebappProcess) -> None:
    for interval in ("1M", "1w", "1s"):
        query = {"interval": interval, "start": 0, "end": 253_402_300_799_000}
        assert export(webapp, **query)[1]["rows"] > 0
    assert webapp.http.get("/api/v1/export/manifests/none").status_code == 404


def running(database: str) -> int:
    with psycopg.connect(database) as connection:
        query = "select count(*) from pg_stat_activity where datname = current_database() and application_name = %s"
        row = connection.execute(query, ["webapp export"]).fetchone()
        assert row is not None
        return int(row[0])


def test_clients_that_go_away_or_read_nothing_are_bounded_and_end_their_queries(
    webapp: WebappProcess, module_database: str
) -> None:
    request = b"GET /api/v1/export?symbol=MANYUSDT&interval=1m HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sockets = []
    wait_for("the exports before to be over", lambda: running(module_database) == 0, DEADLINE_S)
    for _ in range(2):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", webapp.port))
        client.sendall(request)
        assert client.recv(12) == b"HTTP/1.1 200"
        sockets.append(client)
    assert running(module_database) == 2
    refused = webapp.http.get("/api/v1/export", params={"symbol": SYMBOL, "interval": "1m"})
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "5"
    assert webapp.http.get("/api/v1/klines", params={"symbol": SYMBOL, "interval": "1m"}).status_code == 200
    for client in sockets:
        client.close()
    wait_for("the queries to end", lambda: running(module_database) == 0, DEADLINE_S)
    query = {"symbol": SYMBOL, "interval": "1m"}
    wait_for("a free place", lambda: webapp.http.get("/api/v1/export", params=query).status_code == 200, DEADLINE_S)
    assert export(webapp, interval="1m")[1]["rows"] == 400


@pytest.fixture
def command(webapp: WebappProcess, module_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", module_database)
    monkeypatch.setenv("ANALYST_DATABASE_URL", "")


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("kind", [*Format])
def test_the_command_writes_the_same_rows_and_a_manifest(
    webapp: WebappProcess, tmp_path: Path, kind: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"minutes.{kind.value}"
    arguments = [SYMBOL, "--interval", "1m", "--to", str(END_MS), "--output", str(output), "--json"]
    assert main(arguments) == 0
    (printed,) = json.loads(capsys.readouterr().out)["files"]
    manifest = json.loads(Path(f"{output}.manifest.json").read_text())
    assert printed == {"file": str(output), **manifest}
    assert {"rows", "sha256", "completeness", "query"} <= set(manifest)
    data = output.read_bytes()
    assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
    assert read(kind, data) == read(kind, export(webapp, interval="1m", format=kind.value)[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, f"{output.name}.manifest.json"]


@pytest.mark.usefixtures("command")
def test_the_command_writes_the_archives_daily_files(tmp_path: Path) -> None:
    arguments = [SYMBOL, "--interval", "1h", "--layout", "archive", "--output", str(tmp_path)]
    assert main([*arguments, "--from", "2026-11-19", "--to", "2026-11-21"]) == 0
    names = [
        f"BTCUSDT-1h-2026-11-{day}.zip{suffix}" for day in (19, 20) for suffix in ("", ".CHECKSUM", ".manifest.json")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    path = tmp_path / names[0]
    assert (
        path.with_suffix(".zip.CHECKSUM").read_text()
        == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    )
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("BTCUSDT-1h-2026-11-19.csv").decode().splitlines()
    assert len(lines) == 24
    assert len(lines[0].split(",")) == 12
    assert lines[0].startswith(f"{int(datetime(2026, 11, 19, tzinfo=UTC).timestamp()) * 10**6},")


@pytest.mark.usefixtures("command")
def test_a_file_that_cannot_be_begun_leaves_nothing_to_go_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([SYMBOL, "--interval", "1m", "--output", str(tmp_path / "nowhere" / "x.csv")]) == 1
    told = capsys.readouterr().err
    assert "No such file or directory" in told
    assert "--resume" not in told


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--interval", "1m"],
        [SYMBOL],
        [SYMBOL, "--interval", "7m"],
        [SYMBOL, "--table", "trades"],
        [SYMBOL, "--interval", "1m", "--format", "xml"],
        [SYMBOL, "--interval", "1m", "--from", "2", "--to", "1"],
        [SYMBOL, "--table", "gaps", "--layout", "archive"],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    if "trades" in arguments:
        assert "single trades are not stored here; allowed: klines, gaps, completeness" in capsys.readouterr().err


def test_a_number_that_the_format_cannot_hold_is_an_error_not_a_rounded_number() -> None:
    columns, line = (Column("open", Kind.DECIMAL),), b"0.1234567890123456789\n"
    with pytest.raises(Unrepresentable):
        encoder_for(Format.ARROW, columns).add(line)
    assert encoder_for(Format.CSV, columns).add(line) == line
