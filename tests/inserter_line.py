"""An inserter between a topic set and a database of its own, for tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from inserter.consume import Inserter
from inserter.settings import InserterSettings
from market.feed import FeedOutage
from market.kline import Kline
from market.topics import Topics
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.lifecycle import Stop
from tests import own_topics
from tests.conftest import Engines
from tests.stack_process import ROOT

WAIT_S = 120.0
POLL_S = 0.05
NOW_MS = SystemClock().now_ms() // 60_000 * 60_000 - 3_600_000


@dataclass
class Line:
    """A database, topics and the means to look at them."""

    engines: Engines
    database_url: str
    topics: Topics
    topics_file: Path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query, values).fetchall()

    async def send(self, *klines: Kline | bytes, key: bytes | None = b"one") -> None:
        """As a producer does that receives them now; `key` None: that of the producer too, the symbol."""
        now_ms = SystemClock().now_ms()
        records = [
            one if isinstance(one, bytes) else msgspec.structs.replace(one, received_at_ms=now_ms) for one in klines
        ]
        await own_topics.send(self.engines.kafka_bootstrap_servers, self.topics.kline_1s, records, key=key)

    async def report(self, *outages: FeedOutage) -> None:
        """What the producer says of its feed."""
        await own_topics.send(self.engines.kafka_bootstrap_servers, self.topics.feed_outage, outages)

    async def until(self, what: str, probe: Callable[[], bool]) -> None:
        clock = SystemClock()
        end_s = clock.monotonic_s() + WAIT_S
        while not probe():
            assert clock.monotonic_s() < end_s, f"waited {WAIT_S:.0f} s for {what}"
            await asyncio.sleep(POLL_S)

    async def until_read(self, offset: int) -> None:
        """Until the checkpoint of the partition that key `one` lies in has come to `offset`."""
        await self.until(f"checkpoint {offset}", lambda: self.checkpoint() >= offset)

    def checkpoint(self) -> int:
        name = self.topics.kline_1s.name
        return int(self.rows("select coalesce(max(next_offset), 0) from kline_checkpoint where topic = %s", name)[0][0])

    def gaps(self) -> list[tuple[int, int, str, str, str | None]]:
        """from and to in seconds after NOW_MS, cause, state, resolver."""
        return [
            ((a - NOW_MS) // 1000, (b - NOW_MS) // 1000, cause, state, by)
            for a, b, cause, state, by in self.rows(
                "select (extract(epoch from from_time) * 1000)::bigint, (extract(epoch from to_time) * 1000)::bigint,"
                " cause, state, resolved_by from kline_gap order by from_time, to_time"
            )
        ]

    def detectors(self) -> list[str]:
        """Of the gaps, in their order."""
        return [detector for (detector,) in self.rows("select detector from kline_gap order by from_time, to_time")]

    def seconds(self) -> list[int]:
        return [
            (a - NOW_MS) // 1000
            for (a,) in self.rows(
                "select (extract(epoch from open_time) * 1000)::bigint from kline_1s order by open_time, symbol"
            )
        ]

    def settings(self, **changes: Any) -> InserterSettings:
        return InserterSettings(
            database_url=self.database_url, kafka_bootstrap_servers=self.engines.kafka_bootstrap_servers, **changes
        )

    @asynccontextmanager
    async def inserter(self, **changes: Any) -> AsyncIterator[tuple[asyncio.Task[None], Health]]:
        """A running inserter in this process, stopped at the end; its own error is for the test to look at."""
        stop, health = Stop(), Health("inserter")
        inserter = Inserter(self.settings(**changes), health, SystemClock(), stop, topics=self.topics)
        task = asyncio.create_task(inserter.run())
        try:
            yield task, health
        finally:
            stop.set()
            await asyncio.wait([task], timeout=WAIT_S)
            assert task.done()


@contextmanager
def process(line: Line, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The inserter as a process, killed at the end."""
    environment = {**os.environ, **line.engines.environment, "DATABASE_URL": line.database_url, **variables}
    command = [sys.executable, "-m", "tests.inserter_process", str(line.topics_file)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as running:
        try:
            yield running
        finally:
            running.kill()


def run_until_dead(line: Line, **variables: str) -> int:
    """The inserter as a process; its return code."""
    with process(line, **variables) as running:
        return running.wait(WAIT_S)
