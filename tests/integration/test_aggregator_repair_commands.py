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

from aggregator.missing import Refused, record_missing
from aggregator.roll_up import roll_up
from exchange_sim.service import RunningExchange
from market.interval import SECOND_MS
from runtime.operations.catalogue import MAX_RANGE_MS
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


def test_seconds_that_retention_has_dropped_are_not_missing(fresh_database: str, exchange: RunningExchange) -> None:
    """The ledger keeps an old repaired gap; the rows around it are gone."""
    with holed_ledger(fresh_database, exchange, 60, []) as ledger:
        ledger.connection.execute(
            "insert into kline_gap (symbol, from_time, to_time, cause, state, resolved_by) values (%s,"
            " to_timestamp(%s), to_timestamp(%s), 'silence', 'repaired', 'rest')",
            [SYMBOL, ledger.from_ms / 1000 - 259_200, ledger.from_ms / 1000 - 259_140],
        )
        ledger.connection.commit()
        done = backfill(ledger, fresh_database, SYMBOL, "--json")
        assert done.returncode == 0, done.stderr
        (told,) = printed(done)["ranges"]
        assert (told["from_time"], told["recorded"], told["filled"]) == (ledger.from_ms, 0, 0)


def test_a_repair_long_before_the_first_second_does_not_list_the_years_between(
    fresh_database: str, exchange: RunningExchange
) -> None:
    with holed_ledger(fresh_database, exchange, 60, []) as ledger:
        far_ms = ledger.from_ms - MAX_RANGE_MS - SECOND_MS
        with pytest.raises(Refused, match="more than 31 days"):
            record_missing(ledger.connection, SYMBOL, far_ms, far_ms + SECOND_MS, MAX_RANGE_MS)
        assert ledger.gaps() == []


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


def test_killed_before_a_suspect_is_settled_the_next_run_settles_it(
    fresh_database: str, exchange: RunningExchange
) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(50, 52)]) as ledger:
        ledger.connection.execute("update kline_gap set next_attempt_at = now() + interval '1 hour'")
        second_s = ledger.from_ms / 1000 + 15
        ledger.connection.execute(
            "update kline_1s set base_volume = base_volume + 5 where open_time = to_timestamp(%s)", [second_s]
        )
        ledger.connection.execute(
            "insert into suspect_range (symbol, from_time, to_time, reason) values (%s, to_timestamp(%s),"
            " to_timestamp(%s), 'trade_chain')",
            [SYMBOL, second_s - 5, second_s + 5],
        )
        ledger.connection.commit()
        killed = backfill(ledger, fresh_database, SYMBOL, CRASH_POINT="suspect_before_commit")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert ledger.one("select state from suspect_range") == "open"
        assert ledger.sources() == {"stream": 58}
        ledger.make_due()
        ledger.run(ledger.repair())
        assert ledger.one("select state from suspect_range") == "corrected"
        roll_up(ledger.connection)
        assert ledger.account(with_exchange=True).is_exact
