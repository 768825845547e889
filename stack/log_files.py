"""Reads a log that is written and rotated by somebody else."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from runtime.clock import sleep_s

FOLLOW_EVERY_S = 0.3
# After a rotation everything in the new file is new.
LARGEST_TAIL = 1_000_000


def newest(path: Path, lines: int) -> Iterator[str]:
    """The newest lines, oldest first."""
    with open(path, encoding="utf-8", errors="replace") as file:
        yield from deque(file, maxlen=lines)


def follow(path: Path, lines: int) -> Iterator[str]:
    """The newest lines, then every line that is added, through rotations, for ever."""
    wanted = lines
    while True:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from deque(file, maxlen=wanted)
            while not _was_rotated(file.fileno(), path):
                yield from file
                sleep_s(FOLLOW_EVERY_S)
            yield from file
        wanted = LARGEST_TAIL


def _was_rotated(descriptor: int, path: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
