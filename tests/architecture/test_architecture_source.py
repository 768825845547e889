"""The house rules on this repository, and each of them on a tree where it must speak up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.source_rules import PACKAGES, RULES

ROOT = Path(__file__).resolve().parents[2]
TOPICS = '[kline_1s]\nkind = "fact"\n[dead_frame]\nkind = "fact"\n'
CLEAN = '"""A module."""\n'
LONG_FUNCTION = CLEAN + 'def long() -> None:\n    """Too long."""\n' + "    pass\n" * 70

#: rule -> (file, text that breaks it)
PLANTED = [
    ("budgets", "tests/test_feed.py", CLEAN + "x = 1\n" * 400),
    ("budgets", "producer/feed.py", CLEAN + "X = 1\n" * 400),
    ("budgets", "producer/__main__.py", CLEAN + "X = 1\n" * 60),
    ("budgets", "producer/feed.py", LONG_FUNCTION),
    ("budgets", "inserter/sql.py", CLEAN + "def f(a, b, c, d, e, g):\n    pass\n"),
    ("budgets", "inserter/sql.py", CLEAN + "class C:\n    def f(self, a, b, c, d, e, g):\n        pass\n"),
    ("pure_market", "market/trade.py", CLEAN + "import socket\n"),
    ("pure_market", "market/trade.py", CLEAN + "from runtime.clock import Clock\n"),
    ("pure_market", "market/trade.py", CLEAN + "import time\n"),
    ("pure_market", "market/trade.py", CLEAN + 'open("f")\n'),
    ("no_import_of_proofs", "stack/cli.py", CLEAN + "from bench.relay import run\n"),
    ("no_import_of_proofs", "webapp/urls.py", CLEAN + "import tests.conftest\n"),
    ("one_clock", "producer/feed.py", CLEAN + "import time\ntime.time()\n"),
    ("one_clock", "producer/feed.py", CLEAN + "import time\ntime.sleep(1)\n"),
    ("one_clock", "stack/up.py", CLEAN + "from time import monotonic\n"),
    ("one_clock", "aggregator/tasks.py", CLEAN + "import datetime\ndatetime.datetime.now(datetime.UTC)\n"),
    ("one_clock", "aggregator/tasks.py", CLEAN + "from datetime import datetime\ndatetime.utcnow()\n"),
    ("one_clock", "webapp/views.py", CLEAN + "from django.utils import timezone\ntimezone.now()\n"),
    ("one_clock", "exchange_sim/market.py", CLEAN + "import random\nrandom.random()\n"),
    ("one_clock", "exchange_sim/market.py", CLEAN + "import random\nrandom.Random(1)\n"),
    ("one_clock", "exchange_sim/market.py", CLEAN + "import numpy\nnumpy.random.default_rng()\n"),
    ("exact_names", "webapp/utils.py", CLEAN),
    ("exact_names", "stack/core/up.py", CLEAN),
    ("docstrings", "producer/feed.py", "X = 1\n"),
    ("docstrings", "producer/feed.py", CLEAN + "class Feed:\n    pass\n"),
    ("docstrings", "producer/feed.py", CLEAN + 'class Feed:\n    """A feed."""\n    def run(self): ...\n'),
    ("topics_declared_once", "producer/publish.py", CLEAN + 'TopicPartition("kline_1s", 0)\n'),
    ("topics_declared_once", "producer/publish.py", CLEAN + 'await producer.send("kline_1s", b"")\n'),
    ("topics_declared_once", "producer/publish.py", CLEAN + 'if record.topic == "dead_frame":\n    pass\n'),
    ("no_excuses", "producer/feed.py", CLEAN + "# TODO later\n"),
    ("no_excuses", "producer/feed.py", CLEAN + "x = 1  # noqa\n"),
]


def _tree(root: Path) -> Path:
    for package in PACKAGES:
        (root / package).mkdir()
        (root / package / "__init__.py").write_text(CLEAN)
    (root / "kafka").mkdir()
    (root / "kafka" / "topics.toml").write_text(TOPICS)
    return root


@pytest.mark.parametrize("name", RULES)
def test_this_repository_keeps_the_rule(name: str) -> None:
    assert RULES[name](ROOT) == []


@pytest.mark.parametrize("name", RULES)
def test_a_clean_tree_is_not_accused(name: str, tmp_path: Path) -> None:
    assert RULES[name](_tree(tmp_path)) == []


@pytest.mark.parametrize(("name", "file", "text"), PLANTED)
def test_a_planted_violation_is_found(name: str, file: str, text: str, tmp_path: Path) -> None:
    path = _tree(tmp_path) / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    found = RULES[name](tmp_path)
    assert found
    assert all(line.startswith(f"{file}:") for line in found)


def test_every_rule_has_a_planted_violation() -> None:
    assert {name for name, _, _ in PLANTED} == set(RULES)
