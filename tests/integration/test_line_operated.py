"""The whole line obeys its operators: symbols come and go while it runs, rooms pause, and the ledger stays exact."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import httpx
import psycopg
import pytest
import websockets.sync.client

from tests.stack_process import CANDLEWIRE, ROOT, StackProcess, wait_for

#: Listed by the simulated exchange, not among the followed ones.
SYMBOL = "ADAUSDT"
DEADLINE_S = 90.0
SPAN = """
select min(open_time), (select event_time from symbol_watermark where symbol = %(symbol)s and stream = 'kline_1s'),
       count(*) from kline_1s where symbol = %(symbol)s
"""
MISSING = """
select coalesce(sum(extract(epoch from to_time - from_time)), 0)::int from kline_gap
where symbol = %(symbol)s and interval = '1s' and state <> 'repaired'
"""


def candlewire(stack: StackProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and what `--json` prints."""
    done = subprocess.run(
        [str(CANDLEWIRE), *arguments, "--json"], cwd=ROOT, env=stack.environment, capture_output=True, text=True,
        check=False, timeout=DEADLINE_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else {"stderr": done.stderr}


def order(stack: StackProcess, *arguments: str) -> str:
    """What became of an action that must be done."""
    code, found = candlewire(stack, *arguments, "--yes")
    assert (code, found.get("state")) == (0, "done"), found
    return str(found["detail"])


def one(connection: psycopg.Connection[Any], query: str, **values: object) -> Any:
    """The first column of the first row."""
    row = connection.execute(query, values).fetchone()
    return row and row[0]


def watermark_s(connection: psycopg.Connection[Any], symbol: str) -> int:
    """How far the symbol has come; 0 when nothing of it has."""
    query = "select extract(epoch from event_time)::bigint from symbol_watermark where symbol = %(symbol)s"
    return int(one(connection, query, symbol=symbol) or 0)


def unaccounted_s(connection: psycopg.Connection[Any], symbol: str) -> int:
    """Seconds from the first row to the watermark that are neither a row nor in a gap."""
    connection.execute("begin isolation level repeatable read")
    try:
        row = connection.execute(SPAN, {"symbol": symbol}).fetchone()
        missing = one(connection, MISSING, symbol=symbol)
    finally:
        connection.execute("rollback")
    assert row is not None
    first, watermark, count = row
    return int((watermark - first).total_seconds() - count - missing)


def comes_on(connection: psycopg.Connection[Any], symbol: str) -> None:
    """Until three more seconds of the symbol are stored."""
    start_s = watermark_s(connection, symbol)
    wait_for(f"{symbol} to come on", lambda: watermark_s(connection, symbol) > start_s + 2, DEADLINE_S)


def followed(stack: StackProcess) -> set[str]:
    """Symbols of the market list."""
    answer = httpx.get(f"{stack.status()['urls']['web']}/api/v1/symbols", timeout=DEADLINE_S)
    return {row["symbol"] for row in answer.json()["symbols"]}


@pytest.mark.timeout(300)
def test_a_symbol_comes_and_goes_and_comes_again_with_an_exact_ledger(full_stack: StackProcess) -> None:
    with full_stack.connect() as connection:
        connection.autocommit = True
        comes_on(connection, "BTCUSDT")
        restarts = {room["name"]: room["restarts"] for room in full_stack.status()["rooms"]}
        code, found = candlewire(full_stack, "symbols", "add", "NOSUCHUSDT", "--yes")
        assert (code, found["state"]) == (1, "failed")
        assert "does not know NOSUCHUSDT" in found["detail"]
        order(full_stack, "symbols", "add", SYMBOL)
        try:
            comes_on(connection, SYMBOL)
            assert unaccounted_s(connection, SYMBOL) == 0
            assert SYMBOL in followed(full_stack)
            assert SYMBOL in full_stack.status()["symbols"]
            stream = f"{full_stack.status()['urls']['stream']}/ws/{SYMBOL.lower()}@kline_1s"
            with websockets.sync.client.connect(stream, proxy=None) as socket:
                assert json.loads(socket.recv(timeout=DEADLINE_S))["s"] == SYMBOL
        finally:
            order(full_stack, "symbols", "remove", SYMBOL)
        assert SYMBOL not in followed(full_stack)
        wait_for("the status", lambda: SYMBOL not in full_stack.status()["symbols"], DEADLINE_S)
        gone_s = _end(connection)
        comes_on(connection, "BTCUSDT")
        assert watermark_s(connection, SYMBOL) == gone_s
        assert one(connection, MISSING, symbol=SYMBOL) == 0
        order(full_stack, "symbols", "add", SYMBOL)
        try:
            comes_on(connection, SYMBOL)
            hole = "select extract(epoch from min(from_time))::bigint from kline_gap where symbol = %(symbol)s"
            assert one(connection, hole, symbol=SYMBOL) == gone_s
            wait_for("the repair", lambda: one(connection, MISSING, symbol=SYMBOL) == 0, DEADLINE_S)
            assert unaccounted_s(connection, SYMBOL) == 0
            loaded = "select history_loaded_at is not null from market_symbol where symbol = %(symbol)s"
            wait_for("its history", lambda: one(connection, loaded, symbol=SYMBOL), DEADLINE_S)
        finally:
            order(full_stack, "symbols", "remove", SYMBOL)
        assert {room["name"]: room["restarts"] for room in full_stack.status()["rooms"]} == restarts
        code, listed = candlewire(full_stack, "symbols", "list")
        assert (code, {row["symbol"]: row["is_followed"] for row in listed["symbols"]}[SYMBOL]) == (0, False)


def _end(connection: psycopg.Connection[Any]) -> int:
    """Where the symbol's seconds end: once they have not grown while three of another have come."""
    while True:
        before_s = watermark_s(connection, SYMBOL)
        comes_on(connection, "BTCUSDT")
        if watermark_s(connection, SYMBOL) == before_s:
            return before_s


@pytest.mark.timeout(300)
def test_a_paused_producer_leaves_a_hole_that_is_listed_and_repaired(full_stack: StackProcess) -> None:
    with full_stack.connect() as connection:
        connection.autocommit = True
        comes_on(connection, "BTCUSDT")
        code, refused = candlewire(full_stack, "pause", "producer")
        assert (code, "not confirmed" in refused["stderr"]) == (2, True)
        assert candlewire(full_stack, "pause", "webapp", "--yes")[0] == 2
        order(full_stack, "pause", "producer")
        try:
            paused_s = watermark_s(connection, "BTCUSDT")
            rooms = {room["name"]: room for room in full_stack.status()["rooms"]}
            assert not rooms["producer"]["ready"]
            gap = """
            select extract(epoch from sum(to_time - from_time))::int from kline_gap where symbol = 'BTCUSDT'
            and to_time > to_timestamp(%(at)s) and cause = 'downtime'
            """
            wait_for("the hole to be listed", lambda: (one(connection, gap, at=paused_s) or 0) > 3, DEADLINE_S)
        finally:
            order(full_stack, "resume", "producer")
        comes_on(connection, "BTCUSDT")
        wait_for("the repair", lambda: one(connection, MISSING, symbol="BTCUSDT") == 0, DEADLINE_S)
        assert unaccounted_s(connection, "BTCUSDT") == 0
        wait_for("readiness", lambda: full_stack.status()["ready"], DEADLINE_S)
        code, found = candlewire(full_stack, "actions")
        newest = [(row["action"], row["state"]) for row in found["actions"][:3]]
        assert newest == [("resume", "done"), ("pause", "done"), ("pause", "refused")]
        assert all(row["requested_by"].startswith("command line (") for row in found["actions"])


def test_a_range_is_repaired_on_request(full_stack: StackProcess) -> None:
    with full_stack.connect() as connection:
        connection.autocommit = True
        comes_on(connection, "ETHUSDT")
        end_s = watermark_s(connection, "ETHUSDT") - 1
        values = {"from": end_s - 2, "to": end_s}
        # Lost without a trace, as by a deletion by hand.
        connection.execute(
            "delete from kline_1s where symbol = 'ETHUSDT' and open_time >= to_timestamp(%(from)s) "
            "and open_time < to_timestamp(%(to)s)",
            values,
        )
        assert unaccounted_s(connection, "ETHUSDT") >= 2
        times = [str(second * 1000) for second in values.values()]
        detail = order(full_stack, "repair", "ETHUSDT", "--from", times[0], "--to", times[1])
        assert detail.startswith("2 s newly listed as missing")
        wait_for("the repair", lambda: one(connection, MISSING, symbol="ETHUSDT") == 0, DEADLINE_S)
        assert unaccounted_s(connection, "ETHUSDT") == 0
        assert candlewire(full_stack, "reopen", "999999999", "--yes")[1]["detail"] == "there is no gap 999999999"


def test_commands_of_operators_without_a_stack_say_so(tmp_path: Any) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path)}
    environment.pop("DATABASE_URL", None)
    for arguments in (("actions",), ("pause", "inserter", "--yes"), ("letters", "list"), ("symbols", "list")):
        done = subprocess.run(
            [str(CANDLEWIRE), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "no database" in done.stderr) == (1, True)
