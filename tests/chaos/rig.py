"""What the faults are tried on: engines, simulated exchange and rooms as real processes, a proxy on each link.

    exchange_sim <- WebSocket proxy <- producer       broker <- proxy <- every room
                 <- REST proxy <- aggregator, webapp  database <- proxy <- every room

Engines and rooms are two stacks, so that rooms can stop and start without the engines. Kafka's clients go where the
broker says it is (advertised.listeners): the engines' own configuration names the proxy there.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from exchange_sim.symbols import catalogue
from runtime.clock import SystemClock, new_random, sleep_s
from stack.layout import Layout
from stack.program import python_child
from stack.rooms import engine_probes
from stack.status import ask_ready, is_alive, starts_of
from tests.chaos.account import MarketTruth
from tests.chaos.proxy import Proxy
from tests.chaos.watch import Watch
from tests.conftest import with_database
from tests.stack_process import ROOT, EnginesProcess, StackProcess, free_port, wait_for

SETTLE_DEADLINE_S = 200.0
SIM_START_DEADLINE_S = 30.0
#: It computes bars in threads beside the one that answers.
SIM_TIMEOUT_S = 30.0
ENGINE_START_DEADLINE_S = 60.0
POLL_S = 0.1
#: The simulated exchange lists no more than it has to: the statistics of 2,000 symbols take seconds.
LISTED_MIN = 30
#: Room for a broker's 15 minutes of the load, or for a database with its write-ahead log.
DISK_BYTES = 1_200_000_000
ENGINES = ("kafka", "postgres", "valkey")
ROOMS = ("producer", "inserter", "aggregator", "aggregator-beat", "flask_stream", "webapp")
_T = TypeVar("_T")


class Rig:
    """Use as a context manager. `variables` go to engines, exchange and rooms alike; `disks` are the engines whose
    data lie on a small disk of their own, which can be filled (needs root)."""

    def __init__(
        self, directory: Path, symbols: int, seed: int, *, disks: tuple[str, ...] = (), **variables: str
    ) -> None:
        self.symbols = symbols
        self.seed = seed
        self.sim_seed = seed % 1000
        self.rng: Random = new_random(seed)
        self.clock = SystemClock()
        self.orders = directory / "crash.order"
        self.watch: Watch | None = None
        self._disks = disks
        self.listed = catalogue(max(LISTED_MIN, symbols))
        self._variables = {"SIM_LIMITS": "false", "SIM_SYMBOLS": str(len(self.listed)), **variables}
        self._sim_port = free_port()
        self._sim: subprocess.Popen[bytes] | None = None
        self._directory = directory
        self._stack = ExitStack()
        self.engines = EnginesProcess(directory / "engines", SOURCE="sim", **variables)
        self.rooms = StackProcess(directory / "rooms", **variables)
        self._database_url = ""

    def __enter__(self) -> Self:
        with self._stack as stack:
            for name in self._disks:
                self._mount(stack, name)
            found = self._start_engines()
            stack.callback(self.engines.stop)
            self._start_proxies(stack, found)
            self._launch_sim()
            stack.callback(self.stop_sim)
            self.rooms = StackProcess(
                self._directory / "rooms",
                EXCHANGE_WS_URL=f"ws://127.0.0.1:{self.exchange_ws.port}",
                EXCHANGE_REST_URL=f"http://127.0.0.1:{self.exchange_rest.port}",
                KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{self.broker.port}",
                DATABASE_URL=self._database_url.replace(f":{self.database.target_port}/", f":{self.database.port}/"),
                CELERY_BROKER_URL=found["celery_broker_url"],
                SYMBOLS=",".join(spec.name for spec in self.listed[: self.symbols]),
                CRASH_ORDERS=str(self.orders),
                **self._variables,
            )
            stack.callback(self.rooms.stop)
            old_pid = self._advertise()
            # Beside the broker's start: rooms wait for what they need.
            self.rooms.launch()
            self.wait_back("kafka", old_pid)
            self.rooms.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def enter(self, context: AbstractContextManager[_T]) -> _T:
        """Something that ends with the rig, before its processes do."""
        return self._stack.enter_context(context)

    def _start_engines(self) -> dict[str, Any]:
        self.engines.start()
        found = self.engines.status()
        self._database_url = str(found["database_url"])
        return found

    def _mount(self, stack: ExitStack, name: str) -> None:
        place = self.engines.data_dir / name
        place.mkdir(parents=True, mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(place)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=False)

    @contextmanager
    def full_disk(self, name: str) -> Iterator[None]:
        """No byte is free on the engine's disk inside the block."""
        filler = self.engines.data_dir / name / "filler"
        free = os.statvfs(filler.parent)
        try:
            with open(filler, "ab", buffering=0) as file:
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
                with suppress(OSError):
                    while file.write(bytes(4096)) == 4096:
                        pass
            yield
        finally:
            filler.unlink(missing_ok=True)

    def _start_proxies(self, stack: ExitStack, found: dict[str, Any]) -> None:
        def proxy(port: int) -> Proxy:
            return stack.enter_context(Proxy(port, new_random(self.rng.getrandbits(32))))

        self.exchange_ws, self.exchange_rest = proxy(self._sim_port), proxy(self._sim_port)
        self.broker = proxy(int(str(found["kafka_bootstrap_servers"]).rpartition(":")[2]))
        self.database = proxy(urlsplit(self._database_url).port or 0)

    @property
    def links(self) -> dict[str, Proxy]:
        """The four links of fault F6."""
        return {
            "exchange": self.exchange_ws,
            "rest": self.exchange_rest,
            "broker": self.broker,
            "database": self.database,
        }

    def _advertise(self) -> int:
        """Have the broker name the proxy as its address; it reads its configuration at a start. Returns the pid of the
        one that has ended: a client that had asked it would stay on its own address, past the proxy."""
        path = self.engines.data_dir / "kafka" / "server.properties"
        told = f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.broker.port}"
        path.write_text(re.sub(r"(?m)^advertised\.listeners=.*$", told, path.read_text("utf-8")), "utf-8")
        # In order: the controller waits 4 s for a broker that was killed.
        pid = self.signal("kafka", signal.SIGTERM)
        wait_for("the broker's end", lambda: not is_alive(pid), ENGINE_START_DEADLINE_S)
        return pid

    # The simulated exchange

    def start_sim(self) -> None:
        """Start it on its port and wait until it answers."""
        self._launch_sim()
        wait_for("the simulated exchange", self._sim_answers, SIM_START_DEADLINE_S)

    def _launch_sim(self) -> None:
        environment = {**os.environ, **self._variables, "SOURCE": "sim", "SIM_PORT": str(self._sim_port)}
        environment |= {"SIM_SEED": str(self.sim_seed), "HEALTH_PORT": "0"}
        with open(self._directory / "exchange_sim.log", "ab") as log:
            command = [*python_child(), "--die", "KILL", "--", sys.executable, "-m", "exchange_sim"]
            self._sim = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def _sim_answers(self) -> bool:
        try:
            return httpx.get(f"{self.sim_url}/api/v3/ping", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    def stop_sim(self) -> None:
        """End it."""
        if self._sim is not None:
            self._sim.kill()
            self._sim.wait()

    @property
    def sim_url(self) -> str:
        """The exchange itself, past the proxies."""
        return f"http://127.0.0.1:{self._sim_port}"

    def sim_fault(self, fault: str, **bounds: object) -> None:
        """Order a fault of exchange_sim. Raises HTTPStatusError when it is refused."""
        order = {"fault": fault, **bounds}
        httpx.post(f"{self.sim_url}/sim/faults", json=order, timeout=SIM_TIMEOUT_S).raise_for_status()

    def clear_sim_faults(self) -> None:
        """End all of them."""
        httpx.delete(f"{self.sim_url}/sim/faults", timeout=SIM_TIMEOUT_S).raise_for_status()

    def frames_sent(self) -> int:
        """How many stream frames the exchange has sent so far."""
        return int(httpx.get(f"{self.sim_url}/sim/status", timeout=SIM_TIMEOUT_S).json()["frames_sent"])

    def truth(self) -> MarketTruth:
        """The exchange's own log."""
        return MarketTruth(self.sim_seed, self.listed, self.clock)

    # Processes

    def layout_of(self, name: str) -> Layout:
        """The stack that runs the room or engine."""
        return Layout(self.engines.data_dir if name in ENGINES else self.rooms.data_dir)

    def pid(self, name: str) -> int:
        """Process id of its newest start."""
        return starts_of(self.layout_of(name), name)[-1]

    def starts(self, name: str) -> int:
        """How often it was started since its stack was."""
        return len(starts_of(self.layout_of(name), name))

    def is_gone(self, name: str, pid: int) -> bool:
        """That process of the room is no longer its newest."""
        return self.pid(name) != pid

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to its newest process; returns the pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def is_ready(self, name: str) -> bool:
        """Alive, and its /readyz says so (an engine: its port is open)."""
        pid = self.pid(name)
        if not is_alive(pid):
            return False
        if name in ENGINES:
            return engine_probes(json.loads(self.layout_of(name).ports.read_text("utf-8")))[name]()
        return ask_ready(f"http://127.0.0.1:{self.health_port(name)}/healthz")[0]

    def metric(self, name: str, metric: str) -> float:
        """Sum of all series of one metric of a room, from its /metrics."""
        text = httpx.get(f"http://127.0.0.1:{self.health_port(name)}/metrics", timeout=5).text
        found = re.findall(rf"(?m)^{metric}(?:\{{[^}}]*\}})? (\S+)$", text)
        return sum(map(float, found))

    def health_port(self, name: str) -> int:
        """Port of its health address."""
        return int(self.rooms_ports()[f"health.{name}"])

    def rooms_ports(self) -> dict[str, int]:
        """Ports of the rooms' stack by name."""
        return dict(json.loads(self.layout_of("producer").ports.read_text("utf-8")))

    def wait_back(self, name: str, old_pid: int, deadline_s: float = ENGINE_START_DEADLINE_S) -> None:
        """Until it runs again under another pid and is ready."""
        wait_for(f"{name} to be ready again", lambda: self.pid(name) != old_pid and self.is_ready(name), deadline_s)

    def kill(self, name: str) -> None:
        """kill -9, and wait until it is back."""
        self.wait_back(name, self.signal(name, signal.SIGKILL))

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """SIGSTOP inside the block, SIGCONT after it."""
        pid = self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def room_environment(self) -> dict[str, str]:
        """What a further process of a room has to be told."""
        told = self.rooms.environment
        found = self.rooms.status()
        return {
            **told,
            "SYMBOLS": ",".join(found["symbols"]),
            "SECRET_KEY": "only-for-tests-" * 5,
            "ANALYST_DATABASE_URL": told["DATABASE_URL"],
            "HEALTH_PORT": "0",
        }

    def spawn(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Another process of a room, beside the supervised one; the caller ends it."""
        with open(self._directory / f"second-{arguments[0]}.log", "ab") as log:
            command = [*python_child(), "--die", "KILL", "--", sys.executable, "-m", *arguments]
            environment = {**self.room_environment(), **variables}
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    # The database, past its proxy

    def connect(self, name: str | None = None) -> psycopg.Connection[Any]:
        """As its owner, autocommit, UTC; `name` = another database of the server."""
        url = self._database_url if name is None else with_database(self._database_url, name)
        conninfo = make_conninfo(url, connect_timeout=3)
        return psycopg.connect(conninfo, autocommit=True, options="-c timezone=UTC", application_name="chaos")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query; none while the database is away."""
        try:
            with self.connect() as connection:
                return connection.execute(query, values or None).fetchall()
        except psycopg.OperationalError:
            return []

    def execute(self, statement: str) -> None:
        """One statement whose rows, if any, do not matter."""
        with self.connect() as connection:
            connection.execute(statement)

    # What is waited for

    def seconds_until(self, what: str, probe: Callable[[], _T | None], deadline_s: float) -> float:
        """How long it took until `probe` was true; `deadline_s` + 1 when it never was."""
        start_s = self.clock.monotonic_s()
        while not probe():
            if self.clock.monotonic_s() - start_s > deadline_s:
                print(f"    waited {deadline_s:.0f} s for {what}", flush=True)
                return deadline_s + 1
            sleep_s(POLL_S)
        return self.clock.monotonic_s() - start_s

    def is_caught_up(self, within_s: float = 3.0, since_ms: int = 0) -> bool:
        """Every symbol's watermark is that near to now, and later than `since_ms`."""
        found = self.rows(
            "select count(*) from symbol_watermark where stream = 'kline_1s' and"
            " event_time > now() - make_interval(secs => %s) and event_time > to_timestamp(%s / 1000.0)",
            within_s, since_ms,
        )  # fmt: skip
        return bool(found) and found[0][0] == self.symbols

    def catch_up_s(self, deadline_s: float = 60.0, within_s: float = 3.0) -> float:
        """How long from now until every watermark is later than now began, and near to what is now then."""
        since_ms = self.clock.now_ms()
        probe = functools.partial(self.is_caught_up, within_s, since_ms)
        return self.seconds_until("every watermark to be near now", probe, deadline_s)

    def open_work(self) -> dict[str, int]:
        """What is still to be settled: rows of each queue, dirty minutes only below their watermark."""
        [row] = self.rows(
            "select (select count(*) from dirty_minute d join symbol_watermark w using (symbol)"
            "  where w.stream = 'kline_1s' and d.open_time + interval '1 min' <= w.event_time),"
            " (select count(*) from kline_gap where state = 'open' and interval = '1s'),"
            " (select count(*) from suspect_range where state = 'open'),"
            " (select count(*) from audit_due where due_at < now() - interval '10 s')"
        ) or [(-1, -1, -1, -1)]
        return dict(zip(("dirty minutes", "open gaps", "suspects", "audits"), row, strict=True))

    def settle(self, deadline_s: float = SETTLE_DEADLINE_S) -> str:
        """Quiet until everything is up to date and nothing is left to do; what is left after the deadline, else ''."""
        self.seconds_until(
            "the line to settle", lambda: self.is_caught_up() and not any(self.open_work().values()), deadline_s
        )
        left = {name: count for name, count in self.open_work().items() if count}
        return "" if not left and self.is_caught_up(10.0) else f"not settled: {left or 'watermarks'}"
