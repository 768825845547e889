"""The forming bar of every interval: what is stored of it, and the seconds since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from market.interval import HOUR_MS, MINUTE_MS, SECOND_MS, Interval
from market.kline import Kline
from tests.conftest import Engines
from tests.webapp_process import END_MS, WebappProcess, insert_klines, insert_symbols, make_klines, run_webapp

#: Everything before is in candles; the hour is half over. Then come 90 seconds.
COVERED_MS = END_MS + 30 * MINUTE_MS
MINUTES = make_klines("BTCUSDT", Interval.M1, COVERED_MS, 12)
HOURS = make_klines("BTCUSDT", Interval.H1, END_MS + HOUR_MS, 3)
SECONDS = make_klines("BTCUSDT", Interval.S1, COVERED_MS + 90 * SECOND_MS, 95)
FRESH = [second for second in SECONDS if second.open_time_ms >= COVERED_MS]


@pytest.fixture(scope="module")
def webapp(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebappProcess]:
    """A server whose newest candles are 90 s behind the newest second."""
    with psycopg.connect(module_database) as connection:
        insert_symbols(connection, "BTCUSDT", "ETHUSDT")
        insert_klines(connection, MINUTES)
        insert_klines(connection, HOURS, forming=True)
        insert_klines(connection, SECONDS)
        # Nothing is made of seconds alone where no candle says what came before.
        insert_klines(connection, make_klines("ETHUSDT", Interval.S1, COVERED_MS, 5))
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "0"}
    with run_webapp(engines.environment, tmp_path_factory.mktemp("webapp") / "log", **variables) as process:
        process.wait_ready()
        yield process


def bar(open_ms: int, length_ms: int, parts: list[Kline]) -> list[object]:
    """The row of a bar of these parts, by the rule: what has no trades takes no part in open, high and low."""
    traded = [part for part in parts if part.trade_count]
    prices = (traded[0].open, max(p.high for p in traded), min(p.low for p in traded), parts[-1].close)
    base, quote = sum(p.base_volume for p in parts), sum(p.quote_volume for p in parts)
    takers = (sum(p.taker_buy_base_volume for p in parts), sum(p.taker_buy_quote_volume for p in parts))
    return [
        open_ms,
        *(f"{value:.8f}" for value in (*prices, base)),
        open_ms + length_ms - 1,
        f"{quote:.8f}",
        sum(p.trade_count for p in parts),
        *(f"{value:.8f}" for value in takers),
        "0",
    ]


def klines(webapp: WebappProcess, **query: Any) -> list[list[object]]:
    """Rows of /api/v3/klines."""
    answer = webapp.http.get("/api/v3/klines", params={"symbol": "BTCUSDT", **query})
    assert answer.status_code == 200, answer.text
    rows: list[list[object]] = answer.json()
    return rows


CLOSED_MINUTE = bar(COVERED_MS, MINUTE_MS, FRESH[:60])
OPEN_MINUTE = bar(COVERED_MS + MINUTE_MS, MINUTE_MS, FRESH[60:])


def test_the_minutes_since_the_newest_candle(webapp: WebappProcess) -> None:
    rows = klines(webapp, interval="1m", limit=4)
    assert rows[2:] == [CLOSED_MINUTE, OPEN_MINUTE]
    assert [row[0] for row in rows[:2]] == [kline.open_time_ms for kline in MINUTES[-2:]]


@pytest.mark.parametrize(
    ("interval", "open_ms", "length_ms", "stored"),
    [
        ("1h", END_MS, HOUR_MS, HOURS[2:]),
        ("2h", END_MS, 2 * HOUR_MS, HOURS[2:]),
        ("3m", COVERED_MS, 3 * MINUTE_MS, []),
    ],
)
def test_longer_bars_go_on_from_what_is_stored(
    webapp: WebappProcess, interval: str, open_ms: int, length_ms: int, stored: list[Kline]
) -> None:
    newest = bar(open_ms, length_ms, [*stored, *FRESH])
    assert klines(webapp, interval=interval)[-1] == newest
    assert klines(webapp, interval=interval, limit=1) == [newest]
    assert klines(webapp, interval=interval, startTime=open_ms, endTime=open_ms) == [newest]


def test_only_what_the_range_asks_for(webapp: WebappProcess) -> None:
    assert klines(webapp, interval="1m", endTime=COVERED_MS - 1, limit=1)[0][0] == COVERED_MS - MINUTE_MS
    assert klines(webapp, interval="1m", startTime=COVERED_MS - MINUTE_MS + 1, limit=1) == [CLOSED_MINUTE]
    assert klines(webapp, interval="1m", startTime=COVERED_MS + 1) == [OPEN_MINUTE]
    first = MINUTES[0].open_time_ms
    assert [row[0] for row in klines(webapp, interval="1m", startTime=first, limit=2)] == [first, first + MINUTE_MS]
    assert klines(webapp, interval="1m", startTime=COVERED_MS + 2 * MINUTE_MS) == []
    assert klines(webapp, interval="1m", symbol="ETHUSDT") == []


def test_with_provenance(webapp: WebappProcess) -> None:
    page = webapp.http.get("/api/v1/klines", params={"symbol": "BTCUSDT", "interval": "1m", "limit": 3}).json()
    rows = [dict(zip(page["columns"], row, strict=True)) for row in page["rows"]]
    told = [(row["revision"], row["row_count"], row["is_complete"], row["is_closed"], row["source"]) for row in rows]
    assert told == [(0, 60, True, True, "seconds"), (-1, 60, True, True, "seconds"), (-1, 30, False, False, "seconds")]
    assert rows[-1]["covered_until_ms"] == COVERED_MS + 90 * SECOND_MS
    assert f"{float(rows[-1]['high']):.8f}" == OPEN_MINUTE[2]
    assert page["next_cursor"] == str(rows[0]["open_time_ms"])
    hour = webapp.http.get("/api/v1/klines", params={"symbol": "BTCUSDT", "interval": "1h", "limit": 1}).json()["rows"]
    assert dict(zip(page["columns"], hour[0], strict=True))["row_count"] == 1800 + 90
