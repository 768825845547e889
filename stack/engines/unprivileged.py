"""How a program that refuses to run as root (PostgreSQL) is run when we are root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from stack.child import NOBODY
from stack.program import EngineError, python_child

PROBE_TIMEOUT_S = 20


def choose_user(program: Path, directory: Path | None) -> str | None:
    """None when we are no root; `userns` = as nobody in a user namespace (nothing is chowned); `nobody` = as the
    machine's nobody, which then owns `directory` (if given). Raises EngineError when neither works.
    """
    if os.geteuid() != 0:
        return None
    in_namespace = _try("userns", program)
    if in_namespace is None:
        return "userns"
    if directory is not None:
        give_away(directory)
    as_nobody = _try("nobody", program)
    if as_nobody is None:
        return "nobody"
    raise EngineError(
        "PostgreSQL refuses to run as root, and it cannot be run as somebody else here:\n"
        f"  in a user namespace: {in_namespace}\n"
        f"  as the user nobody: {as_nobody}\n"
        "Run candlewire as an ordinary user, or put the checkout and DATA_DIR where nobody may read, "
        "or give DATABASE_URL."
    )


def give_away(directory: Path) -> None:
    """Make nobody the owner of the directory and everything below."""
    os.chown(directory, NOBODY, NOBODY)
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(Path(parent, name), NOBODY, NOBODY, follow_symlinks=False)


def _try(user: str, program: Path) -> str | None:
    """Run `program --version` as that user; returns why it failed."""
    try:
        done = subprocess.run(
            [*python_child(), "--user", user, "--", str(program), "--version"],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]
