"""Threads of the web process: no client keeps one from the others. /api/v3/ping answers without a database."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import httpx

from tests.stack_process import wait_for
from tests.webapp_process import DEADLINE_S, WebappProcess, run_webapp

#: Requests of the client that never pauses which are under way.
AHEAD = 20
#: Far more than an answer takes.
PATIENCE_S = 30.0


@contextmanager
def answering(log: Path, threads: int) -> Iterator[WebappProcess]:
    """The web application with so many threads and no database."""
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    variables = {"DATABASE_URL": nowhere, "WEB_THREADS": str(threads), "API_WEIGHT_PER_MINUTE": "0"}
    with run_webapp({}, log, **variables) as process:
        wait_for("webapp", lambda: process.readiness()[0] == 503, DEADLINE_S)
        yield process


def test_half_a_request_holds_no_thread_for_ever(tmp_path: Path) -> None:
    """As many clients as threads that send the beginning of a request and nothing else."""
    with answering(tmp_path / "log", threads=2) as process, ExitStack() as stack:
        for _ in range(2):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", process.port)))
            silent.sendall(b"GET /api/v3/ping HTTP/1.1\r\nHost: ")
        assert process.http.get("/api/v3/ping").status_code == 200
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_client_that_never_pauses_leaves_the_only_thread_to_others(tmp_path: Path) -> None:
    """Its next requests are always there before the answer to the last one."""
    enough = Event()

    def ask_on(port: int) -> int:
        request = b"GET /api/v3/ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as connection:
            connection.sendall(request * AHEAD)
            answers = connection.makefile("rb")
            answered = 0
            while not enough.is_set():
                connection.sendall(request)
                # A body without an end of line goes before the next answer's first line.
                while b"HTTP/1.1 200" not in (line := answers.readline()):
                    assert line, "the connection was closed"
                answered += 1
        return answered

    with answering(tmp_path / "log", threads=1) as process, ThreadPoolExecutor(1) as clients:
        busy = clients.submit(ask_on, process.port)
        try:
            with httpx.Client(base_url=process.url, timeout=PATIENCE_S) as patient:
                assert {patient.get("/api/v3/ping").status_code for _ in range(10)} == {200}
        finally:
            enough.set()
        assert busy.result(DEADLINE_S) > 0
    assert "Traceback" not in (tmp_path / "log").read_text()
