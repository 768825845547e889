"""The web application as a process of its own on free ports, and rows for it to show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from market.interval import Interval
from market.kline import VALUE_COLUMNS, Kline
from runtime.clock import new_random
from tests.stack_process import ROOT, free_port, wait_for

DEADLINE_S = 90.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: 2026-11-21 00:00 UTC, a Saturday: where the rows of the tests end.
END_MS = 1_795_219_200_000


class WebappProcess:
    """A running `python -m webapp`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, health_port: int, log: Path) -> None:
        self.process, self.port, self.health_port, self.log = process, port, health_port, log
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=DEADLINE_S)

    def readiness(self) -> tuple[int, list[str]]:
        """Status and reasons of /readyz; 0 when nobody listens yet."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.health_port}/readyz", timeout=DEADLINE_S)
        except httpx.TransportError:
            return 0, []
        return answer.status_code, answer.json()["reasons"]

    def wait_ready(self) -> None:
        """Until it says that it is ready. Raises TimeoutError."""
        wait_for("webapp", lambda: self.readiness()[0] == 200, DEADLINE_S)


@contextmanager
def run_webapp(
    environment: dict[str, str], log: Path, program: tuple[str, ...] = ("webapp",), **variables: str
) -> Iterator[WebappProcess]:
    """Start the web application (not waiting for it), stop it at the end."""
    port, health_port = free_port(), free_port()
    settings = {"PORT": str(port), "HEALTH_PORT": str(health_port), "SOURCE": "sim", **variables}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *program],
            cwd=ROOT,
            env={**os.environ, **environment, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    webapp = WebappProcess(process, port, health_port, log)
    try:
        yield webapp
    finally:
        # The server gives a connection that is kept open two seconds more.
        webapp.http.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


def name_of(database_url: str) -> str:
    """The database of a connection string."""
    return urlsplit(database_url).path.lstrip("/")


def moment(time_ms: int) -> datetime:
    """For the database."""
    return EPOCH + timedelta(milliseconds=time_ms)


def make_klines(symbol: str, interval: Interval, end_ms: int, count: int, seed: int = 1) -> list[Kline]:
    """`count` klines before `end_ms`, oldest first; every third without trades."""
    rng = new_random(seed)
    price = Decimal("100.00")
    klines = []
    for number in range(count):
        open_ms = interval.floor(end_ms) - (count - number) * interval.length_ms
        quiet = number % 3 == 2
        prices = [price + Decimal(rng.randint(-50, 50)) / 100 for _ in range(4)]
        if quiet:
            prices = [price] * 4
        volume = Decimal(0) if quiet else Decimal(2 * rng.randint(1, 10**9)) / 10**8
        klines.append(
            Kline(
                symbol=symbol,
                interval=interval,
                open_time_ms=open_ms,
                close_time_ms=interval.close_time(open_ms),
                open=prices[0],
                high=max(prices),
                low=min(prices),
                close=prices[1],
                base_volume=volume,
                quote_volume=volume * 100,
                trade_count=0 if quiet else rng.randint(1, 50),
                taker_buy_base_volume=volume / 2,
                taker_buy_quote_volume=volume * 50,
                first_trade_id=-1 if quiet else number * 100,
                last_trade_id=-1 if quiet else number * 100 + 50,
                is_closed=True,
                event_time_ms=open_ms + interval.length_ms,
                received_at_ms=open_ms + interval.length_ms + 20,
            )
        )
        price = prices[1]
    return klines


_VALUES = (*VALUE_COLUMNS, "first_trade_id", "last_trade_id")


def insert_klines(connection: psycopg.Connection, klines: list[Kline], *, forming: bool = False) -> None:
    """Store them: 1s in kline_1s, others in aggregated_kline; with `forming` the last one is not over."""
    table = "kline_1s" if klines[0].interval is Interval.S1 else "aggregated_kline"
    if table == "kline_1s":
        connection.execute("create table if not exists kline_1s_tests partition of kline_1s default")
    rows = []
    for kline in klines:
        row = {name: getattr(kline, name) for name in ("symbol", *_VALUES)}
        row["open_time"], row["close_time"] = moment(kline.open_time_ms), moment(kline.close_time_ms)
        row["event_time"] = moment(kline.event_time_ms)
        if table == "kline_1s":
            row |= {"received_at": moment(kline.received_at_ms), "source": "stream"}
        else:
            is_open = forming and kline is klines[-1]
            seconds = kline.interval.seconds // 2 if is_open else kline.interval.seconds
            row |= {
                "interval": kline.interval.value,
                "row_count": seconds,
                "expected_count": kline.interval.seconds,
                "covered_until": moment(kline.open_time_ms + seconds * 1000),
                "is_complete": not is_open,
                "is_closed": not is_open,
                "source": "seconds",
            }
        rows.append(row)
    columns, marks = ", ".join(rows[0]), ", ".join(["%s"] * len(rows[0]))
    with connection.cursor() as cursor:
        cursor.executemany(f"insert into {table} ({columns}) values ({marks})", [list(row.values()) for row in rows])


def insert_symbols(connection: psycopg.Connection, *symbols: str) -> None:
    """Follow these symbols."""
    for rank, symbol in enumerate(symbols, 1):
        connection.execute(
            "insert into market_symbol values (%s, %s, 'USDT', 'TRADING', 0.01000000, 0.00001000, %s, true)",
            [symbol, symbol.removesuffix("USDT"), rank],
        )
