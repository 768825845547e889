"""Every variable of the given settings modules: for the settings table of the docs, and to tell a misspelt one.

`python -m runtime.settings_table > docs/SETTINGS.md` writes the page; with names of settings modules, their table
alone. Modules are named by strings, so that nothing here depends on a room.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from runtime.settings import shown

ROOMS = ("stack", "exchange_sim", "producer", "inserter", "aggregator", "flask_stream", "webapp")
MODULES = (*(f"{room}.settings" for room in ROOMS), "runtime.topic_admin")
PAGE = """# Settings

Read from the environment, then from `.env` in the working directory, then the default. Written by
`python -m runtime.settings_table` from the settings model of each room; do not edit. `stack` stands for `make run` and
every `candlewire` command: what it is told, it hands on to the rooms.

"""

_M = TypeVar("_M", bound=BaseSettings)


@dataclass(frozen=True)
class Variable:
    """One variable: its default as text, what it means, and who reads it."""

    name: str
    default: str
    description: str
    read_by: tuple[str, ...]


def models_of(module_name: str) -> list[type[BaseSettings]]:
    """The settings models that the module itself declares. Raises ImportError."""
    module = importlib.import_module(module_name)
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, BaseSettings) and found.__module__ == module_name
    ]


def variables(module_names: Iterable[str]) -> dict[str, Variable]:
    """Every variable by its name in capitals; the first module that declares it gives default and meaning."""
    found: dict[str, Variable] = {}
    for module_name in module_names:
        reader = module_name.split(".")[0]
        for model in models_of(module_name):
            for field_name, field in model.model_fields.items():
                name = field_name.upper()
                before = found.get(name)
                if before is None:
                    default = "" if field.default is None else str(field.default)
                    found[name] = Variable(name, default, field.description or "", (reader,))
                elif reader not in before.read_by:
                    found[name] = Variable(name, before.default, before.description, (*before.read_by, reader))
    return found


def problems(module_name: str, values: Mapping[str, str], leave_out: Iterable[str]) -> dict[str, str]:
    """What the module's models say against the given variables (names in capitals), by variable.

    `leave_out` names variables that somebody else has checked.
    """
    ignored = set(leave_out)
    found: dict[str, str] = {}
    for model in models_of(module_name):
        given = {
            field: values[field.upper()]
            for field in model.model_fields
            if field.upper() not in ignored and values.get(field.upper())
        }
        try:
            only_given(model).model_validate(given)
        except ValidationError as error:
            for detail in error.errors():
                name = str(detail["loc"][0]).upper() if detail["loc"] else model.__name__
                if name not in ignored:
                    found[name] = f"{detail['msg']} (got {shown(name, detail['input'])})"
    return found


def only_given(model: type[_M]) -> type[_M]:
    """The same model, blind to environment and `.env`: it judges what it is given."""

    def sources(
        cls: type[BaseSettings],
        /,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        **_: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    return cast("type[_M]", type(model.__name__, (model,), {"settings_customise_sources": classmethod(sources)}))


def table(found: Mapping[str, Variable]) -> str:
    """The variables as a Markdown table, by name."""
    lines = ["| variable | default | meaning | read by |", "|---|---|---|---|"]
    for name in sorted(found):
        variable = found[name]
        default = f"`{variable.default}`" if variable.default else ""
        meaning = variable.description.replace("|", "\\|")
        lines.append(f"| `{name}` | {default} | {meaning} | {', '.join(variable.read_by)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole of docs/SETTINGS.md."""
    return PAGE + table(variables(MODULES))


if __name__ == "__main__":
    sys.stdout.write(table(variables(sys.argv[1:])) if sys.argv[1:] else page())
