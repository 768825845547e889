"""Loopback ports: is one free, pick free ones, remember them for the next start."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from pathlib import Path

from runtime.clock import new_random

FIRST_PORT = 20_000
LAST_PORT = 29_999
PICK_ATTEMPTS = 2_000


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True when a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def choose(names: Iterable[str], remembered: Path, reserved: Iterable[int]) -> dict[str, int]:
    """A free port for each name: the one of the last start if it is still free. Remembers the choice.

    Raises RuntimeError when no free port can be found.
    """
    before = _read(remembered)
    taken = set(reserved)
    chosen: dict[str, int] = {}
    for name in names:
        port = before.get(name, 0)
        if port in taken or not FIRST_PORT <= port <= LAST_PORT or not is_free(port):
            port = _pick(taken | set(before.values()))
        chosen[name] = port
        taken.add(port)
    remembered.write_text(json.dumps(before | chosen, indent=1) + "\n", "utf-8")
    return chosen


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text("utf-8"))
        return {str(name): int(port) for name, port in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _pick(taken: set[int]) -> int:
    random = new_random()
    for _ in range(PICK_ATTEMPTS):
        port = random.randint(FIRST_PORT, LAST_PORT)
        if port not in taken and is_free(port):
            return port
    raise RuntimeError(f"no free port between {FIRST_PORT} and {LAST_PORT}")
