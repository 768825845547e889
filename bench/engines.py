"""Real engines for one benchmark: `candlewire up --engines` in a directory of its own, migrated, topics applied."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.clock import SystemClock, sleep_s

ROOT = Path(__file__).resolve().parent.parent
READY_DEADLINE_S = 90.0
STOP_DEADLINE_S = 15.0
POLL_S = 0.2


@dataclass(frozen=True, repr=False)
class Engines:
    """Where the engines are, and what a room started against them is told."""

    database_url: str
    kafka_bootstrap_servers: str
    celery_broker_url: str
    data_dir: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Environment of a room."""
        return {
            **os.environ,
            "DATA_DIR": str(self.data_dir),
            "DATABASE_URL": self.database_url,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "CELERY_BROKER_URL": self.celery_broker_url,
            **more,
        }

    @contextmanager
    def room(self, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """`python -m ARGUMENTS` as long as the context lasts; its log goes to the data directory."""
        with open(self.data_dir / f"{arguments[0]}.log", "ab") as log:
            command = [sys.executable, "-m", *arguments]
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(**more), stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield process
            finally:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL after the deadline."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def started() -> Iterator[Engines]:
    """PostgreSQL, Kafka and Valkey, ready and with our schema. Raises RuntimeError when they cannot be started."""
    with tempfile.TemporaryDirectory(prefix="candlewire-bench-") as directory:
        data_dir = Path(directory)
        environment = {**os.environ, "DATA_DIR": directory}
        command = [sys.executable, "-m", "stack.cli", "up", "--engines"]
        with open(data_dir / "up.log", "wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            found = _ready(process, data_dir)
            engines = Engines(
                found["database_url"], found["kafka_bootstrap_servers"], found["celery_broker_url"], data_dir
            )
            migrate = [sys.executable, "-m", "webapp", "migrate"]
            done = subprocess.run(
                migrate, cwd=ROOT, env=engines.environment(), capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(f"the schema could not be made:\n{done.stdout}{done.stderr}")
            yield engines
        finally:
            end(process)


def _ready(process: subprocess.Popen[bytes], data_dir: Path) -> dict[str, Any]:
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + READY_DEADLINE_S
    log = data_dir / "up.log"
    while process.poll() is None and clock.monotonic_s() < deadline_s:
        if "\nREADY" in log.read_text("utf-8", "replace"):
            found: dict[str, Any] = json.loads((data_dir / "run" / "stack.json").read_text("utf-8"))
            return found
        sleep_s(POLL_S)
    raise RuntimeError(f"the engines did not become ready:\n{log.read_text('utf-8', 'replace')}")
