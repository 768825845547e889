"""The order of the test files: what it names exists, and the simulation's seeds are behind everything else."""

from __future__ import annotations

from tests.schedule import FOLDERS, LAST, ROOT, rank


def test_the_order_names_what_exists() -> None:
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    assert LAST in files
    assert all(rank(path) < rank(LAST) for path in files if path != LAST)
    assert {path.split("/")[1] for path in files} >= set(FOLDERS)
