"""Processes of an earlier run that was killed: they are on their way out; this waits for them, then ends them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import psutil

from stack.layout import Layout

GRACE_S = 6.0
KILL_WAIT_S = 3.0


def find(layout: Layout) -> list[psutil.Process]:
    """Those processes named in the start files, and their supervisor, that still run with this DATA_DIR."""
    found = []
    for path in (*layout.run.glob("*.starts"), layout.run / "supervisord.pid"):
        for pid in _pids(path)[-2:]:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.environ().get("DATA_DIR") == str(layout.data_dir):
                    found.append(process)
    return found


def outlive(layout: Layout) -> None:
    """Wait until the leftovers are gone, killing what stays."""
    _, remaining = psutil.wait_procs(find(layout), timeout=GRACE_S)
    kill(remaining, KILL_WAIT_S)


def clear(layout: Layout) -> None:
    """Outlive them, and forget what was started. Only for who holds the directory's lock."""
    outlive(layout)
    for path in layout.run.glob("*.starts"):
        path.unlink(missing_ok=True)


def kill(processes: Sequence[psutil.Process], wait_s: float) -> None:
    """kill -9, with what they have started, and wait until all are gone, so long at most."""
    doomed = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            doomed += process.children(recursive=True)
    for process in doomed:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(doomed, timeout=wait_s)


def _pids(path: Path) -> list[int]:
    try:
        return [int(line) for line in path.read_text("utf-8").split()]
    except (OSError, ValueError):
        return []
