"""A broker of a test's own, without the rest of a stack: for settings that only a start can change."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from stack.engines import kafka
from stack.layout import Layout
from stack.program import python_child
from tests.stack_process import free_port, wait_for

READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0


class BrokerProcess:
    """Apache Kafka with kafka/server.properties; use as a context manager. It looks for old segments at once."""

    def __init__(self, data_dir: Path, retention_check_ms: int) -> None:
        self._layout = Layout(data_dir)
        self._options = kafka.KafkaOptions(free_port(), free_port(), retention_check_ms)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._options.port}"

    def __enter__(self) -> Self:
        self._layout.create()
        program = kafka.prepare(self._layout, self._options)
        with (self._layout.data_dir / "kafka" / "server.properties").open("a", encoding="utf-8") as properties:
            # Else the first look comes 30 s after the start.
            properties.write("log.initial.task.delay.ms=0\n")
        log = self._layout.log("kafka").open("wb")
        # Bound to our own life: a killed test run leaves nothing behind.
        command = [*python_child(), "--die", "TERM", "--", *program.command]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        wait_for("the broker", lambda: kafka.is_ready(self._options.port) or None, READY_DEADLINE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(STOP_DEADLINE_S)
