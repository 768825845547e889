"""Everything that is wrong with the settings, in one message, before anything is started or made."""

from __future__ import annotations

import difflib
import gzip
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from runtime import settings_table
from stack.layout import ROOT
from stack.ports import is_free
from stack.settings import StackSettings

OUR_PREFIXES = ("STREAM_", "TAPE_", "SIM_", "EXCHANGE_", "CANDLEWIRE_", "OPERATOR_")
NEAR_MISS_RATIO = 0.8
# Ours too, but read by tests and by docker-compose.yml, not by a room.
OTHER_VARIABLES = (
    "CANDLEWIRE_FORBID_SKIPS",
    "COMPOSE_PROFILES",
    "POSTGRES_PASSWORD",
    "ANALYST_PASSWORD",
    "VALKEY_PASSWORD",
    "PUBLISH_ADDRESS",
)
# Well-known variables of other programs that look like ours.
FOREIGN_VARIABLES = ("SOURCE_DATE_EPOCH",)

_Model = settings_table.only_given(StackSettings)


class SettingsError(Exception):
    """The settings cannot be used; `problems` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Checked:
    """Settings that can be used, and every variable of ours that was given (for the rooms)."""

    settings: StackSettings
    given: Mapping[str, str]
    data_dir: Path


def read(environment: Mapping[str, str], env_file: Path = ROOT / ".env") -> Checked:
    """The settings, without looking at ports and files: for every command but `up`. Raises SettingsError."""
    settings, given, problems = _read(environment, env_file)
    if problems:
        raise SettingsError(problems)
    return Checked(settings, given, _data_dir(settings, given))


def check(environment: Mapping[str, str], env_file: Path = ROOT / ".env") -> Checked:
    """The settings for a start. Raises SettingsError naming everything that is wrong."""
    known = settings_table.variables(settings_table.MODULES)
    from_file = _dotenv(env_file)
    problems = misspelt(environment, from_file, [*known, *OTHER_VARIABLES])
    values = from_file | {name: value for name, value in environment.items() if value}
    for module in settings_table.MODULES:
        if module == "stack.settings":
            continue
        found = settings_table.problems(module, values, leave_out=_own_names())
        problems += [f"{name}: {reason}" for name, reason in found.items() if f"{name}: {reason}" not in problems]
    settings, given, wrong = _read(environment, env_file)
    # All is looked at, so that one message names everything: with the default for what is wrong.
    problems += [*wrong, *_files(settings), *_together(settings)]
    problems += _occupied(settings, leave_out=[line.partition(":")[0] for line in wrong])
    if problems:
        raise SettingsError(problems)
    ours = {name: value for name, value in values.items() if name in known}
    return Checked(settings, ours, _data_dir(settings, given))


def misspelt(environment: Mapping[str, str], from_file: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Names that are none of ours: every such key of `.env`, and in the environment what is nearly one of ours."""
    names = sorted(set(known))
    lines = []
    for name in sorted(from_file):
        if name not in names:
            lines.append(f"{name} in .env: no such variable{_meant(name, names)}")
    for name in sorted(environment):
        if name in names or name in FOREIGN_VARIABLES or name in from_file:
            continue
        if name.startswith(OUR_PREFIXES) or _nearest(name, names):
            lines.append(f"{name}: no such variable{_meant(name, names)}")
    return lines


def _nearest(name: str, names: list[str]) -> str | None:
    found = difflib.get_close_matches(name, names, n=1, cutoff=NEAR_MISS_RATIO)
    return found[0] if found else None


def _meant(name: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _own_names() -> list[str]:
    return [name.upper() for name in StackSettings.model_fields]


def _dotenv(env_file: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(env_file, interpolate=False).items() if value is not None}


def _read(environment: Mapping[str, str], env_file: Path) -> tuple[StackSettings, dict[str, str], list[str]]:
    """The settings, what was given of them, and a line for each wrong one (the settings hold its default then)."""
    values = _dotenv(env_file) | {name: value for name, value in environment.items() if value}
    given = {field: values[field.upper()] for field in StackSettings.model_fields if values.get(field.upper())}
    try:
        return _Model.model_validate(given), given, []
    except ValidationError as error:
        wrong = {str(detail["loc"][0]): detail for detail in error.errors()}
    problems = [
        f"{name.upper()}: {detail['msg'].removeprefix('Value error, ')} (got {_shown(detail['input'])})"
        for name, detail in wrong.items()
    ]
    rest = {name: value for name, value in given.items() if name not in wrong}
    return _Model.model_validate(rest), rest, problems


def _shown(value: object) -> str:
    """The value as it was given, without the password of an address."""
    return re.sub(r"(?<=:)[^:@/'\"]+(?=@)", "...", repr(value))


def _data_dir(settings: StackSettings, given: Mapping[str, str]) -> Path:
    """DATA_DIR; a relative one that was given is below the working directory, the default below the checkout."""
    return (settings.data_dir if "data_dir" in given else ROOT / settings.data_dir).absolute()


def _files(settings: StackSettings) -> list[str]:
    if settings.source != "tape":
        return []
    if settings.tape is None:
        return ["TAPE: SOURCE=tape needs the path of a tape"]
    try:
        opener = gzip.open if settings.tape.suffix == ".gz" else open
        with opener(settings.tape, "rb") as file:
            empty = not file.read(1)
    except (OSError, EOFError, zlib.error) as error:
        return [f"TAPE: {settings.tape} cannot be read: {getattr(error, 'strerror', None) or error}"]
    return [f"TAPE: {settings.tape} is empty"] if empty else []


def _together(settings: StackSettings) -> list[str]:
    lines = []
    if (settings.exchange_ws_url is None) != (settings.exchange_rest_url is None):
        missing = "EXCHANGE_WS_URL" if settings.exchange_ws_url is None else "EXCHANGE_REST_URL"
        lines.append(f"{missing}: EXCHANGE_WS_URL and EXCHANGE_REST_URL go together")
    elif settings.exchange_ws_url is not None and settings.source in ("sim", "tape"):
        lines.append(f"SOURCE: {settings.source} starts its own exchange; EXCHANGE_WS_URL means SOURCE=binance")
    if settings.port == settings.stream_port:
        lines.append(f"STREAM_PORT: {settings.stream_port} is PORT too")
    return lines


def _occupied(settings: StackSettings, leave_out: Iterable[str]) -> list[str]:
    wanted = {"PORT": settings.port, "STREAM_PORT": settings.stream_port}
    return [
        f"{name}: port {port} is occupied by another program"
        for name, port in wanted.items()
        if name not in leave_out and not is_free(port)
    ]
