"""One thousand closed candles with awkward decimals, read with every tool that an analyst may have: all agree to the
last digit. And the page for analysts with its notebooks, run against a server."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow
import pytest

from candlewire.client import KLINES, Client
from market.kline import Kline
from tests.analyst_rows import COUNT, START_MS, SYMBOL, TORN_MS, store_analyst_rows
from tests.conftest import Engines, with_database
from tests.stack_process import ROOT
from tests.udf.client import ask
from tests.unit.test_webapp_scripts import node
from tests.webapp_process import END_MS, WebappProcess, moment, name_of, run_webapp

#: What a row is compared by; a tool that has fewer columns gives the first of them.
COLUMNS = (
    "open", "high", "low", "close", "base_volume", "quote_volume", "taker_buy_base_volume", "taker_buy_quote_volume",
)  # fmt: skip
Row = tuple[Any, ...]
PAGE = (ROOT / "docs" / "ANALYSTS.md").read_text("utf-8")
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
DOCUMENTED_URL = "http://127.0.0.1:8000"


class Server:
    """A running server and where its rows are."""

    def __init__(self, webapp: WebappProcess, analyst_url: str, klines: list[Kline]) -> None:
        self.webapp, self.url, self.analyst_url = webapp, webapp.url, analyst_url
        self.klines = klines

    def get(self, path: str, **query: Any) -> httpx.Response:
        """An answer that must be a good one."""
        answer = self.webapp.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer

    def export(self, format_: str, **query: Any) -> bytes:
        """The candles as a file."""
        given = {"table": "klines", "symbol": SYMBOL, "interval": "1m", "start": START_MS, "end": END_MS}
        return self.get("/api/v1/export", **{**given, "format": format_, **query}).content


@pytest.fixture(scope="module")
def server(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the rows of tests/analyst_rows.py, reading as the analyst."""
    with psycopg.connect(module_database) as connection:
        klines = store_analyst_rows(connection)
    analyst_url = with_database(engines.analyst_database_url, name_of(module_database))
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": analyst_url, "API_WEIGHT_PER_MINUTE": "0"}
    with run_webapp(engines.environment, tmp_path_factory.mktemp("webapp") / "log", **variables) as webapp:
        webapp.wait_ready()
        yield Server(webapp, analyst_url, klines)


def rows_of(table: Any, columns: tuple[str, ...] = COLUMNS) -> list[Row]:
    """Rows of an Arrow table; times as ms."""
    opened = table.column("open_time").cast(pyarrow.timestamp("ms", "UTC")).cast(pyarrow.int64()).to_pylist()
    return list(zip(opened, *(table.column(name).to_pylist() for name in columns), strict=True))


def by_api_v1(server: Server) -> list[Row]:
    answer = server.get("/api/v1/klines", symbol=SYMBOL, interval="1m", start=START_MS, end=END_MS, limit=COUNT).json()
    places = [answer["columns"].index(name) for name in COLUMNS]
    return [(row[0], *(Decimal(row[place]) for place in places)) for row in answer["rows"]]


def by_api_v3(server: Server) -> list[Row]:
    query = {"symbol": SYMBOL, "interval": "1m", "startTime": START_MS, "endTime": END_MS - 1, "limit": COUNT}
    return _binance(server.get("/api/v3/klines", **query).json())


def _binance(rows: list[list[Any]]) -> list[Row]:
    return [(row[0], *(Decimal(row[place]) for place in (1, 2, 3, 4, 5, 7, 9, 10))) for row in rows]


def by_python_binance(server: Server) -> list[Row]:
    from binance.client import Client as Binance

    binance = Binance(ping=False)
    binance.API_URL = f"{server.url}/api"
    return _binance(binance.get_historical_klines(SYMBOL, "1m", START_MS, END_MS - 1))


def by_udf(server: Server) -> list[Row]:
    query = {"symbol": SYMBOL, "resolution": "1", "from": START_MS // 1000, "to": END_MS // 1000 - 1}
    answer = json.loads(server.get("/udf/history", **query).content, parse_float=Decimal, parse_int=Decimal)
    return list(zip([int(t) * 1000 for t in answer["t"]], *(answer[name] for name in "ohlcv"), strict=True))


def by_chart(server: Server) -> list[Row]:
    """The chart's own module asks, under Node."""
    script = """
        const { fetchBars, klinesUrl } = await import(process.argv[1]);
        const url = klinesUrl(`${process.argv[2]}/api/v1/klines`, process.argv[3], "1m", Number(process.argv[4]));
        console.log(JSON.stringify(await fetchBars(url, new AbortController().signal)));
    """
    module = (ROOT / "webapp" / "pages" / "static" / "js" / "history.js").as_uri()
    command = [*node(), "--input-type=module", "-e", script, module, server.url, SYMBOL, str(END_MS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    bars = json.loads(done.stdout)["bars"]
    return [(bar["open_time_ms"], *(Decimal(bar[name]) for name in COLUMNS)) for bar in bars]


def by_sql_view(server: Server) -> list[Row]:
    query = f"select open_time, {', '.join(COLUMNS)} from candles where symbol = %s and interval = '1m' order by 1"
    with psycopg.connect(server.analyst_url) as connection:
        rows = connection.execute(query, [SYMBOL]).fetchall()
    return [((row[0] - moment(0)).total_seconds() * 1000, *row[1:]) for row in rows]


def by_export_csv(server: Server) -> list[Row]:
    lines = csv.DictReader(io.StringIO(gzip.decompress(server.export("csv.gz")).decode()))
    with psycopg.connect(server.analyst_url) as connection:
        times = connection.execute("select open_time from candles where interval = '1m' order by 1").fetchall()
    opened = [int((time - moment(0)).total_seconds() * 1000) for (time,) in times]
    return [(ms, *(Decimal(line[name]) for name in COLUMNS)) for ms, line in zip(opened, lines, strict=True)]


def by_export_arrow(server: Server) -> list[Row]:
    return rows_of(pyarrow.ipc.open_stream(server.export("arrow")).read_all())


def by_pandas(server: Server) -> list[Row]:
    import pandas

    return _pandas_rows(pandas.read_parquet(io.BytesIO(server.export("parquet")), dtype_backend="pyarrow"))


def _pandas_rows(frame: Any) -> list[Row]:
    opened = [round(time.timestamp() * 1000) for time in frame["open_time"]]
    return list(zip(opened, *(frame[name].tolist() for name in COLUMNS), strict=True))


def by_polars(server: Server) -> list[Row]:
    import polars

    return _polars_rows(polars.read_parquet(server.export("parquet")))


def _polars_rows(frame: Any) -> list[Row]:
    opened = frame["open_time"].dt.epoch("ms").to_list()
    return list(zip(opened, *(frame[name].to_list() for name in COLUMNS), strict=True))


def by_duckdb(server: Server) -> list[Row]:
    import duckdb

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "candles.parquet"
        file.write_bytes(server.export("parquet"))
        query = f"select epoch_ms(open_time), {', '.join(COLUMNS)} from '{file}' order by 1"
        rows: list[Row] = duckdb.connect().execute(query).fetchall()
        return rows


def by_client_pandas(server: Server) -> list[Row]:
    frame = Client(server.url).klines(SYMBOL, "1m", moment(START_MS), "2026-11-21")
    assert list(frame.columns) == list(KLINES)
    assert isinstance(frame["close"].iloc[0], Decimal)
    return _pandas_rows(frame)


def by_client_polars(server: Server) -> list[Row]:
    return _polars_rows(Client(server.url).klines(SYMBOL, "1m", START_MS, END_MS, frame="polars"))


def by_client_export(server: Server) -> list[Row]:
    """A range that is too long for pages."""
    return rows_of(Client(server.url).klines(SYMBOL, "1m", "2020-01-01", END_MS, frame="arrow"))


def by_client_known_at(server: Server) -> list[Row]:
    """As they were known at last."""
    return rows_of(Client(server.url).klines(SYMBOL, "1m", START_MS, END_MS, frame="arrow", known_at=END_MS + 10_000))


def by_ccxt(server: Server) -> list[Row]:
    import ccxt

    exchange = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}})
    exchange.urls["api"]["public"] = f"{server.url}/api/v3"
    exchange.has["fetchCurrencies"] = False
    return [tuple(bar) for bar in exchange.fetch_ohlcv("BTC/USDT", "1m", since=START_MS, limit=COUNT)]


def by_udf_client(server: Server) -> list[Row]:
    """A chart's data feed from npm."""
    period = {"from": START_MS // 1000, "to": END_MS // 1000 - 1, "countBack": COUNT}
    question = {"ask": "bars", "symbol": SYMBOL, "resolution": "1", "period": period}
    (answer,) = ask(f"{server.url}/udf", [question])
    names = ("open", "high", "low", "close", "volume")
    return [(bar["time"], *(float(bar[name]) for name in names)) for bar in answer["bars"]]


def by_client_floats(server: Server) -> list[Row]:
    return rows_of(Client(server.url).klines(SYMBOL, "1m", START_MS, END_MS, frame="arrow", exact=False))


EXACT: list[Callable[[Server], list[Row]]] = [
    by_api_v1, by_api_v3, by_python_binance, by_udf, by_chart, by_sql_view, by_export_csv, by_export_arrow, by_pandas,
    by_polars, by_duckdb, by_client_pandas, by_client_polars, by_client_export,
    by_client_known_at,
]  # fmt: skip
#: Tools that know floating point alone.
FLOATING: list[Callable[[Server], list[Row]]] = [by_ccxt, by_udf_client, by_client_floats]


@pytest.mark.parametrize("read", EXACT + FLOATING, ids=lambda read: read.__name__.removeprefix("by_"))
def test_all_read_the_same_candles_to_the_last_digit(server: Server, read: Callable[[Server], list[Row]]) -> None:
    rows = read(server)
    width = len(rows[0])
    number = float if read in FLOATING else Decimal
    expected = [(k.open_time_ms, *(number(getattr(k, name)) for name in COLUMNS))[:width] for k in server.klines]
    assert len(rows) == COUNT
    assert rows == expected
    assert {type(value) for row in rows for value in row[1:]} == {number}


def test_prices_survive_floating_point(server: Server) -> None:
    """The awkward prices are such that a double still names each: what ccxt shows is what the exchange said."""
    assert all(Decimal(repr(float(k.close))) == k.close for k in server.klines)
    assert any(Decimal(repr(float(k.base_volume))) != k.base_volume for k in server.klines)


def test_provenance_comes_with_the_candles(server: Server) -> None:
    client = Client(server.url)
    frame = client.klines(SYMBOL, "1m", START_MS, END_MS, frame="polars")
    torn = frame.filter(~frame["is_complete"])
    assert torn["open_time"].to_list() == [moment(TORN_MS)]
    assert frame["revision"].sum() == 1
    assert set(frame["source"]) == {"seconds"}
    then = client.klines(SYMBOL, "1m", START_MS, END_MS, frame="polars", known_at=END_MS - 90_000)
    assert (len(then), then["revision"].sum()) == (COUNT - 2, 0)
    hours = client.completeness(SYMBOL, "2026-10-01", "2026-11-21", frame="polars")
    assert (len(hours), hours["open"].sum(), hours["expected"].sum()) == (17, 17 * 12, 17 * 3600)
    gaps = client.gaps(None, START_MS, END_MS, frame="polars")
    assert gaps["state"].to_list() == ["repaired", "open"]


def test_the_page_for_analysts_runs(server: Server) -> None:
    namespace: dict[str, Any] = {}
    cells = PAGE.split("```python\n")[1:]
    assert len(cells) >= 5
    for number, cell in enumerate(cells):
        source = cell.split("```", 1)[0].replace(DOCUMENTED_URL, server.url)
        exec(compile(source, f"ANALYSTS.md, cell {number}", "exec"), namespace)
    assert len(namespace["bars"]) == len(namespace["rows"]) == len(namespace["candles"]) == COUNT


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_run(server: Server, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    namespace: dict[str, Any] = {}
    for cell in code:
        source = "".join(cell["source"]).replace(DOCUMENTED_URL, server.url)
        exec(compile(source, f"{path.name}, {cell['id']}", "exec"), namespace)
    assert "client" in namespace
