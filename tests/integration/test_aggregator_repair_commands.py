"""`candlewire backfill` as a process: recorded, filled, reopened; killed at every named point of the repair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from aggregator.roll_up import roll_up
from exchange_sim.service import RunningExchange
from market.interval import SECOND_MS
from tests.holed_ledger import SYMBOL, HoledLedger, exchange_in_thread, holed_ledger
from tests.stack_process import ROOT

COMMAND_TIMEOUT_S = 60
POINTS = ("repair_before_rows", "repair_after_rows", "repair_before_commit", "repair_after_commit")


@pytest.fixture(scope="module")
def exchange() -> Iterator[RunningExchange]:
    with exchange_in_thread() as running:
        yield running


def backfill(
    ledger: HoledLedger, database_url: str, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command against the test's database and exchange."""
    return subprocess.run(
        [sys.executable, "-m", "aggregator.backfill", *map(str, arguments)],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "EXCHANGE_REST_URL": f"http://127.0.0.1:{ledger.exchange.port}",
            "REPAIR_MAX_ATTEMPTS": "2",
            "REPAIR_MAX_DELAY_S": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def printed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_a_range_before_the_first_second_is_recorded_and_filled(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(10, 20)]) as ledger:
        start_ms = ledger.from_ms - 1_200 * SECOND_MS
        done = backfill(ledger, fresh_database, SYMBOL.lower(), "--from", start_ms, "--to", ledger.from_ms, "--json")
        assert done.returncode == 0, done.stderr
        assert printed(done) == {
            "complete": True,
            "ranges": [
                {
                    "symbol": SYMBOL, "from_time": start_ms, "to_time": ledger.from_ms, "recorded": 1_200,
                    "filled": 1_200, "absent": 0, "unrepairable": 0, "open": 0,
                }
            ],
        }  # fmt: skip
        assert ledger.one(
            "select detector from kline_gap where from_time < to_timestamp(%s)", ledger.from_ms / 1000
        ) == ("operator")
        again = backfill(ledger, fresh_database, SYMBOL)
        assert again.returncode == 0, again.stderr
        assert "0 open" in again.stdout
        assert ledger.sources() == {"rest": 1_210, "stream": 50}
        roll_up(ledger.connection)
        assert ledger.account(with_exchange=True).is_exact


def test_what_was_given_up_is_reopened_by_command(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        ledger.order(fault="rest_rows", rows="doubled", count=2)
        failed = backfill(ledger, fresh_database, SYMBOL, "--json")
        assert failed.returncode == 1, failed.stderr
        assert printed(failed)["ranges"][0]["unrepairable"] == 21
        assert ledger.gaps() == [(20, 41, "unrepairable", "rest", 2)]
        done = backfill(ledger, fresh_database, "--reopen", "--json")
        assert done.returncode == 0, done.stderr
        assert printed(done)["ranges"][0]["filled"] == 21
        assert ledger.gaps() == [(20, 41, "repaired", "rest", 0)]


def test_usage_errors(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 10, []) as ledger:
        assert backfill(ledger, fresh_database).returncode == 2
        assert backfill(ledger, fresh_database, "no symbol!").returncode == 2
        unknown = backfill(ledger, fresh_database, "ETHUSDT")
        assert unknown.returncode == 2
        assert "has no seconds here" in unknown.stderr


def test_killed_at_every_point_the_next_run_ends_exact(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 120, []) as ledger:
        for number, point in enumerate(POINTS):
            ledger.hole(number * 30 + 5, number * 30 + 15)
            killed = backfill(ledger, fresh_database, SYMBOL, CRASH_POINT=point)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            # One question covers all four gaps: they are all filled by the last, or none is.
            is_stored = point == "repair_after_commit"
            assert {gap[2] for gap in ledger.gaps()} == ({"repaired"} if is_stored else {"open"})
            assert ledger.account().rows == (120 if is_stored else 120 - 10 * (number + 1))
        done = backfill(ledger, fresh_database, SYMBOL)
        assert done.returncode == 0, done.stderr
        roll_up(ledger.connection)
        assert ledger.account(with_exchange=True).is_exact
