"""Requests that nobody sane would send: never a 500, never the error of another dialect, always an answer."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from bench.http_fuzz import PATHS, TIMEOUT_S, run
from market.interval import Interval
from tests.conftest import Engines
from tests.webapp_process import END_MS, insert_klines, insert_symbols, make_klines, run_webapp

SEED = 1
#: The bench sends 10,000.
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1000"))


def test_fuzzed_requests_are_answered_in_their_dialect(engines: Engines, module_database: str, tmp_path: Path) -> None:
    with psycopg.connect(module_database) as connection:
        insert_symbols(connection, "BTCUSDT", "ETHUSDT")
        for interval in (Interval.S1, Interval.M1, Interval.D1):
            insert_klines(connection, make_klines("BTCUSDT", interval, END_MS, 50))
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "0"}
    log = tmp_path / "log"
    with run_webapp(engines.environment, log, **variables) as webapp:
        webapp.wait_ready()
        documented = set(webapp.http.get("/api/schema/").json()["paths"])
        assert set(PATHS) <= documented
        result = run(webapp.port, SEED, REQUESTS, late_s=TIMEOUT_S)
    assert result.complaints == []
    assert result.statuses.total() == REQUESTS
    assert result.statuses[200] > REQUESTS // 10
    assert "request_failed" not in log.read_text("utf-8")
    assert "Traceback" not in log.read_text("utf-8")
