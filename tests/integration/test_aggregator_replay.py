"""`candlewire replay`: a tape becomes rows, candles and gaps in a schema of its own, the same every time."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest

from aggregator.replay import Replay, main
from market.binance_codec import decode_event
from market.digest import Second
from market.interval import SECOND_MS, Interval
from market.kline import VALUE_COLUMNS, Kline, differing_columns
from market.rollup import roll_up
from runtime.tape_file import TapeFile
from tests.stack_process import StackProcess, wait_for
from tests.tape_digest import digest_of_tape

HFTBACKTEST = "captures/hftbacktest_spot_btcusdt_20240808.gz"
CRYPTOFEED = "captures/cryptofeed_spot_20210404_btc_eth_dot.txt.gz"
FIVE_MINUTES_MS = 1_723_161_300_000
RECORDED_S = "8"
LINE_DEADLINE_S = 60.0


class Command:
    """`candlewire replay` against one database, in this process."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url

    def run(self, *arguments: str | Path, expect: int = 0) -> dict[str, Any]:
        """Its report; the words on stderr under `complaints`."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {"DATABASE_URL": self.database_url}),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code = main([*map(str, arguments), "--json"])
            except SystemExit as end:
                code = int(end.code or 0)
        assert code == expect, err.getvalue()
        return {**(json.loads(out.getvalue()) if out.getvalue() else {}), "complaints": err.getvalue()}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def command(module_database: str) -> Command:
    return Command(module_database)


def test_two_runs_and_two_speeds_say_the_same(command: Command, shared_data: Path) -> None:
    tape = shared_data / HFTBACKTEST
    at_once, paced = command.run(tape), command.run(tape, "--speed", "200")
    assert at_once["schema"] != paced["schema"]
    assert at_once["digest"] == paced["digest"] == digest_of_tape(tape)
    schema = at_once["schema"]
    assert (at_once["rows"], at_once["gaps"], at_once["dead_letters"]) == (345, 0, 0)
    assert command.rows(f"select count(*), count(distinct source), min(source) from {schema}.kline_1s") == [
        (345, 1, "trades")
    ]
    five = command.rows(
        f"select {', '.join(VALUE_COLUMNS)}, is_complete, is_closed, trades_count from {schema}.aggregated_kline"
        f" where interval = '5m' and open_time = to_timestamp({FIVE_MINUTES_MS // 1000})"
    )
    with gzip.open(shared_data / "klines/BTCUSDT-5m-2024-08.days01-08.csv.gz", "rt") as lines:
        theirs = next(row for row in csv.reader(lines) if row[0] == str(FIVE_MINUTES_MS))
    assert five == [(*map(Decimal, (*theirs[1:6], *theirs[7:11])), True, True, 300)]


def test_recorded_minute_messages_equal_our_seconds_where_they_can_be_judged(shared_data: Path) -> None:
    """A message that ends on the last trade of a second, in a minute whose every second we have, can be judged."""
    seconds: dict[str, list[Kline]] = {}
    run = Replay(TapeFile(shared_data / CRYPTOFEED))
    run.keep = lambda fact: (
        seconds.setdefault(fact.kline.symbol, []).append(fact.kline) if isinstance(fact, Second) else None
    )
    run.run(lambda received_ms: None)
    judged = dict.fromkeys(seconds, 0)
    for message in minute_messages(shared_data / CRYPTOFEED):
        inside = [k for k in seconds[message.symbol] if Interval.M1.floor(k.open_time_ms) == message.open_time_ms]
        ends = [i for i, k in enumerate(inside) if message.trade_count and k.last_trade_id == message.last_trade_id]
        if ends and inside[0].open_time_ms == message.open_time_ms:
            ours = roll_up(inside[: ends[0] + 1], Interval.M1)
            assert differing_columns(ours, message) == (), f"{message.symbol} at {message.event_time_ms}"
            judged[message.symbol] += 1
    assert sum(judged.values()) >= 5
    assert set(judged) == {"BTCUSDT", "ETHUSDT", "DOTUSDT"}


def minute_messages(path: Path) -> list[Kline]:
    """The kline_1m messages of a cryptofeed recording."""
    with gzip.open(path, "rt") as lines:
        frames = [json.loads(line.partition(": ")[2]) for line in lines if "@kline_1m" in line and line[0] == "1"]
    events = [decode_event(frame["stream"], json.dumps(frame["data"]).encode(), 0) for frame in frames]
    return [event for event in events if isinstance(event, Kline)]


def test_every_recorded_capture_twice(command: Command, shared_data: Path) -> None:
    captures = [path for path in sorted((shared_data / "captures").glob("*")) if ".json." not in path.name]
    digests = [digest_of_tape(path) for path in captures]
    assert digests == [digest_of_tape(path) for path in captures]
    assert len(set(digests)) > 4  # those of order books alone say nothing, and all the same
    refused = command.run(shared_data / "captures/polysim_20260718_spot_klines.json.gz", expect=2)
    assert "no known format" in refused["complaints"]


def test_a_cut_tape_is_replayed_to_the_cut(command: Command, shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / HFTBACKTEST).read_bytes()
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    report = command.run(cut, expect=1)
    assert 0 < report["rows"] < 345
    assert f"cut at line {report['cut_at_line']}" in report["complaints"]
    assert report["digest"] == digest_of_tape(cut)
    assert command.rows(f"select count(*) from {report['schema']}.kline_1s") == [(report["rows"],)]


def test_a_hole_in_the_trades_is_a_gap(command: Command, shared_data: Path, tmp_path: Path) -> None:
    holed = tmp_path / "holed.txt"
    holed.write_text(without_trades(shared_data / HFTBACKTEST))
    report = command.run(holed)
    (gap,) = command.rows(f"select from_time, to_time, cause, detector, state from {report['schema']}.kline_gap")
    assert gap[2:] == ("trade_chain", "trade_chain", "open")
    missing_s = (gap[1] - gap[0]).total_seconds()
    assert report["rows"] + missing_s == 345
    incomplete = command.rows(
        f"select count(*) from {report['schema']}.aggregated_kline where interval = '1m' and is_closed"
        " and not is_complete and row_count < 60"
    )
    assert incomplete[0][0] >= 1


def without_trades(path: Path) -> str:
    """The recording, less 50 trades that follow each other."""
    with gzip.open(path, "rt") as lines:
        return "".join(line for line in lines if not re.search('"t":37356840[0-4][0-9]', line))


def test_what_the_database_says_else_is_named(fresh_database: str, shared_data: Path, tmp_path: Path) -> None:
    """The live tables as the tape says, hole included; then one thing after the other is altered."""
    command, holed = Command(fresh_database), tmp_path / "holed.txt"
    holed.write_text(without_trades(shared_data / HFTBACKTEST))
    schema = command.run(holed)["schema"]
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        connection.execute("select ensure_kline_1s_day(date '2024-08-08'), ensure_kline_1s_day(date '2024-08-09')")
        for table in ("kline_1s", "aggregated_kline", "kline_gap"):
            connection.execute(f"insert into public.{table} overriding system value select * from {schema}.{table}")
        assert command.run(holed, "--against-database")["equal"]
        alterations = {
            "update kline_gap set state = 'repaired'": ["gap"],
            "update aggregated_kline set high = high + 1 where interval = '5m' and is_closed": ["5m", "gap"],
            # The longer bars reach beyond the tape, so they are made of the stored seconds; its 1m is stored.
            "delete from kline_1s where open_time = timestamptz '2024-08-08 23:57:30+00'": [
                "15m",
                "1d",
                "1h",
                "1s",
                "4h",
                "5m",
                "gap",
            ],
        }
        for statement, sections in alterations.items():
            connection.execute(statement.encode())
            report = command.run(holed, "--against-database", expect=1)
            assert report["different"] == [f"BTCUSDT {section}" for section in sections]
            assert report["digest"] != report["database_digest"]


def test_frames_that_cannot_be_used_are_listed(command: Command, tmp_path: Path) -> None:
    tape = tmp_path / "bad.txt"
    lines = [trade_line(i, 1_700_000_000_000 + 500 * i) for i in range(20)]
    at = "1700000000000000000 "
    lines[5:5] = [at + "{broken", "who knows", at + '{"stream":"btcusdt@trade","data":{}}']
    tape.write_text("\n".join(lines) + "\n")
    report = command.run(tape)
    letters = command.rows(
        f"select record_offset, reason, convert_from(payload, 'UTF8') from {report['schema']}.dead_letter order by 1"
    )
    assert [(offset, payload) for offset, _, payload in letters] == [(6 + i, lines[5 + i]) for i in range(3)]
    assert all(reason for _, reason, _ in letters)
    assert (report["dead_letters"], report["rows"]) == (3, 9)


def trade_line(trade_id: int, time_ms: int) -> str:
    data = {"E": time_ms, "s": "BTCUSDT", "t": trade_id, "p": "1", "q": "1", "T": time_ms, "m": True}
    return f"{time_ms}000000 " + json.dumps({"stream": "btcusdt@trade", "data": data})


def test_a_replay_never_touches_the_live_tables_and_is_dropped_by_name(command: Command, shared_data: Path) -> None:
    tape = shared_data / CRYPTOFEED
    report = command.run(tape, "--schema", "mine")
    taken = command.run(tape, "--schema", "mine", expect=2)
    assert "exists already" in taken["complaints"]
    for table in ("kline_1s", "aggregated_kline", "kline_gap", "dead_letter", "dirty_minute", "symbol_watermark"):
        assert command.rows(f"select count(*) from public.{table}") == [(0,)]
    assert command.rows("select count(*) from mine.kline_1s") == [(report["rows"],)]
    assert command.run("--drop", "mine")["dropped"] == "mine"
    assert command.rows("select to_regnamespace('mine') is null") == [(True,)]


def test_only_a_schema_of_a_replay_is_dropped(command: Command) -> None:
    with psycopg.connect(command.database_url) as connection:
        connection.execute("create schema somebodys")
    for name in ("somebodys", "public", "pg_catalog", "nobodys", "x; drop schema public"):
        assert command.run("--drop", name, expect=2)["complaints"]
    assert command.rows("select to_regnamespace('somebodys') is null") == [(False,)]


@pytest.mark.parametrize(
    "arguments", [(), ("a", "--drop", "b"), ("a", "--speed", "-1"), ("a", "--speed", "nan"), ("none",)]
)
def test_wrong_usage(command: Command, arguments: tuple[str, ...]) -> None:
    assert command.run(*arguments, expect=2)["complaints"]


def test_a_recording_of_the_running_line_says_what_its_database_says(full_stack: StackProcess, tmp_path: Path) -> None:
    tape = tmp_path / "live.tape.zst"
    recorded = full_stack.json("record", "--output", str(tape), "--seconds", RECORDED_S, "--json")
    windows = recorded["windows"]
    assert windows
    # Other tests on this stack have let go of a symbol, which stands still then.
    query = (
        "select min(event_time) >= to_timestamp(%s) from symbol_watermark join market_symbol using (symbol)"
        " where stream = 'kline_1s' and is_followed"
    )
    end_s = max(to_ms for _, to_ms in windows.values()) / SECOND_MS
    with full_stack.connect() as connection:
        wait_for(
            "the seconds of the recording in the database",
            lambda: connection.execute(query, [end_s]).fetchone() == (True,),
            LINE_DEADLINE_S,
        )
    replayed = full_stack.json("replay", str(tape), "--json")
    compared = full_stack.json("replay", str(tape), "--against-database", "--json")
    full_stack.json("replay", "--drop", replayed["schema"], "--json")
    assert recorded["digest"] == replayed["digest"] == compared["digest"] == compared["database_digest"]
    assert compared["equal"]
