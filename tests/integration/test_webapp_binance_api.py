"""/api/v3 against a running server and a real PostgreSQL: shapes, ranges, errors, limits, unmodified clients."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from market.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from market.kline import Kline
from market.rollup import Accumulator
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

MINUTES = make_klines("BTCUSDT", Interval.M1, END_MS + MINUTE_MS, 1200)
SECONDS = make_klines("BTCUSDT", Interval.S1, END_MS, 30)
HOURS = make_klines("BTCUSDT", Interval.H1, END_MS, 24 * 5)
#: An archive of long ago, then a newer one. Nobody follows the symbol.
IMPORTED = [
    kline
    for end_ms in (END_MS - 300 * DAY_MS, END_MS)
    for kline in make_klines("USDM_FILUSDT", Interval.H1, end_ms, 48)
]


@pytest.fixture(scope="module")
def webapp(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebappProcess]:
    """A server with rows."""
    with psycopg.connect(module_database) as connection:
        insert_symbols(connection, "BTCUSDT", "ETHUSDT", "QUIETUSDT")
        for klines in (MINUTES, SECONDS, HOURS, IMPORTED, make_klines("BTCUSDT", Interval.D1, END_MS, 20)):
            insert_klines(connection, klines, forming=klines is MINUTES)
        connection.execute(
            "insert into symbol_ticker values ('BTCUSDT', 95, 105, 90, 100, 1234.5, 123450.25, %s, %s)",
            [moment(END_MS), moment(END_MS)],
        )
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "0"}
    log = tmp_path_factory.mktemp("webapp") / "log"
    with run_webapp(engines.environment, log, **variables) as process:
        process.wait_ready()
        yield process


def row_of(kline: Kline) -> list[object]:
    """As /api/v3/klines writes it."""

    def text(value: Decimal) -> str:
        return f"{value:.8f}"

    return [
        kline.open_time_ms,
        *(text(value) for value in (kline.open, kline.high, kline.low, kline.close, kline.base_volume)),
        kline.close_time_ms,
        text(kline.quote_volume),
        kline.trade_count,
        text(kline.taker_buy_base_volume),
        text(kline.taker_buy_quote_volume),
        "0",
    ]


def get(webapp: WebappProcess, path: str, **query: Any) -> Any:
    """Body of a request that must work."""
    answer = webapp.http.get(f"/api/v3/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_klines_without_bounds_are_the_newest_with_the_forming_one_last(webapp: WebappProcess) -> None:
    rows = get(webapp, "klines", symbol="BTCUSDT", interval="1m")
    assert rows == [row_of(kline) for kline in MINUTES[-500:]]
    assert rows[-1][0] == END_MS


def test_klines_of_seconds(webapp: WebappProcess) -> None:
    assert get(webapp, "klines", symbol="BTCUSDT", interval="1s", limit=7) == [row_of(k) for k in SECONDS[-7:]]


def test_klines_ranges(webapp: WebappProcess) -> None:
    first, third = MINUTES[0].open_time_ms, MINUTES[2].open_time_ms

    def opens(**query: object) -> list[int]:
        return [row[0] for row in get(webapp, "klines", symbol="BTCUSDT", interval="1m", **query)]

    assert opens(startTime=first, limit=2) == [first, first + MINUTE_MS]
    assert opens(endTime=third, limit=2) == [third - MINUTE_MS, third]
    assert opens(startTime=first, endTime=third) == [first, first + MINUTE_MS, third]
    assert opens(startTime=first, endTime=first) == [first]
    assert opens(startTime=first + 1, endTime=third - 1) == [first + MINUTE_MS]
    assert opens(startTime=first * 1000, endTime=third * 1000, limit=1) == [first]
    assert opens(startTime=third, endTime=first) == []
    assert opens(startTime=END_MS + DAY_MS) == []
    assert len(opens(limit=100_000)) == 1000


def test_klines_in_microseconds(webapp: WebappProcess) -> None:
    query: dict[str, str | int] = {"symbol": "BTCUSDT", "interval": "1m", "limit": 1}
    row = webapp.http.get("/api/v3/klines", params=query, headers={"X-MBX-TIME-UNIT": "MICROSECOND"}).json()[0]
    assert (row[0], row[6]) == (END_MS * 1000, (END_MS + MINUTE_MS) * 1000 - 1)


def rolled_up(hours: list[Kline], length_ms: int, offset_ms: int) -> list[list[object]]:
    """Rows of a computed interval, made by market/rollup.py instead of SQL."""
    bars: dict[int, Accumulator] = {}
    for kline in hours:
        open_ms = (kline.open_time_ms + offset_ms) // length_ms * length_ms - offset_ms
        if open_ms in bars:
            bars[open_ms].add(kline)
        else:
            bars[open_ms] = Accumulator.starting_with(kline)
    template = hours[0]
    fields = {name: getattr(template, name) for name in ("symbol", "interval", "is_closed", "event_time_ms")}
    rows = []
    for open_ms, bar in sorted(bars.items()):
        values = {name: getattr(bar, name) for name in Accumulator.__struct_fields__}
        for name in ("row_count", "covered_until_ms", "event_time_ms"):
            del values[name]
        times = {"open_time_ms": open_ms, "close_time_ms": open_ms + length_ms - 1}
        rows.append(row_of(Kline(**{**fields, **values, **times})))
    return rows


@pytest.mark.parametrize(
    ("interval", "zone", "length_ms", "offset_ms"),
    [
        ("2h", "0", 2 * HOUR_MS, 0),
        ("1d", "9", DAY_MS, 9 * HOUR_MS),
        ("4h", "-3:00", 4 * HOUR_MS, -3 * HOUR_MS),
        ("12h", "+1", 12 * HOUR_MS, HOUR_MS),
    ],
)
def test_computed_klines_equal_the_roll_up(
    webapp: WebappProcess, interval: str, zone: str, length_ms: int, offset_ms: int
) -> None:
    expected = rolled_up(HOURS, length_ms, offset_ms)
    query = {"symbol": "BTCUSDT", "interval": interval, "timeZone": zone}
    assert get(webapp, "klines", **query) == expected
    assert get(webapp, "klines", **query, limit=2) == expected[-2:]
    second = expected[1][0]
    assert isinstance(second, int)
    assert get(webapp, "klines", **query, startTime=second - 1, limit=2) == expected[1:3]
    assert get(webapp, "klines", **query, endTime=second, limit=5) == expected[:2]


@pytest.mark.parametrize(("interval", "hours", "zone"), [("2h", 2, 0), ("12h", 12, 1)])
def test_a_hole_ends_no_page(webapp: WebappProcess, interval: str, hours: int, zone: int) -> None:
    """Clients take a page with fewer rows than they asked for, or none, for the last."""
    expected = rolled_up(IMPORTED, hours * HOUR_MS, zone * HOUR_MS)
    older = len(rolled_up(IMPORTED[:48], hours * HOUR_MS, zone * HOUR_MS))
    query = {"symbol": "USDM_FILUSDT", "interval": interval, "timeZone": zone}
    last_of_older, first_of_newer = expected[older - 1][0], expected[older][0]
    assert isinstance(last_of_older, int)
    assert isinstance(first_of_newer, int)
    in_hole = (last_of_older + first_of_newer) // 2
    assert get(webapp, "klines", **query, limit=1000) == expected
    assert get(webapp, "klines", **query, limit=len(expected) - 2) == expected[2:]
    assert get(webapp, "klines", **query, startTime=0, limit=1000) == expected
    assert get(webapp, "klines", **query, startTime=last_of_older, limit=3) == expected[older - 1 : older + 2]
    assert get(webapp, "klines", **query, startTime=in_hole, limit=2) == expected[older : older + 2]
    assert get(webapp, "klines", **query, endTime=in_hole, limit=2) == expected[older - 2 : older]
    assert get(webapp, "klines", **query, startTime=in_hole, endTime=first_of_newer - 1) == []


def test_a_symbol_that_is_imported_and_not_followed_is_asked_for_by_its_name_alone(webapp: WebappProcess) -> None:
    assert len(get(webapp, "klines", symbol="USDM_FILUSDT", interval="1h")) == len(IMPORTED)
    lists = (get(webapp, "exchangeInfo")["symbols"], get(webapp, "ticker/price"), get(webapp, "ticker/24hr"))
    for listed in (*lists, webapp.http.get("/udf/search").json(), webapp.http.get("/api/v1/symbols").json()["symbols"]):
        assert "BTCUSDT" in {row["symbol"] for row in listed}
        assert "USDM_FILUSDT" not in {row["symbol"] for row in listed}
    assert webapp.http.get("/chart/USDM_FILUSDT").status_code == 404


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("klines", -1102),
        ("klines?symbol=BTCUSDT", -1102),
        ("klines?symbol=&interval=1m", -1105),
        ("klines?symbol=BTCUSDT&interval=", -1105),
        ("ticker/24hr?symbol=", -1105),
        ("klines?symbol=btcusdt&interval=1m", -1100),
        ("klines?symbol=BTC%00&interval=1m", -1100),
        ("klines?symbol=NOTHING&interval=1m", -1121),
        ("klines?symbol=BTCUSDT&interval=1mo", -1120),
        ("klines?symbol=BTCUSDT&interval=7m", -1120),
        ("klines?symbol=BTCUSDT&interval=1%27", -1100),
        ("klines?symbol=BTCUSDT&interval=1m&limit=x", -1100),
        ("klines?symbol=BTCUSDT&interval=1m&limit=", -1105),
        ("klines?symbol=BTCUSDT&interval=1m&limit=0", -1130),
        ("klines?symbol=BTCUSDT&interval=1m&startTime=-1", -1100),
        ("klines?symbol=BTCUSDT&interval=1m&timeZone=15", -1130),
        ("klines?symbol=BTCUSDT&interval=1m&from=1", -1104),
        ("klines?symbol=BTCUSDT&symbol=ETHUSDT&interval=1m", -1101),
        ("ticker/price?symbol=NOTHING", -1121),
        ("ticker/24hr?symbol=BTCUSDT&type=HUGE", -1139),
        ('ticker/24hr?symbols=["BTCUSDT","BTCUSDT"]', -1151),
        ("ticker/24hr?symbols=[1]", -1100),
        ("ticker/24hr?symbol=BTCUSDT&symbolStatus=HALT", -1220),
        ("ticker/24hr?symbolStatus=ASLEEP", -1122),
        ('exchangeInfo?symbol=BTCUSDT&symbols=["ETHUSDT"]', -1128),
        ("exchangeInfo?symbol=NOTHING", -1121),
    ],
)
def test_errors_carry_the_exchange_s_codes(webapp: WebappProcess, path: str, code: int) -> None:
    answer = webapp.http.get(f"/api/v3/{path}")
    body = answer.json()
    assert (answer.status_code, body["code"], sorted(body)) == (400, code, ["code", "msg"])
    assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"


def test_time_unit_that_is_none(webapp: WebappProcess) -> None:
    answer = webapp.http.get("/api/v3/time", headers={"X-MBX-TIME-UNIT": "FORTNIGHT"})
    assert (answer.status_code, answer.json()["code"]) == (400, -1194)


def test_what_is_not_stored_is_not_pretended(webapp: WebappProcess) -> None:
    for path in ("aggTrades", "historicalTrades", "nothing"):
        answer = webapp.http.get(f"/api/v3/{path}", params={"symbol": "BTCUSDT"})
        assert (answer.status_code, answer.json()["code"]) == (404, -1020)
    for path in ("depth", "ticker/bookTicker"):
        answer = webapp.http.get(f"/api/v3/{path}", params={"symbol": "QUIETUSDT"})
        assert (answer.status_code, answer.json()["code"]) == (503, -1001)
    assert get(webapp, "trades", symbol="QUIETUSDT") == []
    assert webapp.http.post("/api/v3/ping").status_code in (403, 405)


@pytest.mark.parametrize(
    "path", ["/api/v3/klines?symbol=BTCUSDT&interval=1m", "/udf/history?symbol=BTCUSDT&resolution=1&to=9&countback=1"]
)
def test_a_query_that_took_too_long_is_told_from_a_database_that_is_away(
    webapp: WebappProcess, module_database: str, path: str
) -> None:
    """The database's timeout cancels a statement just as is done here."""
    cancel = "select pg_cancel_backend(pid) from pg_locks where not granted and relation = 'aggregated_kline'::regclass"
    with ThreadPoolExecutor(1) as threads, psycopg.connect(module_database) as connection:
        connection.execute("lock table aggregated_kline")
        answer = threads.submit(webapp.http.get, path)
        wait_for(
            "the query to be ended", lambda: bool(connection.execute(cancel).fetchall()) or answer.done(), DEADLINE_S
        )
        assert answer.result().status_code == 503
        assert "ask for a shorter range" in answer.result().text


def test_exchange_info(webapp: WebappProcess) -> None:
    info = get(webapp, "exchangeInfo")
    assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "QUIETUSDT"]
    assert info["source"] == "sim"
    filters = {entry["filterType"]: entry for entry in info["symbols"][0]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert get(webapp, "exchangeInfo", symbols='["ETHUSDT"]')["symbols"][0]["baseAsset"] == "ETH"


def test_tickers(webapp: WebappProcess) -> None:
    day = get(webapp, "ticker/24hr", symbol="BTCUSDT")
    assert (day["lastPrice"], day["priceChange"], day["priceChangePercent"]) == ("100.00000000", "5.00000000", "5.263")
    assert day["closeTime"] - day["openTime"] == DAY_MS
    of_the_day = [k for k in MINUTES if k.open_time_ms > END_MS - DAY_MS]
    traded = [k for k in of_the_day if k.trade_count]
    first_id, last_id = traded[0].first_trade_id, traded[-1].last_trade_id
    assert (day["firstId"], day["lastId"], day["count"]) == (first_id, last_id, last_id - first_id + 1)
    mini = get(webapp, "ticker/24hr", symbols='["BTCUSDT"]', type="MINI")[0]
    assert "weightedAvgPrice" not in mini
    assert mini["volume"] == "1234.50000000"
    assert get(webapp, "ticker/price", symbol="BTCUSDT") == {"symbol": "BTCUSDT", "price": "100.00000000"}
    assert get(webapp, "ticker/price") == [{"symbol": "BTCUSDT", "price": "100.00000000"}]


def test_a_trade_id_that_is_not_known_follows_from_the_other_unless_seconds_are_missing(
    webapp: WebappProcess, module_database: str
) -> None:
    traded = [k for k in MINUTES if k.trade_count and k.open_time_ms > END_MS - DAY_MS]
    count = sum(k.trade_count for k in traded)
    tell = "update aggregated_kline set first_trade_id = %s, row_count = %s where interval = '1m' and open_time = %s"
    with psycopg.connect(module_database, autocommit=True) as connection:
        for row_count, first_id in ((60, traded[-1].last_trade_id - count + 1), (59, -1)):
            connection.execute(tell, [None, row_count, moment(traded[0].open_time_ms)])
            day = get(webapp, "ticker/24hr", symbol="BTCUSDT")
            assert (day["firstId"], day["lastId"], day["count"]) == (first_id, traded[-1].last_trade_id, count)
        connection.execute(tell, [traded[0].first_trade_id, 60, moment(traded[0].open_time_ms)])


def test_weight_is_counted_and_limited(engines: Engines, module_database: str, tmp_path: Any) -> None:
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "60"}
    with run_webapp(engines.environment, tmp_path / "log", **variables) as limited:
        limited.wait_ready()
        answers = [limited.http.get("/api/v3/exchangeInfo") for _ in range(8)]
        refused = [answer for answer in answers if answer.status_code == 429]
        # The minute may turn once on the way, which gives three more.
        assert 2 <= len(refused) <= 5
        assert refused[0].json()["code"] == -1003
        assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
        assert answers[0].headers["X-MBX-USED-WEIGHT-1M"] == "20"
        # One account of all dialects; each refuses in its own words.
        for path, kind, own in (
            ("/udf/symbol_info", "application/json", "errmsg"),
            ("/api/v1/symbols", "application/problem+json", "detail"),
        ):
            answers = [limited.http.get(path) for _ in range(14)]
            answer = next(answer for answer in answers if answer.status_code == 429)
            assert answer.headers["Content-Type"] == kind
            assert own in answer.json()
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        # Operators are counted by themselves: their page is needed most when somebody asks too much.
        wait_for("the first figures", lambda: limited.http.get("/api/v1/operator").status_code == 200, DEADLINE_S)
        assert [limited.http.get("/api/v1/operator").status_code for _ in range(14)] == [200] * 14


def test_python_binance_unmodified(webapp: WebappProcess) -> None:
    from binance.client import Client

    client = Client(ping=False)
    client.API_URL = f"{webapp.url}/api"
    client.ping()
    assert client.get_klines(symbol="BTCUSDT", interval="1m", limit=3) == [row_of(k) for k in MINUTES[-3:]]
    history = client.get_historical_klines("BTCUSDT", "1m", MINUTES[0].open_time_ms, END_MS)
    assert history == [row_of(k) for k in MINUTES]
    assert client.get_symbol_info("ETHUSDT")["quoteAsset"] == "USDT"


def test_ccxt_unmodified(webapp: WebappProcess) -> None:
    import ccxt

    exchange = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}})
    exchange.urls["api"]["public"] = f"{webapp.url}/api/v3"
    exchange.has["fetchCurrencies"] = False
    markets = exchange.load_markets()
    assert markets["BTC/USDT"]["precision"]["price"] == 0.01
    bars = exchange.fetch_ohlcv("BTC/USDT", "1m", limit=3)
    assert [bar[0] for bar in bars] == [k.open_time_ms for k in MINUTES[-3:]]
    assert exchange.fetch_ticker("BTC/USDT")["last"] == 100
