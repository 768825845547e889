"""Processes of an earlier run that was killed: they are on their way out; this waits for them, then ends them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from stack.layout import Layout

GRACE_S = 6.0
KILL_WAIT_S = 3.0


def find(layout: Layout) -> list[psutil.Process]:
    """Those processes named in the start files that still run with this DATA_DIR."""
    found = []
    for path in layout.run.glob("*.starts"):
        for pid in _pids(path)[-2:]:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.environ().get("DATA_DIR") == str(layout.data_dir):
                    found.append(process)
    return found


def clear(layout: Layout) -> int:
    """Wait until the leftovers are gone, killing what stays; returns how many there were. Forgets the old starts."""
    processes = find(layout)
    _, remaining = psutil.wait_procs(processes, timeout=GRACE_S)
    for process in remaining:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(remaining, timeout=KILL_WAIT_S)
    for path in layout.run.glob("*.starts"):
        path.unlink(missing_ok=True)
    return len(processes)


def _pids(path: Path) -> list[int]:
    try:
        return [int(line) for line in path.read_text("utf-8").split()]
    except (OSError, ValueError):
        return []
