"""In which order the files of tests run, and which of them stay together on one worker.

A whole stack uses a third of a core for as long as it lives, whoever looks at it. So the files that share one come
first and run on one worker, one after the other, and it is stopped behind the last of them (`conftest.py`).
Beside it run the tests of chaos and integration, which wait for most of their time. Short files come late, else two
workers wait for the third one's last file; last the seeds of the simulation, which keep both cores busy by themselves
and have a limit of their own.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parent.parent
STACK = "full_stack"
FOLDERS = ("chaos", "integration", "simulation", "architecture", "unit")
LAST = "tests/simulation/test_simulation_seeds.py"


@cache
def shares_stack(path: str) -> bool:
    """Whether a file of tests (path from the checkout) or the conftest.py beside it asks for the shared stack."""
    file = ROOT / path
    beside = file.with_name("conftest.py")
    return any(STACK in found.read_text("utf-8") for found in (file, beside) if found.exists())


def rank(path: str) -> int:
    """Place of a file in the order; the files that share the stack are before all others."""
    folder = Path(path).parts[1]
    if shares_stack(path):
        return -1
    if path == LAST:
        return len(FOLDERS) + 1
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


class Schedule(LoadFileScheduling):
    """`--dist loadfile` in the order of `rank`, in which the files that share the stack count as one."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return STACK if shares_stack(path) else path
