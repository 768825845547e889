"""`candlewire doctor`: looks at this machine and this stack, and names what would go wrong and what helps."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from stack import check, status
from stack.engines import jars, java, postgres, valkey
from stack.engines.unprivileged import choose_user
from stack.layout import ROOT, Layout
from stack.program import EngineError

LEAST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 2 * 1024**3
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `bad` findings make the exit code 1."""

    name: str
    bad: bool
    text: str


def examine(environment: Mapping[str, str], layout: Layout) -> list[Finding]:
    """Look at everything; a check that fails becomes a finding, never an exception."""
    steps: dict[str, Callable[[], tuple[bool, str]]] = {
        "python": _python,
        "libraries": _libraries,
        "java": _java,
        "kafka": _kafka,
        "postgres": _postgres,
        "valkey": lambda: (False, str(valkey.binary())),
        "front end": _front_end,
        "disk": lambda: _disk(layout),
        "settings": lambda: _settings(environment, layout),
        "stack": lambda: _stack(layout),
        "browser": _browser,
    }
    findings = []
    for name, step in steps.items():
        try:
            bad, text = step()
        except (EngineError, OSError, ValueError) as error:
            bad, text = True, str(error)
        findings.append(Finding(name, bad, text))
    return findings


def locked_versions(text: str) -> dict[str, str]:
    """Name and version of each library of a lock file that is meant for every machine."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+) \\$", text, flags=re.MULTILINE))


def _python() -> tuple[bool, str]:
    found = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info < LEAST_PYTHON, f"{found} at {sys.executable}"


def _libraries() -> tuple[bool, str]:
    wrong = []
    locked = locked_versions((ROOT / "requirements.lock").read_text("utf-8"))
    for name, wanted in locked.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        if found != wanted:
            wrong.append(f"{name} {found}, locked {wanted}")
    return bool(wrong), f"{'; '.join(wrong)}: run `make setup`" if wrong else f"{len(locked)} as locked"


def _java() -> tuple[bool, str]:
    found = java.find_java()
    return False, f"{java.version_of(found)} at {found}"


def _kafka() -> tuple[bool, str]:
    locked = jars.locked()
    bad = [jar.path.name for jar in locked if not jars.is_intact(jar)]
    return bool(
        bad
    ), f"missing or damaged: {', '.join(bad)}: run `make setup`" if bad else f"{len(locked)} jars as locked"


def _postgres() -> tuple[bool, str]:
    program = postgres.binaries() / "postgres"
    if os.geteuid() != 0:
        return False, "runs as this user"
    user = choose_user(program, None)  # nothing is given away by looking
    return False, f"runs as nobody ({'in a user namespace' if user == 'userns' else 'by giving up root'})"


def _front_end() -> tuple[bool, str]:
    missing = not (ROOT / "node_modules" / "lightweight-charts" / "package.json").exists()
    return missing, "node_modules is missing: run `make setup`" if missing else "installed"


def _disk(layout: Layout) -> tuple[bool, str]:
    place = layout.data_dir
    while not place.exists():
        place = place.parent
    free_bytes = shutil.disk_usage(place).free
    short = free_bytes < LEAST_FREE_BYTES
    return short, f"{free_bytes / 1024**3:.1f} GiB free at {place}" + (", 2 GiB are needed" if short else "")


def _settings(environment: Mapping[str, str], layout: Layout) -> tuple[bool, str]:
    try:
        if status.running_pid(layout) is None:
            check.check(environment)
        else:
            check.read(environment)
    except check.SettingsError as error:
        return True, "; ".join(error.problems)
    return False, "can be used"


def _stack(layout: Layout) -> tuple[bool, str]:
    if status.running_pid(layout) is None:
        return False, f"not running (DATA_DIR={layout.data_dir})"
    waiting = [f"{room.name}: {room.reason}" for room in status.stack_status(layout)["rooms"] if not room.ready]
    return bool(waiting), "; ".join(waiting) or "running, every room ready"


def _browser() -> tuple[bool, str]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return False, found or "no Chromium: the browser tests of `make test` need one"
