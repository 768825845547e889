"""Named crash points: tests kill a process exactly where it hurts (reliability: kill -9 at any line).

CRASH_POINT=name ends the process with SIGKILL the moment it reaches that point. With CRASH_MARKER=file it does so
once only: the file is made just before, and no point kills while it exists. With CRASH_ORDERS=file a point kills when
the file holds its name, and the file is removed just before. Unset, a point costs two comparisons.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

_point = os.environ.get("CRASH_POINT", "")
_marker = os.environ.get("CRASH_MARKER", "")
_orders = os.environ.get("CRASH_ORDERS", "")


def crash_point(name: str) -> None:
    """Die here if the environment says so."""
    if _orders and _is_ordered(name):
        os.kill(os.getpid(), signal.SIGKILL)
    if not _point or name != _point:
        return
    if _marker:
        if Path(_marker).exists():
            return
        Path(_marker).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def _is_ordered(name: str) -> bool:
    """True for one process only: who removes the order obeys it."""
    try:
        if Path(_orders).read_text("utf-8") != name:
            return False
        Path(_orders).unlink()
    except OSError:
        return False
    return True
