"""The relay against a C broadcaster that only sends: CPU, latency, delivery, in one run on one machine.

1,000 viewers, 50 messages a second of 400 bytes to each. The relay runs behind a feed that is on time (the fan-out
alone), and behind Kafka (the whole relay). The floor runs before and after each, for its own figures differ by a
tenth from run to run; the means count. While the floor of the whole relay runs, the same messages go through the
broker too: on two cores (often two threads of one) what runs beside a sender makes each of its sends dearer, whatever
it is written in. Server and viewers are kept on different cores where there are two.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO

import psutil

from bench.engines import ROOT, Engines, end, started
from bench.ratio import Ratio
from bench.relay_source import SYMBOL, padding, value
from runtime.clock import SystemClock, sleep_s
from runtime.kafka_client import load_topics, new_producer

CLIENTS = int(os.environ.get("BENCH_RELAY_CLIENTS", "1000"))
PER_SECOND = 50
SECONDS = 10
MESSAGE_BYTES = 400
CPU_TARGET = 1.25
LATENCY_TARGET = 2.0
DEADLINE_S = 60
ROUNDS = 5
#: A symbol a round, as long as SYMBOL: a viewer's first frame is a snapshot of what was sent before.
ROUND_SYMBOL = "BENC%dUSDT"
#: Nobody listens to this one.
BYSTANDER = "OTHERUSDT"
SERVER_CORE, VIEWER_CORE = 0, 1

#: Starts a server on (port, health port).
ServerStarter = Callable[[int, int], AbstractContextManager[subprocess.Popen[bytes]]]


@dataclass(frozen=True)
class Figures:
    """What one server did: CPU in shares of a core, latency from the due time in ms, delivery as a share."""

    cpu_cores: float
    p50_ms: float
    p99_ms: float
    delivered: float


def run() -> list[Ratio]:
    """The figures. Says so, and measures nothing, where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print("relay: not measured, there is no C compiler (cc, gcc or clang) for the reference")
        return []
    with tempfile.TemporaryDirectory(prefix="candlewire-bench-") as directory:
        broadcast, viewers = (
            _compile(compiler, name, Path(directory)) for name in ("epoll_broadcast", "epoll_viewers")
        )
        floors, busy_floors, fan_outs, wholes = [], [], [], []
        for _ in range(ROUNDS):
            floors.append(_floor(broadcast, viewers))
            fan_outs.append(_fan_out(viewers))
        floors.append(_floor(broadcast, viewers))
        with started() as engines:
            for number in range(ROUNDS):
                busy_floors.append(_busy_floor(engines, broadcast, viewers))
                wholes.append(_whole(engines, viewers, ROUND_SYMBOL % number))
            busy_floors.append(_busy_floor(engines, broadcast, viewers))
    delivered = min(floor.delivered for floor in floors + busy_floors)
    load = f"{CLIENTS} viewers x {PER_SECOND}/s x {MESSAGE_BYTES} bytes"
    ratios = [Ratio("reference: delivered", delivered, 1.0, "share", True, None, load)]
    for name, ours, floor, note in (
        ("relay fan-out", _mean(fan_outs), _mean(floors), "reference: C, epoll"),
        ("relay with Kafka", _mean(wholes), _mean(busy_floors), "reference: C, beside the same broker"),
    ):
        ratios += [
            Ratio(f"{name}: delivered", ours.delivered, 1.0, "share", True, 1.0, load),
            Ratio(f"{name}: CPU", ours.cpu_cores, floor.cpu_cores, "cores", False, CPU_TARGET, note),
            Ratio(f"{name}: p99 latency", ours.p99_ms, floor.p99_ms, "ms", False, LATENCY_TARGET, "from the due time"),
        ]
    return ratios


def _compile(compiler: str, name: str, directory: Path) -> Path:
    program = directory / name
    subprocess.run([compiler, "-O2", "-o", str(program), str(ROOT / "bench" / f"{name}.c")], check=True)
    return program


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _on_core(core: int) -> list[str]:
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(core)] if taskset and (os.cpu_count() or 1) > 1 else []


def _cpu_s(pid: int) -> float:
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def _watch(viewers: Path, port: int, path: str, subscribe: str) -> subprocess.Popen[str]:
    messages, seconds = PER_SECOND * SECONDS, SECONDS + DEADLINE_S
    arguments = [port, path, CLIENTS, messages, seconds, MESSAGE_BYTES, subscribe]
    command = [*_on_core(VIEWER_CORE), str(viewers), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def _figures(watching: subprocess.Popen[str], cpu_s: float) -> Figures:
    got = json.loads(_line(watching.stdout))
    return Figures(cpu_s / SECONDS, got["p50_ms"], got["p99_ms"], got["delivered"] / got["expected"])


def _floor(broadcast: Path, viewers: Path) -> Figures:
    port = free_port()
    arguments = [port, CLIENTS, PER_SECOND, SECONDS, MESSAGE_BYTES]
    command = [*_on_core(SERVER_CORE), str(broadcast), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        _wait_for_port(port)
        with _watch(viewers, port, "/", "") as watching:
            _line(watching.stdout)
            _line(server.stdout)
            cpu_s = json.loads(_line(server.stdout))["cpu_s"]
            return _figures(watching, cpu_s)


def _busy_floor(engines: Engines, broadcast: Path, viewers: Path) -> Figures:
    publish = _publish(engines.kafka_bootstrap_servers, PER_SECOND * (SECONDS + 2), MESSAGE_BYTES, BYSTANDER)
    publisher = threading.Thread(target=lambda: asyncio.run(publish))
    publisher.start()
    try:
        return _floor(broadcast, viewers)
    finally:
        publisher.join()


def _mean(figures: Sequence[Figures]) -> Figures:
    columns = zip(*map(astuple, figures), strict=True)
    return Figures(*(sum(column) / len(figures) for column in columns))


def _fan_out(viewers: Path) -> Figures:
    def server(port: int, health_port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
        arguments = [CLIENTS, PER_SECOND, SECONDS, MESSAGE_BYTES]
        command = [*_on_core(SERVER_CORE), sys.executable, "-m", "bench.relay_source", *map(str, arguments)]
        limit = {"STREAM_MAX_PER_ADDRESS": str(CLIENTS + 10)}
        environment = {**os.environ, **limit, "STREAM_PORT": str(port), "HEALTH_PORT": str(health_port)}
        return subprocess.Popen(command, cwd=ROOT, env=environment)

    return _measure(viewers, server, lambda: None)


def _whole(engines: Engines, viewers: Path, symbol: str) -> Figures:
    def server(port: int, health_port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return engines.room(
            "flask_stream",
            STREAM_PORT=str(port),
            HEALTH_PORT=str(health_port),
            STREAM_MAX_PER_ADDRESS=str(CLIENTS + 10),
        )

    bootstrap = engines.kafka_bootstrap_servers
    asyncio.run(_publish(bootstrap, 1, 0, symbol))  # the relay refuses symbols that it has no data of
    messages = PER_SECOND * SECONDS
    return _measure(viewers, server, lambda: asyncio.run(_publish(bootstrap, messages, MESSAGE_BYTES, symbol)), symbol)


async def _publish(bootstrap_servers: str, messages: int, message_bytes: int, symbol: str) -> None:
    producer = new_producer(bootstrap_servers, "bench", linger_ms=0)
    await producer.start()
    padding_bytes = max(0, padding(message_bytes))
    topic = load_topics().trade.name
    start_ns = time.monotonic_ns() + 500_000_000
    try:
        for number in range(messages):
            due_ns = start_ns + number * 1_000_000_000 // PER_SECOND
            await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            await producer.send(topic, value(due_ns, padding_bytes), key=symbol.encode())
    finally:
        await producer.stop()


def _measure(
    viewers: Path,
    start: Callable[[int, int], AbstractContextManager[subprocess.Popen[bytes]]],
    publish: Callable[[], None],
    symbol: str = SYMBOL,
) -> Figures:
    """CPU is counted from the moment when all viewers have joined to the last message."""
    port, health_port = free_port(), free_port()
    with ExitStack() as stack:
        server = stack.enter_context(start(port, health_port))
        stack.callback(end, server)
        if _on_core(SERVER_CORE):
            psutil.Process(server.pid).cpu_affinity([SERVER_CORE])
        _wait_for_port(port)
        _wait_for_port(health_port)
        watching = stack.enter_context(
            _watch(viewers, port, "/live", json.dumps({"op": "subscribe", "ch": [f"trade:{symbol}"]}))
        )
        _line(watching.stdout)
        before_s = _cpu_s(server.pid)
        publish()
        figures = _figures(watching, 0.0)
        used_s = _cpu_s(server.pid) - before_s
        return Figures(used_s / SECONDS, figures.p50_ms, figures.p99_ms, figures.delivered)


def _wait_for_port(port: int) -> None:
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + DEADLINE_S
    while clock.monotonic_s() < deadline_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            sleep_s(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def main(arguments: Sequence[str]) -> int:
    """Print the figures."""
    ratios = run()
    for ratio in ratios:
        figures = f"{ratio.ours:10.3f} {ratio.reference:10.3f} {ratio.unit:6} x{ratio.ratio:.2f}"
        print(f"{ratio.name:32} {figures} {ratio.verdict}")
    return 0 if all(ratio.is_good for ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
