"""/udf against a running server: a published client from npm, ranges, marks, quotes, errors; caches and origins."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest

from market.interval import MINUTE_MS, SECOND_MS, Interval
from market.kline import Kline
from tests.conftest import Engines
from tests.stack_process import HTTP_TIMEOUT_S
from tests.udf.client import ask
from tests.webapp_process import END_MS, WebappProcess, insert_klines, insert_symbols, make_klines, moment, run_webapp

ORIGIN = "https://charts.example.org"
COUNT = 700
#: The last candle ends at END_MS; half a minute of seconds follows.
MINUTES = make_klines("BTCUSDT", Interval.M1, END_MS, COUNT)
SECONDS = make_klines("BTCUSDT", Interval.S1, END_MS + 30 * SECOND_MS, 40)
END_S = END_MS // 1000
FIRST_S = MINUTES[0].open_time_ms // 1000
GAP_MS = END_MS - 10 * MINUTE_MS


@pytest.fixture(scope="module")
def webapp(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebappProcess]:
    """A server with rows, a gap, a revised candle, and one foreign origin that may read."""
    with psycopg.connect(module_database) as connection:
        insert_symbols(connection, "BTCUSDT", "ETHUSDT")
        for klines in (MINUTES, SECONDS, make_klines("BTCUSDT", Interval.D1, END_MS, 20)):
            insert_klines(connection, klines)
        connection.execute(
            "insert into kline_gap (symbol, from_time, to_time, cause, detector) "
            "values ('BTCUSDT', %s, %s, 'silence', 'feed')",
            [moment(GAP_MS + 5_000), moment(GAP_MS + 35_000)],
        )
        connection.execute(
            "update aggregated_kline set revision = 1 where symbol = 'BTCUSDT' and interval = '1m' and open_time = %s",
            [moment(GAP_MS)],
        )
        connection.execute(
            "insert into symbol_watermark values ('BTCUSDT', 'kline_1s', %s)", [moment(END_MS + 30 * SECOND_MS)]
        )
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "0"}
    variables |= {"API_CORS_ORIGINS": f"{ORIGIN}, https://other.example.org", "WEB_TRUSTED_PROXIES": "127.0.0.1"}
    log = tmp_path_factory.mktemp("webapp") / "log"
    with run_webapp(engines.environment, log, **variables) as process:
        process.wait_ready()
        yield process


def get(webapp: WebappProcess, path: str, **query: Any) -> Any:
    """Body of a request, whatever its status."""
    return webapp.http.get(f"/udf/{path}", params=query).json(parse_float=Decimal)


def history(webapp: WebappProcess, from_s: int, to_s: int, **query: Any) -> Any:
    """Bars of 1m."""
    return get(webapp, "history", **{"symbol": "BTCUSDT", "resolution": "1", "from": from_s, "to": to_s, **query})


def columns_of(klines: list[Kline]) -> dict[str, Any]:
    """As /udf/history gives them."""
    return {
        "s": "ok",
        "t": [kline.open_time_ms // 1000 for kline in klines],
        **{
            name: [getattr(kline, column) for kline in klines]
            for name, column in zip("ohlcv", ("open", "high", "low", "close", "base_volume"), strict=True)
        },
    }


def test_a_published_client_reads_bars_to_the_beginning_and_stops(webapp: WebappProcess) -> None:
    period = {"from": 0, "to": END_S - 1, "countBack": 300}
    config, symbol, bars, scrolled, unknown = ask(
        f"{webapp.url}/udf",
        [
            {"ask": "config"},
            {"ask": "symbol", "symbol": "BTCUSDT"},
            {"ask": "bars", "symbol": "BTCUSDT", "resolution": "1", "period": period},
            {"ask": "scroll", "symbol": "BTCUSDT", "resolution": "1", "to": END_S - 1, "step": 300 * 60},
            {"ask": "bars", "symbol": "NOTHING", "resolution": "1", "period": period},
        ],
    )
    assert config["supported_resolutions"] == ["1S", "1", "5", "15", "60", "240", "1D"]
    assert (symbol["pricescale"], symbol["minmov"], symbol["exchange"]) == (100, 1, "SIMULATED")
    expected = [
        {
            "time": kline.open_time_ms,
            **{name: float(getattr(kline, name)) for name in ("open", "high", "low", "close")},
            "volume": float(kline.base_volume),
        }
        for kline in MINUTES
    ]
    assert bars["bars"] == expected[-300:]
    assert scrolled["bars"] == expected
    # 300 + 300 + 100, and one that says that nothing is older.
    assert scrolled["requests"] == 4
    assert "NOTHING is not a symbol" in unknown["error"]


def test_ranges_are_inclusive_and_exact(webapp: WebappProcess) -> None:
    assert history(webapp, FIRST_S, FIRST_S + 120) == columns_of(MINUTES[:3])
    assert history(webapp, FIRST_S + 1, FIRST_S + 119) == columns_of(MINUTES[1:2])
    assert history(webapp, 0, END_S - 1, resolution="D")["t"][-1] == END_S - 86_400
    seconds = history(webapp, END_S, END_S + 5, resolution="1S")
    assert seconds == columns_of([k for k in SECONDS if 0 <= k.open_time_ms - END_MS <= 5_000])


def test_the_forming_bar_is_the_last(webapp: WebappProcess) -> None:
    bars = history(webapp, END_S - 60, END_S + 600)
    fresh = [kline for kline in SECONDS if kline.open_time_ms >= END_MS]
    assert bars["t"] == [END_S - 60, END_S]
    assert (bars["c"][-1], bars["v"][-1]) == (fresh[-1].close, sum(kline.base_volume for kline in fresh))


def test_countback_outranks_from(webapp: WebappProcess) -> None:
    assert history(webapp, END_S - 60, END_S - 1, countback=5) == columns_of(MINUTES[-5:])
    assert history(webapp, 0, FIRST_S + 60, countback=5) == columns_of(MINUTES[:2])
    assert history(webapp, 0, FIRST_S - 1, countback=5) == {"s": "no_data"}


def test_no_data_tells_the_nearest_earlier_bar_in_seconds_or_that_there_is_none(webapp: WebappProcess) -> None:
    assert history(webapp, END_S + 3600, END_S + 7200) == {"s": "no_data", "nextTime": END_S}
    assert history(webapp, FIRST_S - 7200, FIRST_S - 3600) == {"s": "no_data"}
    assert history(webapp, 0, END_S, symbol="ETHUSDT") == {"s": "no_data"}


def test_marks_are_gaps_and_revisions(webapp: WebappProcess) -> None:
    query = {"symbol": "SIMULATED:BTCUSDT", "from": END_S - 3600, "to": END_S, "resolution": "1"}
    found = get(webapp, "marks", **query)
    assert (found["label"], found["time"]) == (["G", "R"], [GAP_MS // 1000] * 2)
    assert "30 s" in found["text"][0]
    assert "silence, open" in found["text"][0]
    assert {len(column) for column in found.values()} == {2}
    (axis,) = get(webapp, "timescale_marks", **query)
    assert (axis["time"], axis["tooltip"]) == (GAP_MS // 1000, [found["text"][0]])
    assert get(webapp, "marks", **{**query, "resolution": "1S"})["label"] == ["G"]


def test_search_quotes_groups_and_time(webapp: WebappProcess) -> None:
    assert [row["symbol"] for row in get(webapp, "search", query="usdt")] == ["BTCUSDT", "ETHUSDT"]
    assert [row["symbol"] for row in get(webapp, "search", query="eth", limit=1)] == ["ETHUSDT"]
    assert get(webapp, "search", query="eth", type="stock") == []
    assert get(webapp, "symbol_info", group="SIMULATED")["symbol"] == ["BTCUSDT", "ETHUSDT"]
    known, unknown = get(webapp, "quotes", symbols="BTCUSDT,no such")["d"]
    assert (known["s"], known["v"]["lp"], unknown["s"]) == ("ok", MINUTES[-1].close, "error")
    assert webapp.http.get("/udf/time").text.isdigit()


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("history?symbol=BTCUSDT&resolution=7&from=0&to=1", 400, "1S, 1, 5, 15, 60, 240, 1D"),
        ("history?symbol=BTCUSDT&resolution=1&from=5&to=1", 400, "after to"),
        ("history?symbol=BTCUSDT&resolution=1&to=x", 400, "seconds"),
        ("history?symbol=BTCUSDT&resolution=1&from=0&to=1795219200000", 400, "not milliseconds"),
        ("history?symbol=BTCUSDT&resolution=1&from=0&to=1&countback=0", 400, "countback"),
        ("history?symbol=NOTHING&resolution=1&from=0&to=1", 404, "/udf/search"),
        ("history?resolution=1&from=0&to=1", 400, "symbol"),
        ("symbols?symbol=%00", 400, "symbol"),
        ("quotes", 400, "comma list"),
        ("symbol_info?group=Elsewhere", 404, "SIMULATED"),
        ("nothing", 404, "/api/docs/"),
    ],
)
def test_errors_are_of_the_dialect_and_name_what_is_allowed(
    webapp: WebappProcess, path: str, status: int, word: str
) -> None:
    answer = webapp.http.get(f"/udf/{path}")
    body = answer.json()
    assert (answer.status_code, body["s"], sorted(body)) == (status, "error", ["errmsg", "s"])
    assert word in body["errmsg"]


@pytest.mark.parametrize(
    ("settled", "live", "keep"),
    [
        (
            f"/udf/history?symbol=BTCUSDT&resolution=1&from=0&to={END_S - 61}",
            f"/udf/history?symbol=BTCUSDT&resolution=1&from=0&to={END_S + 60}",
            "public, max-age=30",
        ),
        (
            f"/api/v3/klines?symbol=BTCUSDT&interval=1m&endTime={END_MS - 60_001}",
            "/api/v3/klines?symbol=BTCUSDT&interval=1m",
            "public, max-age=30",
        ),
        (
            f"/api/v1/klines?symbol=BTCUSDT&interval=1m&end={END_MS - 60_000}",
            "/api/v1/klines?symbol=BTCUSDT&interval=1m",
            "public, no-cache",
        ),
    ],
)
def test_what_is_over_may_be_kept_and_is_asked_for_again_by_its_etag(
    webapp: WebappProcess, settled: str, live: str, keep: str
) -> None:
    first = webapp.http.get(settled)
    assert first.headers["Cache-Control"] == keep
    again = webapp.http.get(settled, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert webapp.http.get(settled, headers={"If-None-Match": '"another"'}).content == first.content
    newest = webapp.http.get(live)
    assert "no-store" in newest.headers["Cache-Control"]
    assert "ETag" not in newest.headers


def test_large_answers_are_compressed_for_who_comes_from_afar(webapp: WebappProcess) -> None:
    path = f"/udf/history?symbol=BTCUSDT&resolution=1&from=0&to={END_S - 61}"
    near = webapp.http.get(path)
    far = webapp.http.get(path, headers={"X-Forwarded-For": "203.0.113.7"})
    plain = webapp.http.get(path, headers={"X-Forwarded-For": "203.0.113.7", "Accept-Encoding": "gzip;q=0"})
    assert [answer.headers.get("Content-Encoding") for answer in (near, far, plain)] == [None, "gzip", None]
    assert near.content == far.content == plain.content
    assert far.headers["ETag"] == f"W/{near.headers['ETag']}"
    headers = {"X-Forwarded-For": "203.0.113.7", "If-None-Match": far.headers["ETag"]}
    assert webapp.http.get(path, headers=headers).status_code == 304


@pytest.mark.parametrize("path", ["/udf/config", "/api/v3/ping", "/api/v1/checkpoints"])
def test_only_the_origins_of_the_setting_may_read(webapp: WebappProcess, path: str) -> None:
    def allowed(origin: str, method: str = "GET") -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answer = webapp.http.request(method, path, headers=headers)
        assert "Origin" in answer.headers["Vary"]
        return answer.headers.get("Access-Control-Allow-Origin")

    assert allowed(ORIGIN) == allowed(ORIGIN, "OPTIONS") == ORIGIN
    for foreign in ("https://evil.example.org", f"{ORIGIN}.evil.org", "null", ORIGIN.upper()):
        assert allowed(foreign) is None
    operators = httpx.get(f"{webapp.url}/api/v1/operator/actions", headers={"Origin": ORIGIN}, timeout=HTTP_TIMEOUT_S)
    assert "Access-Control-Allow-Origin" not in operators.headers
