"""ruff and mypy are clean, and are set up so that they can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_rules import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=["lint", "format"])
def test_ruff_finds_nothing(arguments: tuple[str, ...]) -> None:
    result = _run("ruff", *arguments, ".")
    assert result.returncode == 0, result.stdout


@pytest.mark.timeout(600)
def test_mypy_strict_finds_nothing() -> None:
    result = _run("mypy", *PACKAGES, *(["bench"] if (ROOT / "bench").is_dir() else []))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("check",), '"""M."""\n\nimport os\n'),
        (("check",), '"""M."""\n\n\ndef f(a: int, b: int, c: int, d: int, e: int, g: int) -> None:\n    """F."""\n'),
        (("format", "--check"), '"""M."""\nX  =  1\n'),
    ],
)
def test_ruff_speaks_up(arguments: tuple[str, ...], text: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "planted.py").write_text(text)
    assert _run("ruff", *arguments, ".", cwd=tmp_path).returncode == 1


def test_mypy_speaks_up(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("def f(a):\n    return a\n")
    result = _run("mypy", "--strict", "planted.py", cwd=tmp_path)
    assert result.returncode == 1
    assert "no-untyped-def" in result.stdout
