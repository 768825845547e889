"""A database server that stops without a word (SIGSTOP): the kernel still answers for it, the client ends the wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from runtime.database import OperationalError, connect, is_retryable
from tests.conftest import Engines
from tests.stack_process import wait_for
from tests.webapp_process import run_webapp


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """The server's processes of some connections, stopped meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_wait_for_a_stopped_server_ends(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(fresh_database, "hanging", statement_timeout_ms=500) as connection:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(5)")
        connection.rollback()
    monkeypatch.setattr("runtime.database.ANSWER_SLACK_S", 0.2)
    connection = connect(fresh_database, "hanging", statement_timeout_ms=500)
    with stopped([connection.info.backend_pid]):
        with pytest.raises(OperationalError, match="has not answered") as caught, connection.transaction():
            connection.execute("select 1")
        assert is_retryable(caught.value)
        assert connection.closed


@pytest.mark.timeout(120)
def test_the_web_application_says_that_its_database_hangs(
    engines: Engines, fresh_database: str, tmp_path: Path
) -> None:
    environment = engines.environment | {"DATABASE_URL": fresh_database, "ANALYST_DATABASE_URL": fresh_database}
    with (
        run_webapp(environment, tmp_path / "webapp.log") as webapp,
        psycopg.connect(fresh_database, autocommit=True) as database,
    ):
        webapp.wait_ready()
        assert webapp.http.get("/api/v1/gaps").status_code == 200
        ours = "select pid from pg_stat_activity where application_name = 'webapp' and datname = current_database()"
        pids = [pid for (pid,) in database.execute(ours)]
        with stopped([engines.stack.room("postgres")["pid"], *pids]):
            answer = webapp.http.get("/api/v1/gaps")
            assert (answer.status_code, "database does not answer" in answer.text) == (503, True)
            wait_for("health", lambda: any("database" in line for line in webapp.readiness()[1]), 30)
        webapp.wait_ready()
        assert webapp.http.get("/api/v1/gaps").status_code == 200
