"""Named crash points: tests kill a process exactly where it hurts (reliability: kill -9 at any line).

CRASH_POINT=name ends the process with SIGKILL the moment it reaches that point. With CRASH_MARKER=file it does so
once only: the file is made just before, and no point kills while it exists. Unset, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

_point = os.environ.get("CRASH_POINT", "")
_marker = os.environ.get("CRASH_MARKER", "")


def crash_point(name: str) -> None:
    """Die here if the environment says so."""
    if not _point or name != _point:
        return
    if _marker:
        if Path(_marker).exists():
            return
        Path(_marker).touch()
    os.kill(os.getpid(), signal.SIGKILL)
