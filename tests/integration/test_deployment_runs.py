"""Every service of docker-compose.yml, started by hand with the command and the variables that Compose gives it.

Only what belongs to containers is replaced: names of hosts, ports and directories. All services start at once, in an
empty environment, and each has to become ready in the eyes of its own health check.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest
from psycopg.rows import TupleRow

from stack.cron import Job, parse
from stack.engines.postgres import binaries
from tests.conftest import Engines, with_database
from tests.integration.compose_file import ROOT, Service, filled_in, services
from tests.stack_process import HTTP_TIMEOUT_S, free_port, wait_for

SYMBOLS = "ADAUSDT,LINKUSDT"
READY_DEADLINE_S = 90.0
ONCE_DEADLINE_S = 90.0
STOP_DEADLINE_S = 10.0
SERVICES = services(filled_in(SYMBOLS=SYMBOLS))
LASTING = [name for name, service in SERVICES.items() if service.is_ours and not service.is_once]
ONCE = [name for name, service in SERVICES.items() if service.is_once]


@dataclass
class Deployment:
    """The services as processes of this machine."""

    engines: Engines
    database_url: str
    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def port(self, name: str) -> int:
        """A free port, the same for each asker."""
        return self.ports.setdefault(name, free_port())

    def environment(self, service: Service) -> dict[str, str]:
        """What Compose gives the service, moved to this machine; from our own environment only PATH."""
        here = {
            "DATABASE_URL": self.database_url,
            "ANALYST_DATABASE_URL": self.database_url,
            "KAFKA_BOOTSTRAP_SERVERS": self.engines.kafka_bootstrap_servers,
            "CELERY_BROKER_URL": self.engines.celery_broker_url,
            "EXCHANGE_WS_URL": f"ws://127.0.0.1:{self.port('exchange')}",
            "EXCHANGE_REST_URL": f"http://127.0.0.1:{self.port('exchange')}",
            "SIM_PORT": str(self.port("exchange")),
            "PORT": str(self.port("web")),
            "STREAM_PORT": str(self.port("stream")),
        }
        moved = {name: here.get(name, value) for name, value in service.environment.items()}
        moved = {name: "127.0.0.1" if value == "0.0.0.0" else value for name, value in moved.items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        health_port = str(self.port(f"health {service.name}"))
        return {**moved, "PATH": path, "HEALTH_PORT": health_port, "DATA_DIR": str(self.directory / service.name)}

    def start(self, name: str) -> None:
        """The service's command, its output in a file."""
        with open(self.directory / f"{name}.log", "wb") as log:
            self.processes[name] = subprocess.Popen(
                SERVICES[name].command,
                cwd=ROOT,
                env=self.environment(SERVICES[name]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, name: str) -> str:
        """The end of the service's output."""
        return (self.directory / f"{name}.log").read_text("utf-8", "replace")[-3000:]

    def is_healthy(self, name: str) -> bool:
        """Whether the service's own health check is content. Fails when the process has ended."""
        assert self.processes[name].poll() is None, self.log(name)
        check = SERVICES[name].definition["healthcheck"]["test"][1:]
        ran = subprocess.run(check, cwd=ROOT, env=self.environment(SERVICES[name]), capture_output=True, check=False)
        return ran.returncode == 0

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL after the deadline."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def deployment(
    engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    found = Deployment(engines, module_database, tmp_path_factory.mktemp("deployment"))
    with ExitStack() as stack:
        stack.callback(found.stop)
        for name in SERVICES:
            if SERVICES[name].is_ours:
                found.start(name)
        yield found


@pytest.mark.parametrize("name", ONCE)
def test_a_service_that_runs_once_ends_well(deployment: Deployment, name: str) -> None:
    assert deployment.processes[name].wait(ONCE_DEADLINE_S) == 0, deployment.log(name)


@pytest.mark.parametrize("name", LASTING)
def test_a_service_becomes_healthy(deployment: Deployment, name: str) -> None:
    try:
        wait_for(name, lambda: deployment.is_healthy(name), READY_DEADLINE_S)
    except TimeoutError as error:
        pytest.fail(f"{error}:\n{deployment.log(name)}")


def test_candles_arrive_where_the_published_port_leads(deployment: Deployment) -> None:
    url = f"http://127.0.0.1:{deployment.port('web')}/api/v3/klines?symbol=ADAUSDT&interval=1m&limit=5"

    def candles() -> list[object] | None:
        answer = httpx.get(url, timeout=HTTP_TIMEOUT_S)
        return answer.json() if answer.status_code == 200 and answer.json() else None

    assert wait_for("candles over HTTP", candles, READY_DEADLINE_S)
    assert httpx.get(f"http://127.0.0.1:{deployment.port('web')}/", timeout=HTTP_TIMEOUT_S).status_code == 200


@pytest.mark.parametrize("job", parse((ROOT / "crontab").read_text("utf-8")), ids=lambda job: job.command)
def test_every_line_of_the_crontab_runs_in_its_service(deployment: Deployment, job: Job) -> None:
    command = shlex.split(job.command)
    environment = deployment.environment(SERVICES["cron"])
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=ONCE_DEADLINE_S
    )
    # The audit may find something to report (1); it must not fail to run (2 or a signal).
    allowed = (0, 1) if "audit" in command[-1] else (0,)
    assert ran.returncode in allowed, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_back_up_can_be_restored(deployment: Deployment) -> None:
    """As docs/OPERATIONS.md says: into an empty database."""
    environment = deployment.environment(SERVICES["cron"])
    loaded = "select count(*) = 2 from market_symbol where is_followed and history_loaded_at is not null"
    with psycopg.connect(deployment.database_url, autocommit=True) as connection:
        wait_for("history of both symbols", lambda: _first(connection, loaded)[0], READY_DEADLINE_S)
    subprocess.run(["candlewire", "backup"], cwd=ROOT, env=environment, check=True, capture_output=True)
    dump = max((deployment.directory / "cron" / "backups").iterdir())
    server = with_database(deployment.engines.database_url, "postgres")
    target = with_database(deployment.engines.database_url, "restored")
    count = "select count(*), sum(base_volume) from aggregated_kline where is_closed and interval = '1d'"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("create database restored")
    try:
        subprocess.run(
            [str(binaries() / "pg_restore"), "--exit-on-error", "--no-owner", f"--dbname={target}", str(dump)],
            check=True,
            capture_output=True,
        )
        with psycopg.connect(target) as restored, psycopg.connect(deployment.database_url) as original:
            assert _first(restored, count) == _first(original, count)
            assert _first(restored, count)[0] > 0
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("drop database restored with (force)")


def _first(connection: psycopg.Connection[TupleRow], query: LiteralString) -> TupleRow:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
