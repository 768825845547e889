"""Documents name only what exists, and generated ones are up to date."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from runtime import settings_table
from tests.architecture import document_rules as rules
from tests.architecture.repository_rules import tracked
from tests.architecture.source_rules import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
#: Written by other means or about other things: generated tables, and a list of foreign names.
NOT_JUDGED = frozenset({"docs/SETTINGS.md", "docs/THIRD_PARTY.md"})
#: Variables that our own programs do not read: those of docker-compose.yml's substitution and of the tests.
API_ROOTS = ("/api/v1", "/api/v3")
OUTSIDE = re.compile(r"\$\{([A-Z0-9_]+)")


def _documents() -> list[str]:
    names = [path.relative_to(ROOT).as_posix() for path in tracked(ROOT) if path.suffix == ".md"]
    return sorted(set(names) - NOT_JUDGED)


def _commands() -> frozenset[str]:
    import typer.main

    from stack.cli import app

    return frozenset(typer.main.get_group(app).commands)


def _serves(literals: list[re.Pattern[str]]) -> rules.Callable[[str], bool]:
    """Whether Django, the relay, the simulated exchange or a health server answers an address.

    Django is asked itself. For the others a string literal in their source is enough.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.django_settings")
    import django
    from django.urls import Resolver404, resolve

    django.setup()

    def serves(address: str) -> bool:
        plain = re.sub(r"<[^>]+>", "BTCUSDT", address).removesuffix("*")
        if plain.rstrip("/") in API_ROOTS:
            return True
        try:
            resolve(plain)
        except Resolver404:
            # The simulated exchange answers below /api/v3 too; documents speak of ours there.
            ours_alone = plain.startswith("/api/")
            return not ours_alone and any(pattern.match(plain) or pattern.match(address) for pattern in literals)
        return True

    return serves


def _has_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    if path.parent == ROOT and not path.exists():
        return name in ("venv", "pip", "pytest")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.fixture(scope="module")
def facts() -> rules.Facts:
    files = frozenset(path.relative_to(ROOT).as_posix() for path in tracked(ROOT))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    variables = set(settings_table.variables(settings_table.MODULES)) | set(OUTSIDE.findall(compose))
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    literals = rules.literal_paths(ROOT, ("flask_stream", "exchange_sim", "runtime", "webapp"))
    return rules.Facts(
        root=ROOT,
        files=files | {name for name in ignored if name.endswith("/")},
        make_targets=rules.make_targets(makefile),
        commands=_commands(),
        variables=frozenset(variables | rules.make_variables(makefile) | {"COMPOSE_PROFILES"}),
        constants=rules.constants(ROOT, frozenset(name for name in files if name.split("/")[0] in PACKAGES)),
        serves=_serves(literals),
        modules=_has_module,
    )


@pytest.mark.parametrize("name", _documents())
def test_the_document_names_only_what_exists(name: str, facts: rules.Facts) -> None:
    assert rules.check(name, (ROOT / name).read_text("utf-8"), facts) == []


def test_the_settings_page_is_up_to_date() -> None:
    wanted = settings_table.page()
    assert (ROOT / "docs" / "SETTINGS.md").read_text("utf-8") == wanted, (
        "run: python -m runtime.settings_table > docs/SETTINGS.md"
    )


def test_the_settings_page_has_every_room_of_the_repository() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/settings.py")} - {"runtime"}
    assert rooms == set(settings_table.ROOMS)


@pytest.mark.parametrize(
    "text",
    [
        "see `producer/nowhere.py`",
        "see `no/such/folder/`",
        "see `producer/feed.py:nothing_of_this_name`",
        "run `make nonsense`",
        "run `candlewire nonsense`",
        "```\ncandlewire nonsense --json\n```",
        "run `python -m producer.nowhere`",
        "set `NO_SUCH_VARIABLE`",
        "set `NOSUCH=1`",
        "open `/no/such/page`",
        "open `/api/v3/nonsense`",
        "see [this](nowhere.md)",
    ],
)
def test_a_planted_name_is_found(text: str, facts: rules.Facts) -> None:
    assert rules.check("docs/planted.md", text, facts)


@pytest.mark.parametrize(
    "text",
    [
        "see `runtime/clock.py`, `clock.py`, `market/`, `runtime/clock.py:SystemClock.now_ms`",
        "run `python -m runtime.topic_admin apply`",
        "set `DATA_DIR`, `SOURCE=sim`",
        "ask `/healthz`",
        "see [this](LIVE.md)",
        "nothing/of.py is code here",
    ],
)
def test_true_names_are_not_accused(text: str, facts: rules.Facts) -> None:
    assert rules.check("docs/planted.md", text, facts) == []
