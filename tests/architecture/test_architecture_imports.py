"""The import contracts of .importlinter on this repository, and each of them on a tree that breaks it."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_rules import PACKAGES, ROOMS

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

#: contract id of .importlinter -> (file, import that breaks it)
PLANTED = [
    ("floors", "market/trade.py", "from runtime import clock"),
    ("floors", "runtime/clock.py", "import producer.feed"),
    ("floors", "producer/feed.py", "import inserter.consume"),
    ("floors", "stack/up.py", "import webapp.urls"),
    ("drivers", "inserter/consume.py", "import psycopg"),
    ("drivers", "producer/feed.py", "from aiokafka import AIOKafkaProducer"),
    ("django", "aggregator/tasks.py", "import django.db"),
    ("django", "stack/up.py", "from rest_framework import views"),
    ("flask", "webapp/urls.py", "import flask"),
    ("flask", "exchange_sim/streams.py", "import flask_sock"),
    ("celery", "webapp/urls.py", "from celery import Celery"),
    ("cycles", "producer/feed.py", "import producer.publish"),
]


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--config", ".importlinter", "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)


def _tree(root: Path) -> Path:
    for package in PACKAGES:
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    for module in ("inserter/consume", "producer/feed", "webapp/urls", "runtime/clock"):
        (root / f"{module}.py").touch()
    (root / "producer" / "publish.py").write_text("import producer.subscriptions\n")
    (root / "producer" / "subscriptions.py").write_text("import producer.feed\n")
    shutil.copy(ROOT / ".importlinter", root / ".importlinter")
    return root


def _contract_names() -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    prefix = "importlinter:contract:"
    return {s.removeprefix(prefix): parser[s]["name"] for s in parser.sections() if s.startswith(prefix)}


def test_this_repository_keeps_every_contract() -> None:
    result = _lint(ROOT)
    assert result.returncode == 0, result.stdout


def test_every_room_of_the_repository_is_under_the_contracts() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert found == set(PACKAGES)
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    assert set(parser["importlinter"]["root_packages"].split()) == set(PACKAGES)
    assert set(parser["importlinter:contract:floors"]["layers"].split("\n")[1].split(" | ")) == set(ROOMS)


def test_a_clean_tree_is_not_accused(tmp_path: Path) -> None:
    result = _lint(_tree(tmp_path))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("contract", "file", "line"), PLANTED)
def test_a_planted_import_breaks_its_contract(contract: str, file: str, line: str, tmp_path: Path) -> None:
    root = _tree(tmp_path)
    (root / file).write_text(line + "\n")
    result = _lint(root)
    assert result.returncode == 1, result.stdout
    assert f"{_contract_names()[contract]} BROKEN" in result.stdout


def test_every_contract_has_a_planted_import() -> None:
    assert {contract for contract, _, _ in PLANTED} == set(_contract_names())
