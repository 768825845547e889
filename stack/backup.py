"""`candlewire backup`: a dump of the database in DATA_DIR/backups; only the newest are kept."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from stack.engines.postgres import binaries
from stack.program import EngineError, python_child

KEPT = 7
DUMP_TIMEOUT_S = 3_600
SUFFIX = ".dump"


@dataclass(frozen=True)
class Backup:
    """A finished dump, in pg_dump's custom format (for pg_restore)."""

    file: Path
    bytes: int
    removed: tuple[Path, ...]


def backup(database_url: str, directory: Path, now_ms: int) -> Backup:
    """Dump the database; an interrupted one leaves no file that looks whole. Raises EngineError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = directory / f"candlewire-{stamp}{SUFFIX}"
    partial = target.with_suffix(".part")
    parts = urlsplit(database_url)
    # The password goes by the environment: a command line can be read by everybody on the machine.
    where = urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}"))
    environment = {**os.environ, "PGPASSWORD": unquote(parts.password or "")}
    command = (
        str(binaries() / "pg_dump"),
        "--format=custom",
        "--no-password",
        f"--file={partial}",
        f"--dbname={where}",
    )
    try:
        done = subprocess.run(
            [*python_child(), "--die", "TERM", "--", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DUMP_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise EngineError(f"pg_dump failed: {done.stderr.strip()[-1000:]}")
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return Backup(target, target.stat().st_size, prune(directory))


def prune(directory: Path, kept: int = KEPT) -> tuple[Path, ...]:
    """Remove all but the newest `kept` dumps; their names sort by time."""
    dumps = sorted(directory.glob(f"candlewire-*{SUFFIX}"))
    removed = tuple(dumps[:-kept])
    for path in removed:
        path.unlink(missing_ok=True)
    return removed
