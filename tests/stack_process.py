"""A whole stack as a user starts it: `candlewire up` in its own DATA_DIR, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg

from runtime.clock import SystemClock, sleep_s
from stack.layout import Layout
from stack.ports import Block, hold_block, is_free
from stack.program import python_child
from stack.status import stack_status

ROOT = Path(__file__).resolve().parent.parent
CANDLEWIRE = Path(sys.executable).parent / "candlewire"
READY_DEADLINE_S = 150.0
STOP_DEADLINE_S = 15.0
#: Of one request of a test; httpx's own 5 s are too near on a busy machine.
HTTP_TIMEOUT_S = 30.0
POLL_S = 0.1
#: For stacks whose candles nobody looks at: the past of one symbol costs three seconds of a processor.
SHORT_PAST = {"SIM_HISTORY_DAYS": "3", "HISTORY_BARS": "60"}
#: Below those that the kernel gives to whoever connects, and apart from those of stacks.
TEST_PORTS = range(10_000, 20_000)
_held: list[Block] = []
_ports: list[int] = []
_T = TypeVar("_T")


def free_port() -> int:
    """A TCP port on which nobody listens, and that nobody else who asks here is given, in whichever process."""
    while True:
        if _ports and is_free(port := _ports.pop()):
            return port
        if not _ports:
            block = hold_block(TEST_PORTS)
            _held.append(block)
            _ports.extend(block.ports)


def wait_for(what: str, probe: Callable[[], _T | None], deadline_s: float) -> _T:
    """The first true answer of `probe`, asked every POLL_S. Raises TimeoutError naming `what`."""
    clock = SystemClock()
    end_s = clock.monotonic_s() + deadline_s
    while True:
        if answer := probe():
            return answer
        if clock.monotonic_s() > end_s:
            raise TimeoutError(f"waited {deadline_s:.0f} s for {what}")
        sleep_s(POLL_S)


class StackProcess:
    """Use as a context manager; `variables` are the settings of contract and rooms (SOURCE, SYMBOLS, ...)."""

    arguments: tuple[str, ...] = ("up",)

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.data_dir = data_dir
        self.output: deque[str] = deque(maxlen=500)
        self._variables = {"PORT": str(free_port()), "STREAM_PORT": str(free_port()), **variables}
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What every command of this stack is run with."""
        return {**os.environ, **self._variables, "DATA_DIR": str(self.data_dir)}

    @property
    def prefix(self) -> tuple[str, ...]:
        """What the command is started through."""
        return (*python_child(), "--die", "TERM", "--")

    def start(self) -> None:
        """Start and wait for READY. Raises TimeoutError with the output so far."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start, from the main thread: the kernel ends what a thread has started when that thread ends."""
        self._process = subprocess.Popen(
            # Bound to our own life: a killed test run leaves nothing behind.
            [*self.prefix, str(CANDLEWIRE), *self.arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ready = self._ready
        ready.clear()

        def read(process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            for line in process.stdout:
                self.output.append(line.rstrip())
                if line.startswith("READY"):
                    ready.set()

        threading.Thread(target=read, args=(self._process,), daemon=True).start()

    def wait_ready(self) -> None:
        """Wait for READY. Raises TimeoutError with the output so far, RuntimeError when it has ended."""
        process, ready = self._process, self._ready
        assert process is not None
        try:
            wait_for("READY", lambda: ready.is_set() or process.poll() is not None, READY_DEADLINE_S)
        except TimeoutError as error:
            self.stop()
            raise TimeoutError(f"{error}; it printed:\n" + "\n".join(self.output)) from None
        if not ready.is_set():
            raise RuntimeError(f"candlewire up ended with {process.returncode}:\n" + "\n".join(self.output))

    def stop(self) -> None:
        """SIGTERM, and wait; SIGKILL after the deadline (which fails the caller)."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def send(self, number: signal.Signals) -> None:
        """Send a signal to `candlewire up`."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill_up(self) -> None:
        """kill -9 of `candlewire up` itself."""
        self.send(signal.SIGKILL)
        self.wait_ended(STOP_DEADLINE_S)

    def wait_ended(self, deadline_s: float) -> int:
        """Exit code of `candlewire up`. Raises TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(deadline_s)

    def json(self, *arguments: str) -> Any:
        """What a command that must succeed prints, as JSON."""
        done = self.command(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `candlewire ...` against this stack."""
        return subprocess.run(
            [str(CANDLEWIRE), *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """What `candlewire status --json` prints, without half a second of a processor for a program of its own."""
        found = stack_status(Layout(self.data_dir))
        return {**found, "rooms": [room.as_json() for room in found["rooms"]]}

    def ports(self) -> list[int]:
        """Every port that was chosen for this stack."""
        return list(json.loads((self.data_dir / "run" / "ports.json").read_text()).values())

    def room(self, name: str) -> dict[str, Any]:
        """The status entry of one room."""
        entry: dict[str, Any] = next(room for room in self.status()["rooms"] if room["name"] == name)
        return entry

    def kill(self, name: str) -> int:
        """kill -9 the room's process; returns the pid that died."""
        pid = int(self.room(name)["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_restarted(self, name: str, old_pid: int, deadline_s: float = 60.0) -> dict[str, Any]:
        """Wait until the room runs again under another pid and is ready."""

        def probe() -> dict[str, Any] | None:
            room = self.room(name)
            return room if room["ready"] and room["pid"] not in (None, old_pid) else None

        return wait_for(f"{name} to be ready again", probe, deadline_s)

    def connect(self) -> psycopg.Connection[Any]:
        """The stack's database, as its owner, autocommit, times in UTC."""
        return psycopg.connect(self.status()["database_url"], autocommit=True, options="-c timezone=UTC")


class EnginesProcess(StackProcess):
    """Only the engines, with every topic applied."""

    arguments = ("up", "--engines")
