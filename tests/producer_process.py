"""The producer and the exchange it listens to as processes of their own, and what arrived on the topics."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from market.feed import FeedOutage, GapCause
from market.record_codec import RecordDecoder
from runtime.clock import SystemClock
from runtime.kafka_client import TopicPartition, load_topics, new_consumer
from tests.stack_process import ROOT, free_port, wait_for

DEADLINE_S = 60.0
READ_TIMEOUT_MS = 1000


class RoomProcess:
    """`python -m <room>`; use as a context manager. It must end with code 0 within 4 s of SIGTERM."""

    def __init__(self, room: str, log: Path, environment: Mapping[str, str]) -> None:
        self.room, self.log = room, log
        self.health_port = free_port()
        self._environment = {**os.environ, **environment, "HEALTH_PORT": str(self.health_port)}
        self.process: subprocess.Popen[bytes] | None = None
        #: what it must end with; -9 where a test kills it
        self.exit_code = 0

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.room], cwd=ROOT, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = self.stop()
        if kind is None:
            assert code == self.exit_code, self.log.read_text("utf-8")[-3000:]

    def stop(self) -> int:
        """SIGTERM; the exit code. The room itself ends with 1 when it takes longer than its deadline."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def wait_killed(self) -> None:
        """Until it has died of SIGKILL, which a test has ordered."""
        assert self.process is not None
        assert self.process.wait(DEADLINE_S) == -signal.SIGKILL
        self.exit_code = -signal.SIGKILL

    def wait_ready(self) -> None:
        """Until /readyz says so."""
        wait_for(f"{self.room} to be ready", lambda: self.get("readyz")[0] == 200, DEADLINE_S)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metric(self, name: str) -> float:
        """Sum of all series of this metric whose name and labels begin with `name`."""
        body = wait_for("an answer of /metrics", self._metrics, DEADLINE_S)
        lines = [line.rpartition(" ") for line in body.splitlines() if line.startswith(name)]
        return sum(float(value) for _, _, value in lines)

    def _metrics(self) -> str | None:
        status, body = self.get("metrics")
        return body if status == 200 else None

    def wait_metric(self, name: str, at_least: float) -> None:
        """Until the metric has grown that far."""
        wait_for(f"{name} >= {at_least}", lambda: self.metric(name) >= at_least, DEADLINE_S)


class SimProcess(RoomProcess):
    """`python -m exchange_sim` on a port of its own."""

    def __init__(self, log: Path, data_dir: Path, **variables: str) -> None:
        self.port = free_port()
        super().__init__("exchange_sim", log, {"SIM_PORT": str(self.port), "DATA_DIR": str(data_dir), **variables})

    @property
    def addresses(self) -> dict[str, str]:
        """What a room needs to listen to it."""
        return {
            "EXCHANGE_WS_URL": f"ws://127.0.0.1:{self.port}",
            "EXCHANGE_REST_URL": f"http://127.0.0.1:{self.port}",
        }

    def symbols(self) -> list[str]:
        """All that it lists."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v3/exchangeInfo", timeout=30) as answer:
            return [entry["symbol"] for entry in json.load(answer)["symbols"]]

    def order(self, fault: str, **options: object) -> None:
        """Put a fault in force."""
        body = json.dumps({"fault": fault, **options}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/sim/faults", body, method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


class TopicReader:
    """Everything that came onto the topics since it was made. Tests on one broker run one after the other."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        topics = load_topics()
        wanted = (topics.kline_1s, topics.trade, topics.feed_outage, topics.dead_frame)
        self._parts = [TopicPartition(topic.name, number) for topic in wanted for number in range(topic.partitions)]
        self._start = asyncio.run(self._ends())

    async def _ends(self) -> dict[TopicPartition, int]:
        consumer = new_consumer(self._servers, "test")
        await consumer.start()
        try:
            return await consumer.end_offsets(self._parts)
        finally:
            await consumer.stop()

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """The records by topic, in order within a partition."""
        return asyncio.run(self._read())

    async def _read(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        consumer = new_consumer(self._servers, "test")
        await consumer.start()
        try:
            consumer.assign(self._parts)
            for part, offset in self._start.items():
                consumer.seek(part, offset)
            ends = await consumer.end_offsets(self._parts)
            while any([await consumer.position(part) < end for part, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=READ_TIMEOUT_MS)).values():
                    for record in records:
                        found[record.topic].append(json.loads(record.value or b""))
        finally:
            await consumer.stop()
        return found


def outages_of(records: list[dict[str, Any]], stream: str = "") -> list[FeedOutage]:
    """The outages of one stream, or of all, the closing record instead of the opening one; start marks left out."""
    decoder = RecordDecoder(FeedOutage)
    decoded = [decoder.decode(json.dumps(record).encode()) for record in records]
    wanted = [one for one in decoded if stream in ("", one.stream) and one.cause is not GapCause.DOWNTIME]
    return list({(one.symbol, one.stream, one.cause, one.from_time_ms): one for one in wanted}.values())


def unaccounted_seconds(records: dict[str, list[dict[str, Any]]]) -> list[tuple[str, int]]:
    """Seconds between the first and the last of each symbol that are neither delivered nor in an outage."""
    delivered: dict[str, set[int]] = defaultdict(set)
    for record in records["kline_1s"]:
        delivered[record["symbol"]].add(record["open_time_ms"])
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for outage in outages_of(records["feed_outage"], "kline_1s"):
        spans[outage.symbol].append((outage.from_time_ms, outage.to_time_ms or SystemClock().now_ms()))
    return [
        (symbol, second)
        for symbol, seconds in delivered.items()
        for second in range(min(seconds), max(seconds), 1000)
        if second not in seconds and not any(start <= second < end for start, end in spans[symbol])
    ]


def doubles(records: list[dict[str, Any]], key: str) -> list[tuple[str, int]]:
    """Keys that came twice."""
    seen: set[tuple[str, int]] = set()
    found = []
    for record in records:
        one = (record["symbol"], record[key])
        if one in seen:
            found.append(one)
        seen.add(one)
    return found


def missing_trades(records: list[dict[str, Any]]) -> int:
    """How many trade ids lack between the first and the last of each symbol."""
    ids: dict[str, set[int]] = defaultdict(set)
    for record in records:
        ids[record["symbol"]].add(record["trade_id"])
    return sum(max(one) - min(one) + 1 - len(one) for one in ids.values())
