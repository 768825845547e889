"""The relay as a process of its own on free ports, and records for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from market.interval import Interval
from market.kline import Kline
from market.record_codec import Record, encode_record
from market.trade import Trade
from runtime.clock import SystemClock
from runtime.kafka_client import KafkaProducer, new_producer
from tests.stack_process import ROOT, free_port, wait_for

DEADLINE_S = 90.0
clock = SystemClock()


class RelayProcess:
    """`python -m flask_stream` with these variables; use as a context manager."""

    def __init__(self, environment: dict[str, str], log: Path, **variables: str) -> None:
        self.port, self.health_port = free_port(), free_port()
        self.log = log
        self._environment = {
            **environment,
            "STREAM_PORT": str(self.port),
            "HEALTH_PORT": str(self.health_port),
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RelayProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flask_stream"],
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for("the relay", lambda: self._health("readyz")[0] == 200, DEADLINE_S)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE_S)

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self._process is not None
        return self._process.pid

    def url(self, path: str = "/live") -> str:
        """WebSocket address."""
        return f"ws://127.0.0.1:{self.port}{path}"

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of /healthz."""
        return self._health("healthz")

    def metric(self, name: str) -> float:
        """Value of the series that is written `name` in /metrics; 0 when it is not there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                series, _, value = line.rpartition(" ")
                if series == name:
                    return float(value)
        return 0.0

    def _health(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError as error:
            return 0, {"error": str(error)}


class Live:
    """A client of /live."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def subscribe(self, *channels: str, **options: object) -> None:
        """Ask for channels."""
        await self.connection.send(json.dumps({"op": "subscribe", "ch": channels, **options}))

    async def next(self) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.connection.recv(), DEADLINE_S))
        return message

    async def some(self, count: int) -> list[dict[str, Any]]:
        """The next `count` messages."""
        return [await self.next() for _ in range(count)]


@asynccontextmanager
async def live(relay: RelayProcess, **options: Any) -> AsyncIterator[Live]:
    """A connected client of /live."""
    async with connect(relay.url(), max_size=None, **options) as connection:
        yield Live(connection)


class Feed:
    """Writes records of one symbol to the topics."""

    def __init__(self, producer: KafkaProducer, symbol: str) -> None:
        self._producer = producer
        self.symbol = symbol

    async def send(self, topic: str, records: Iterable[Record]) -> None:
        """Write the records; returns when the broker has them."""
        for record in records:
            await self._producer.send(topic, encode_record(record), key=self.symbol.encode())
        await self._producer.flush()

    async def trades(self, first_id: int, count: int) -> None:
        """`count` trades with ids from `first_id`."""
        await self.send("trade", [self.trade(first_id + index) for index in range(count)])

    def trade(self, trade_id: int) -> Trade:
        """A trade of now."""
        now_ms = clock.now_ms()
        return Trade(
            symbol=self.symbol,
            trade_id=trade_id,
            price=Decimal("100.50"),
            quantity=Decimal("0.00000100"),
            trade_time_ms=now_ms,
            is_buyer_maker=False,
            event_time_ms=now_ms,
            received_at_ms=now_ms,
        )

    def second(self, open_time_ms: int) -> Kline:
        """A closed 1s kline."""
        return Kline(
            symbol=self.symbol,
            interval=Interval.S1,
            open_time_ms=open_time_ms,
            close_time_ms=open_time_ms + 999,
            open=Decimal("100.10"),
            high=Decimal("100.30"),
            low=Decimal("100.00"),
            close=Decimal("100.20"),
            base_volume=Decimal("1.50000000"),
            quote_volume=Decimal("150.00000000"),
            trade_count=2,
            taker_buy_base_volume=Decimal("0E-8"),
            taker_buy_quote_volume=Decimal("0E-8"),
            first_trade_id=1,
            last_trade_id=2,
            is_closed=True,
            event_time_ms=open_time_ms + 1001,
            received_at_ms=open_time_ms + 1010,
        )


@asynccontextmanager
async def feed(bootstrap_servers: str, symbol: str) -> AsyncIterator[Feed]:
    """A writer of records of this symbol."""
    producer = new_producer(bootstrap_servers, "test_feed")
    await producer.start()
    try:
        yield Feed(producer, symbol)
    finally:
        await producer.stop()
