"""Running recordings of a DATA_DIR, and asking them to go on in a new part.

A recording holds a lock on `DATA_DIR/recordings/PID.json`, which says what it writes; who asks puts `PID.rotate`
beside it, and the recording takes that away. A file without a lock is what a killed one left.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from runtime.logs import get_logger

DIRECTORY: Final = "recordings"
ROTATE: Final = ".rotate"

log = get_logger(__name__)


class Registered:
    """A running recording, as it sees itself."""

    def __init__(self, path: Path) -> None:
        self._rotate = path.with_suffix(ROTATE)

    def is_asked_to_rotate(self) -> bool:
        """True once for each time somebody asked since the last look."""
        try:
            self._rotate.unlink()
        except OSError:
            return False
        return True


@contextmanager
def registered(data_dir: Path, output: Path) -> Iterator[Registered]:
    """While it records. Where DATA_DIR cannot be written it records all the same, and nobody can ask it anything."""
    path = data_dir / DIRECTORY / f"{os.getpid()}.json"
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "w", encoding="utf-8"))
            stack.callback(_remove, path)
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump({"output": str(output)}, file)
            file.flush()
        except OSError as error:
            log.warning("recording_not_registered", path=str(path), error=str(error))
        yield Registered(path)


def _remove(path: Path) -> None:
    for one in (path, path.with_suffix(ROTATE)):
        with suppress(OSError):
            one.unlink(missing_ok=True)


def running(data_dir: Path) -> dict[Path, str]:
    """Files of the running recordings, and what each writes."""
    found = {}
    for path in sorted((data_dir / DIRECTORY).glob("*.json")):
        with suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as file:
            if _is_locked(file):
                found[path] = Path(json.load(file)["output"]).name
    return found


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def ask_to_rotate(data_dir: Path) -> list[str]:
    """Names of the tapes whose recordings will begin a new part within a second or two."""
    asked = []
    for path, name in running(data_dir).items():
        with suppress(OSError):
            path.with_suffix(ROTATE).touch()
            asked.append(name)
    return asked
