"""`candlewire rebuild` on a real PostgreSQL: equal candles, planted differences, and their mending."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aggregator import rebuild
from aggregator.roll_up import roll_up
from market.interval import DAY_MS, HOUR_MS, MINUTE_MS
from runtime.database import Connection, TupleRow, connect
from tests.aggregator_rows import candles_of, insert, make_days
from tests.klines_of import seconds_of

#: The last hour of a day, so that a bar of every length ends with it; 1d begins before the first second.
START_MS = 1_799_971_200_000 - 1_799_971_200_000 % DAY_MS + DAY_MS - HOUR_MS
SECONDS = 3_600
WHOLE = ["--from", str(START_MS), "--to", str(START_MS + HOUR_MS), "--json"]


@pytest.fixture
def database(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection[TupleRow]]:
    """An hour with quiet seconds and holes, rolled up; the command finds it."""
    monkeypatch.setenv("DATABASE_URL", fresh_database)
    with connect(fresh_database, "test") as connection:
        make_days(connection, START_MS)
        klines = seconds_of("BTCUSDT", START_MS, SECONDS)
        insert(connection, [k for i, k in enumerate(klines) if i not in range(500, 700)], START_MS + HOUR_MS)
        while roll_up(connection, max_minutes=50).more:
            pass
        yield connection


Told = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """The command with its answer."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = rebuild.main([*WHOLE, *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


def at(minute: int) -> str:
    """SQL of that minute of the hour."""
    return f"timestamptz 'epoch' + {START_MS + minute * MINUTE_MS} * interval '1 millisecond'"


def change(connection: Connection[TupleRow], statement: str) -> None:
    connection.execute(statement)
    connection.commit()


@pytest.mark.usefixtures("database")
def test_candles_of_the_roll_up_equal_the_rule(told: Told) -> None:
    code, found = told()
    # 58 minutes (two have no second at all), and the bars of 5m, 15m, 1h that lie whole within the hour.
    assert (code, found["compared"], found["differences"]) == (0, 58 + 12 + 4 + 1, [])


def test_planted_differences_are_found_and_mended_by_the_roll_up(database: Connection[TupleRow], told: Told) -> None:
    before = candles_of(database, "BTCUSDT")
    change(database, f"update aggregated_kline set quote_volume = 1 where interval = '15m' and open_time = {at(0)}")
    change(database, f"delete from aggregated_kline where interval = '1m' and open_time = {at(30)}")
    code, found = told()
    assert code == 1
    assert [(row["interval"], row["open_time"], row["columns"]) for row in found["differences"]] == [
        ("1m", START_MS + 30 * MINUTE_MS, ["missing"]),
        ("15m", START_MS, ["quote_volume"]),
    ]
    code, found = told("--apply")
    assert (code, found["marked"]) == (1, 2)
    while roll_up(database).minutes:
        pass
    assert told()[0] == 0
    after = candles_of(database, "BTCUSDT")
    assert after.keys() == before.keys()
    assert all(after[key].quote_volume == candle.quote_volume for key, candle in before.items())


def test_bars_of_the_exchange_and_of_dropped_seconds_are_left_out(database: Connection[TupleRow], told: Told) -> None:
    change(database, "update aggregated_kline set source = 'rest', high = high + 1 where interval = '1h'")
    code, found = told()
    assert (code, found["left_out"]) == (0, 1)
    change(database, f"delete from kline_1s where open_time < {at(16)}")
    code, found = told()
    assert (code, found["differences"]) == (0, [])


def test_a_range_that_ends_before_it_begins_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as error:
        rebuild.main(["--from", "60000", "--to", "60000"])
    assert error.value.code == 2


def test_a_symbol_without_seconds_is_a_usage_error(
    database: Connection[TupleRow], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        rebuild.main([*WHOLE, "--symbol", "NOSUCHUSDT"])
    assert ended.value.code == 2
    assert "NOSUCHUSDT has no seconds here" in capsys.readouterr().err
