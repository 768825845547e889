"""docker-compose.yml and Dockerfile as data, read the way Docker reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
SUBSTITUTION = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?:(:[-?])([^}]*))?\}|\$(\$)")


class MissingVariable(Exception):
    """A required variable has no value."""


@dataclass(frozen=True)
class Service:
    """One service after substitution."""

    name: str
    definition: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """Program and arguments; empty where the image's own runs."""
        return [str(part) for part in self.definition.get("command", [])]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the container gets."""
        return {name: str(value) for name, value in self.definition.get("environment", {}).items()}

    @property
    def is_ours(self) -> bool:
        """True for services made from this repository's image."""
        return "build" in self.definition

    @property
    def module(self) -> str:
        """What `python -m` runs; empty for others."""
        return self.command[2] if self.command[:2] == ["python", "-m"] else ""

    @property
    def is_once(self) -> bool:
        """True for services that do one thing and end."""
        return self.definition.get("restart") == "on-failure"


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced. Raises MissingVariable with the message."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest, dollar = match.groups()
        if dollar:
            return "$"
        found = variables.get(name, "")
        if found or kind is None:
            return found
        if kind == ":?":
            raise MissingVariable(f"{name}: {rest}")
        return str(rest)

    return SUBSTITUTION.sub(value, text)


def services(variables: Mapping[str, str], path: Path = ROOT / "docker-compose.yml") -> dict[str, Service]:
    """Every service by name. Raises MissingVariable."""

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return substitute(node, variables) if isinstance(node, str) else node

    document = yaml.safe_load(path.read_text("utf-8"))
    return {name: Service(name, walk(definition)) for name, definition in document["services"].items()}


def example_variables(path: Path = ROOT / ".env.example") -> dict[str, str]:
    """Names and values of .env.example."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def filled_in(**overrides: str) -> dict[str, str]:
    """.env.example as an operator fills it in."""
    secrets = {name: f"secret-of-{name.lower()}-0123456789-0123456789-0123456789" for name in secret_names()}
    return {**example_variables(), **secrets, **overrides}


def secret_names() -> set[str]:
    """Variables of .env.example that are left empty for the operator."""
    return {name for name, value in example_variables().items() if not value}


def dockerfile_stages(path: Path = ROOT / "Dockerfile") -> list[list[tuple[str, str]]]:
    """The instructions of each stage, as (name, rest)."""
    text = re.sub(r"\\\n", " ", path.read_text("utf-8"))
    stages: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, rest))
    return stages
