"""Loopback ports: a block of neighbours that one process holds, and takes again at its next start.

Ports are chosen seconds before their programs listen: without a hold two stacks that start together could choose the
same. The first port of a block is bound by who holds it, and serves for nothing else; the kernel frees it with him.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.clock import new_random

BLOCK_PORTS: Final = 20
RANGE: Final = range(20_000, 30_000)


@dataclass(frozen=True)
class Block:
    """`ports` are the holder's as long as `hold` is open."""

    ports: range
    hold: socket.socket


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True when a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def hold_block(
    within: range, *, wanted: int | None = None, avoid: Collection[int] = (), count: int = BLOCK_PORTS - 1
) -> Block:
    """`count` ports of a block that nobody holds or listens in: of that with the port `wanted` if it can be had.

    `avoid`: ports that must not be among them. Raises RuntimeError when there is none.
    """
    starts = list(within[::BLOCK_PORTS])
    new_random().shuffle(starts)
    for first in sorted(starts, key=lambda first: wanted not in range(first, first + BLOCK_PORTS)):
        if block := _hold(range(first, first + 1 + count), avoid):
            return block
    raise RuntimeError(f"no {BLOCK_PORTS} free ports side by side between {within.start} and {within.stop - 1}")


def _hold(ports: range, avoid: Collection[int]) -> Block | None:
    # Without SO_REUSEADDR: nobody else can bind it, whatever his options.
    hold = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        hold.bind(("127.0.0.1", ports.start))
    except OSError:
        hold.close()
        return None
    if any(port in ports for port in avoid) or not all(is_free(port) for port in ports[1:]):
        hold.close()
        return None
    return Block(ports[1:], hold)


def choose(names: Sequence[str], remembered: Path, reserved: Collection[int]) -> tuple[dict[str, int], Block]:
    """A port for each name, and the block that they are of: that of the last start if it can be had. Remembers it.

    Raises RuntimeError when no free ports can be found.
    """
    block = hold_block(RANGE, wanted=_read(remembered).get(names[0]), avoid=reserved, count=len(names))
    chosen = dict(zip(names, block.ports, strict=True))
    remembered.write_text(json.dumps(chosen, indent=1) + "\n", "utf-8")
    return chosen, block


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text("utf-8"))
        return {str(name): int(port) for name, port in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
