"""Worker and beat as processes on the real Celery broker: roll-up by schedule, no exchange, stopped in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import psycopg

from tests.conftest import Engines
from tests.integration.test_aggregator_roll_up import START_MS, insert
from tests.klines_of import seconds_of
from tests.stack_process import ROOT, free_port, wait_for

WAIT_S = 120.0
#: Its own timer ends it after 3.5 s; the rest is for a slow machine.
STOP_S = 30.0


@contextmanager
def aggregator(engines: Engines, part: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m aggregator worker|beat`, killed at the end if it still runs."""
    environment = {**os.environ, **engines.environment, **variables}
    with subprocess.Popen([sys.executable, "-m", "aggregator", part], cwd=ROOT, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def reasons(port: int) -> list[str] | None:
    """What /healthz complains of; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return list(json.load(answer)["reasons"])
    except urllib.error.HTTPError as error:
        return list(json.load(error)["reasons"])
    except OSError:
        return None


def test_worker_rolls_up_by_beat_and_stops_in_time(engines: Engines, fresh_database: str) -> None:
    port = free_port()
    variables = {"DATABASE_URL": fresh_database, "EXCHANGE_REST_URL": "http://127.0.0.1:9"}
    with ExitStack() as running, psycopg.connect(fresh_database) as database:
        worker = running.enter_context(aggregator(engines, "worker", **variables, HEALTH_PORT=str(port)))
        beat = running.enter_context(aggregator(engines, "beat", **variables))
        day = database.execute(
            "select date_trunc('day', timestamptz 'epoch' + %s * interval '1 millisecond')", [START_MS]
        ).fetchall()[0][0]
        end = day + timedelta(days=2)
        database.execute(f"create table kline_1s_test partition of kline_1s for values from ('{day}') to ('{end}')")
        database.commit()
        insert(database, seconds_of("BTCUSDT", START_MS, 60))

        def candles() -> bool:
            with database.transaction():
                return database.execute("select count(*) from aggregated_kline").fetchall() == [(6,)]

        wait_for("the candles", candles, WAIT_S)
        wait_for("the empty outbox", lambda: _outbox_is_empty(database), WAIT_S)
        wait_for("health to name the exchange", lambda: any("exchange" in r for r in reasons(port) or []), WAIT_S)
        for process in (beat, worker):
            process.send_signal(signal.SIGTERM)
        for process in (beat, worker):
            assert process.wait(STOP_S) == 0
    assert not list(ROOT.glob("celerybeat-schedule*")), "beat keeps its schedule in memory, not in the checkout"


def _outbox_is_empty(database: psycopg.Connection[tuple[object, ...]]) -> bool:
    with database.transaction():
        return database.execute("select count(*) from candle_outbox").fetchall() == [(0,)]
