"""What is committed: no trace of a machine, complete locks, licences of everything that is used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture import repository_rules as rules

ROOT = Path(__file__).resolve().parents[2]
HASH = "a" * 64


def test_no_machine_paths_and_registry_hosts() -> None:
    assert rules.machine_names(ROOT, rules.tracked(ROOT)) == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_python_locks_are_complete(name: str) -> None:
    assert rules.python_lock((ROOT / name).read_text("utf-8")) == []


def test_node_locks_are_complete() -> None:
    locks = [path for path in rules.tracked(ROOT) if path.name == "package-lock.json"]
    assert locks
    assert [line for path in locks for line in rules.node_lock(path.read_text("utf-8"))] == []


def test_the_lock_of_jars_is_complete() -> None:
    locks = [path for path in rules.tracked(ROOT) if path.name == "jars.lock"]
    assert locks
    assert [line for path in locks for line in rules.jar_lock(path.read_text("utf-8"))] == []


def test_no_third_party_file_is_committed() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in rules.tracked(ROOT)]
    foreign = re.compile(r"(^|/)(node_modules|vendor)/|\.(jar|whl|woff2?|min\.js|gz|zip)$")
    assert [name for name in names if foreign.search(name)] == []


def test_licences_of_everything_that_is_installed_are_listed() -> None:
    listed = (ROOT / "docs" / "THIRD_PARTY.md").read_text("utf-8")
    rows = {match.group(1).lower() for match in re.finditer(r"^\| ([^|]+?) \|", listed, re.MULTILINE)}
    needed = rules.locked_names((ROOT / "requirements.lock").read_text("utf-8"))
    needed |= {"apache kafka", "postgresql", "valkey", "lightweight-charts", "uplot", "inter"}
    assert needed - rows == set()


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{rules.project_version(ROOT)}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize(
    "line", [f"data = '/{'work'}/x'", f"cd /{'tmp'}/job", f"see /{'root'}/notes", "index: https://pypi.org/simple"]
)
def test_a_planted_machine_name_is_found(line: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text(line)
    assert rules.machine_names(tmp_path, [path])


@pytest.mark.parametrize(
    "text",
    [
        f"a==1.0 \\\n    --hash=sha256:{HASH}\nb==2.0\n",
        f"a>=1.0 \\\n    --hash=sha256:{HASH}\n",
        f"--index-url https://x\na==1.0 \\\n    --hash=sha256:{HASH}\n",
    ],
)
def test_a_hole_in_a_python_lock_is_found(text: str) -> None:
    assert rules.python_lock(text)


@pytest.mark.parametrize(
    "entry", ['{"version": "1"}', '{"version": "1", "integrity": "sha512-x", "resolved": "https://h/a.tgz"}']
)
def test_a_hole_in_a_node_lock_is_found(entry: str) -> None:
    assert rules.node_lock(f'{{"packages": {{"": {{}}, "node_modules/a": {entry}}}}}')


@pytest.mark.parametrize("line", ["org.a:b:1.0", HASH, f"https://h/org.a:b:1.0 {HASH}"])
def test_a_hole_in_a_lock_of_jars_is_found(line: str) -> None:
    assert rules.jar_lock(line)
