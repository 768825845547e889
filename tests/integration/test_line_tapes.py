"""Recorded traffic through the whole line (exchange, Kafka, PostgreSQL, Celery) ends in the exchange's own candles."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from market.binance_codec import decode_event
from market.interval import Interval
from market.kline import VALUE_COLUMNS, Kline, differing_columns
from market.rollup import roll_up
from tests.chaos.account import to_kline
from tests.stack_process import StackProcess, wait_for

FIVE_MINUTES_MS = 1723161300000
#: End of the last second that the tape holds whole.
LAST_SECOND_MS = 1723161601000
LINE_DEADLINE_S = 120.0
AGAINST = ("--against-database", "--json")


def stored_seconds(connection: psycopg.Connection[Any], symbol: str) -> list[Kline]:
    """All 1s rows of the symbol, in order."""
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    rows = cursor.execute("select * from kline_1s where symbol = %s order by open_time", [symbol]).fetchall()
    return [to_kline(row) for row in rows]


@pytest.mark.timeout(300)
def test_recorded_trades_end_as_the_exchanges_five_minute_candle(shared_data: Path, tmp_path: Path) -> None:
    tape = shared_data / "captures/hftbacktest_spot_btcusdt_20240808.gz"
    query = (
        "select * from aggregated_kline where symbol = 'BTCUSDT' and interval = '5m' and source = 'seconds'"
        " and is_complete and is_closed and open_time = to_timestamp(%s)"
    )
    with (
        StackProcess(
            tmp_path, SOURCE="tape", TAPE=str(tape), TAPE_SPEED="40", TAPE_SHIFT="none", SYMBOLS="BTCUSDT"
        ) as stack,
        stack.connect() as connection,
    ):
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        ours = wait_for(
            "the 5m candle", lambda: cursor.execute(query, [FIVE_MINUTES_MS / 1000]).fetchone(), LINE_DEADLINE_S
        )
        gaps = connection.execute("select count(*) from kline_gap").fetchone()
        ended = "select event_time >= to_timestamp(%s) from symbol_watermark where stream = 'kline_1s'"
        wait_for(
            "the last second of the tape",
            lambda: connection.execute(ended, [LAST_SECOND_MS / 1000]).fetchone() == (True,),
            LINE_DEADLINE_S,
        )
        compared = stack.command("replay", str(tape), *AGAINST)
    theirs = exchange_candle(shared_data / "klines/BTCUSDT-5m-2024-08.days01-08.csv.gz")
    assert {name: Decimal(ours[name]) for name in VALUE_COLUMNS} == theirs
    assert ours["trade_count"] == 8863
    assert gaps == (0,)
    assert compared.returncode == 0, compared.stdout


def exchange_candle(path: Path) -> dict[str, Decimal]:
    """The nine values of the exchange's own candle, from its archive."""
    with gzip.open(path, "rt") as lines:
        row = next(row for row in csv.reader(lines) if row[0] == str(FIVE_MINUTES_MS))
    return dict(zip(VALUE_COLUMNS, map(Decimal, [*row[1:6], *row[7:11]]), strict=True))


def recorded_minutes(path: Path) -> Iterator[Kline]:
    """The kline_1m messages of a cryptofeed recording."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if "@kline_1m" in line and not line.startswith("wss://"):
                frame = json.loads(line.partition(": ")[2])
                event = decode_event(frame["stream"], json.dumps(frame["data"]).encode(), 0)
                assert isinstance(event, Kline)
                yield event


@pytest.mark.timeout(300)
def test_recorded_minute_messages_equal_our_seconds_where_they_can_be_judged(shared_data: Path, tmp_path: Path) -> None:
    """A message that ends on the last trade of a second, in a minute whose every second we have, can be judged."""
    tape = shared_data / "captures/cryptofeed_spot_20210404_btc_eth_dot.txt.gz"
    symbols = ("BTCUSDT", "ETHUSDT", "DOTUSDT")
    variables = {"SOURCE": "tape", "TAPE": str(tape), "TAPE_SPEED": "20", "TAPE_SHIFT": "none"}
    messages = list(recorded_minutes(tape))
    minute_ms = max(message.open_time_ms for message in messages)
    with StackProcess(tmp_path, SYMBOLS=",".join(symbols), **variables) as stack, stack.connect() as connection:
        query = "select count(*) from symbol_watermark where event_time >= to_timestamp(%s)"
        last_second = (minute_ms + 40_000) / 1000
        wait_for(
            "the end of the tape", lambda: connection.execute(query, [last_second]).fetchone() == (3,), LINE_DEADLINE_S
        )
        seconds = {symbol: stored_seconds(connection, symbol) for symbol in symbols}
    judged = 0
    for message in (m for m in messages if m.open_time_ms == minute_ms and m.trade_count):
        inside = [k for k in seconds[message.symbol] if k.open_time_ms >= minute_ms]
        ends = [index for index, k in enumerate(inside) if k.last_trade_id == message.last_trade_id]
        if ends:
            ours = roll_up(inside[: ends[0] + 1], Interval.M1)
            assert differing_columns(ours, message) == (), f"{message.symbol} at {message.event_time_ms}"
            judged += 1
    assert judged >= 5
