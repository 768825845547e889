"""The supervisor: supervisord's configuration, its process, and what can be asked of it (decision 0001)."""

from __future__ import annotations

import http.client
import os
import resource
import shlex
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from stack.layout import ROOT, Layout
from stack.program import Program, python_child

ROOM_STOP_S = 5
ENGINE_STOP_S = 3
STABLE_AFTER_S = 3
# supervisord waits one second longer after each failed start, and gives up after this many; `candlewire up` then
# starts the program anew, so that the wait is bounded and nobody gives up.
START_ATTEMPTS = 6
LOG_BYTES = "10MB"
LOG_BACKUPS = 2
WANTED_FILES = 65_536
RPC_TIMEOUT_S = 5


def configuration(layout: Layout, programs: Sequence[Program], port: int, password: str) -> str:
    """supervisord.conf: rooms stop before engines (higher priority stops first), each group in parallel."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    sections = [
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            logfile=layout.log("supervisord"),
            logfile_maxbytes="1MB",
            logfile_backups=1,
            loglevel="warn",
            pidfile=layout.run / "supervisord.pid",
            childlogdir=layout.logs,
            directory=ROOT,
            minfds=min(hard_limit, WANTED_FILES) if hard_limit > 0 else WANTED_FILES,
            minprocs=1,
            **({"user": "root"} if os.geteuid() == 0 else {}),
        ),
        _section("inet_http_server", port=f"127.0.0.1:{port}", username="candlewire", password=password),
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n",
    ]
    for group, priority, is_engine in (("engines", 1, True), ("rooms", 2, False)):
        members = [program for program in programs if program.is_engine == is_engine]
        if members:
            names = ",".join(program.name for program in members)
            sections.append(_section(f"group:{group}", programs=names, priority=priority))
        sections += [_program(layout, program) for program in members]
    return "\n".join(sections)


def _program(layout: Layout, program: Program) -> str:
    environment = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
    return _section(
        f"program:{program.name}",
        command=" ".join(shlex.quote(part) for part in program.wrapped(layout)),
        environment=environment,
        autostart="true",
        autorestart="true",
        startsecs=STABLE_AFTER_S,
        startretries=START_ATTEMPTS,
        stopsignal=program.stop_signal,
        stopwaitsecs=ENGINE_STOP_S if program.is_engine else ROOM_STOP_S,
        killasgroup="true",
        redirect_stderr="true",
        stdout_logfile=layout.log(program.name),
        stdout_logfile_maxbytes=LOG_BYTES,
        stdout_logfile_backups=LOG_BACKUPS,
    )


def _section(name: str, **values: object) -> str:
    """One section; supervisord expands %, so that is doubled."""
    lines = [f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items() if value != ""]
    return "\n".join([f"[{name}]", *lines, ""])


class _Transport(xmlrpc.client.Transport):
    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = RPC_TIMEOUT_S
        return connection


def _keep(output: IO[bytes], path: Path) -> None:
    """Write down what supervisord says of itself; what a full disk does not take is dropped.

    It complains there of each log line that cannot be written, and ends when that fails too: with a file of that
    disk for its output a full disk would end the whole stack, and with it the page that tells of it.
    """
    with output, open(path, "wb", buffering=0) as file:
        for line in output:
            with suppress(OSError):
                file.write(line)


class Supervisor:
    """The running supervisord, a child of `candlewire up` that dies with it."""

    def __init__(self, layout: Layout, programs: Sequence[Program], port: int, password: str) -> None:
        self._layout = layout
        self._programs = {program.name: program for program in programs}
        self._text = configuration(layout, programs, port, password)
        url = f"http://candlewire:{password}@127.0.0.1:{port}/RPC2"
        self._server = xmlrpc.client.ServerProxy(url, transport=_Transport())
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start supervisord, which starts every program at once with this environment."""
        path = self._layout.run / "supervisord.conf"
        path.touch(mode=0o600)
        path.write_text(self._text, "utf-8")
        # A session of its own: Ctrl-C on the terminal reaches `candlewire up` alone, which stops things in order.
        command = (*python_child(), "--die", "TERM", "--", sys.executable, "-m", "supervisor.supervisord")
        self._process = subprocess.Popen(
            [*command, "-c", str(path)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
        )
        said = self._layout.logs / "supervisord.out"
        threading.Thread(
            target=_keep, args=(self._process.stdout, said), name="supervisord-output", daemon=True
        ).start()

    def is_running(self) -> bool:
        """False once supervisord has ended."""
        return self._process is not None and self._process.poll() is None

    def revive(self) -> list[str]:
        """Start again what supervisord has given up on; returns the names."""
        try:
            found: Any = self._server.supervisor.getAllProcessInfo()
            given_up = [info for info in found if info["statename"] in ("FATAL", "EXITED", "UNKNOWN")]
            for info in given_up:
                self._server.supervisor.startProcess(f"{info['group']}:{info['name']}", False)
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return []
        return [str(info["name"]) for info in given_up]

    def ask_to_stop(self) -> None:
        """Begin the ordered stop: rooms, then engines."""
        if self._process is not None and self.is_running():
            self._process.terminate()

    def kill(self) -> None:
        """End supervisord at once; the kernel then signals what it has started."""
        if self._process is not None and self.is_running():
            self._process.kill()
            self._process.wait()
