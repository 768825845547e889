"""The web application while the database is away: pages of ours that ask again, answers in their dialect, a stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.conftest import Engines
from tests.stack_process import free_port, wait_for
from tests.webapp_process import DEADLINE_S, WebappProcess, run_webapp


def test_a_page_says_that_the_database_is_away_and_asks_again(tmp_path: Path) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    with run_webapp({}, tmp_path / "log", DATABASE_URL=nowhere, ANALYST_DATABASE_URL="") as process:
        wait_for("the web application", lambda: process.readiness()[0] == 503, DEADLINE_S)
        answer = httpx.get(f"{process.url}/chart/BTCUSDT", timeout=DEADLINE_S)
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
        assert "The database is away" in answer.text
        assert '<meta http-equiv="refresh"' in answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        # Pages that need no data are there.
        assert httpx.get(f"{process.url}/about/", timeout=DEADLINE_S).status_code == 200
        # What is not allowed is refused, though the row of it cannot be written.
        refused = httpx.post(f"{process.url}/api/v1/operator/actions/pause", json={"confirm": True}, timeout=DEADLINE_S)
        assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/problem+json")
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_it_waits_for_the_database_and_stops_meanwhile(engines: Engines, tmp_path: Path) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    variables = {"DATABASE_URL": nowhere, "ANALYST_DATABASE_URL": ""}
    with run_webapp(engines.environment, tmp_path / "log", **variables) as process:
        wait_for("the reason", lambda: "database" in " ".join(process.readiness()[1]), DEADLINE_S)
        answer = httpx.get(f"{process.url}/api/v3/ticker/price", timeout=DEADLINE_S)
        assert (answer.status_code, answer.json()["code"]) == (503, -1001)
        problem = httpx.get(f"{process.url}/api/v1/symbols", timeout=DEADLINE_S)
        assert (problem.status_code, problem.headers["Content-Type"]) == (503, "application/problem+json")
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(DEADLINE_S) == 0


@pytest.fixture
def beside(
    engines: Engines, fresh_database: str, tmp_path: Path
) -> Iterator[tuple[WebappProcess, psycopg.Connection[TupleRow]]]:
    """The web application, ready on a database of its own, and a connection of ours to that database."""
    variables = {"DATABASE_URL": fresh_database, "ANALYST_DATABASE_URL": ""}
    with (
        run_webapp(engines.environment, tmp_path / "log", **variables) as process,
        psycopg.connect(fresh_database, autocommit=True) as database,
    ):
        wait_for("the web application", lambda: process.readiness()[0] == 200, DEADLINE_S)
        yield process, database


def test_connections_that_the_database_has_ended_fail_no_request(
    beside: tuple[WebappProcess, psycopg.Connection[TupleRow]],
) -> None:
    process, database = beside

    def statuses() -> set[int]:
        # At the same time: several threads answer, each over a connection of its own.
        with ThreadPoolExecutor(8) as clients:
            asked = [clients.submit(httpx.get, f"{process.url}/api/v1/symbols", timeout=60) for _ in range(32)]
            return {answer.result().status_code for answer in asked}

    assert statuses() == {200}
    ended = database.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    ).fetchall()
    assert len(ended) > 2
    assert statuses() == {200}


def test_a_migration_beside_requests_costs_a_thread_one_answer(
    beside: tuple[WebappProcess, psycopg.Connection[TupleRow]],
) -> None:
    process, database = beside
    with httpx.Client(base_url=process.url, timeout=DEADLINE_S) as client:
        # Often enough to be prepared by every thread that takes part.
        assert {client.get("/api/v3/exchangeInfo").status_code for _ in range(60)} == {200}
        database.execute("alter table market_symbol alter column step_size type numeric(38, 18)")
        assert [client.get("/api/v3/exchangeInfo").status_code for _ in range(60)][-20:] == [200] * 20
