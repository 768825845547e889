"""`candlewire retention --apply`: new settings into kafka/topics.toml, which is the source of truth, and to the broker.

The broker is asked first; what it refuses is not written. The file is replaced in one step, its comments stay.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import tomlkit
import typer

from market.topics import Topics, parse_topics
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.kafka_client import TOPICS_FILE, load_topics
from runtime.operations.requests import Busy, Request, accept, finish
from runtime.retention import FOREVER_MS
from runtime.topic_admin import TopicSettings, alter_each, wanted_config
from stack import check
from stack.layout import Layout
from stack.retention import settings_of
from stack.status import stack_environment

#: In place of KEY=VALUE: what the advisor proposes for each topic.
PROPOSAL: Final = "proposal"
NOT_AT_RUN_TIME: Final = (
    "--apply check_interval_ms: the broker reads it at its start alone; set KAFKA_RETENTION_CHECK_MS (or "
    "log.retention.check.interval.ms in kafka/server.properties) and start again\n"
)
#: What a topic has of its own.
OF_TOPICS: Final = ("retention_ms", "segment_ms", "segment_bytes")
NO_OVERRIDES: Final = TopicSettings.model_construct(kafka_retention_ms=None, kafka_segment_ms=None)


@dataclass(frozen=True)
class Change:
    """Settings of one topic by the names of OF_TOPICS: `at_broker` all as they are, `in_file` all as they are
    declared, `wanted` those that are to change at either."""

    topic: str
    at_broker: Mapping[str, int]
    in_file: Mapping[str, int]
    wanted: Mapping[str, int]

    @property
    def after(self) -> dict[str, int]:
        """All settings of the broker afterwards."""
        return {**self.at_broker, **self.wanted}

    @property
    def deletes(self) -> str:
        """What a shorter retention does at once, for people; empty when it is not shorter."""
        old, new = self.at_broker["retention_ms"], self.after["retention_ms"]
        if new == FOREVER_MS or (old != FOREVER_MS and new >= old):
            return ""
        return f"{self.topic}: records older than {new / 1000:g} s go at the next check, read or not"

    def __str__(self) -> str:
        parts = []
        for name, value in self.wanted.items():
            note = "" if self.at_broker[name] == self.in_file[name] else f" ({self.in_file[name]} in kafka/topics.toml)"
            parts.append(f"{name} {self.at_broker[name]}{note} -> {value}")
        return ", ".join(parts)


def plan(rows: Iterable[Mapping[str, Any]], declared: Topics, wanted: Mapping[str, int] | None) -> list[Change]:
    """Changes of the rows of the advisor's report; `wanted` None = what it proposes for each."""
    topics = {topic.name: topic for topic in declared.all()}
    changes = []
    for row in rows:
        asked = {name: int(row["proposal"][name]) for name in OF_TOPICS} if wanted is None else wanted
        at_broker = {name: int(row[name]) for name in OF_TOPICS}
        in_file = {name: int(getattr(topics[row["topic"]], name)) for name in OF_TOPICS}
        different = {name: value for name, value in asked.items() if not at_broker[name] == in_file[name] == value}
        if different:
            changes.append(Change(row["topic"], at_broker, in_file, different))
    return changes


def edited(text: str, changes: Iterable[Change]) -> str:
    """The text of kafka/topics.toml with the changes in it. Raises KeyError for a topic that it does not hold."""
    document = tomlkit.parse(text)
    named = {table.get("name", key): table for key, table in document.items()}
    for change in changes:
        for name, value in change.wanted.items():
            named[change.topic][name] = value
    made = tomlkit.dumps(document)
    parse_topics(made)
    return made


async def apply_changes(bootstrap_servers: str, path: Path, changes: Sequence[Change]) -> tuple[list[Change], str]:
    """Alter broker and file; returns what was altered, and why the rest was not ("" = nothing is left).

    Raises OSError when the file cannot be written; then nothing was changed at the broker either.
    """
    text = path.read_text("utf-8")
    _replace(path, text)
    topics = {topic.name: topic for topic in parse_topics(text).all()}
    # `after` holds every setting, so what this run alone has otherwise than the file (KAFKA_RETENTION_MS) stays.
    wanted = {
        change.topic: wanted_config(msgspec.structs.replace(topics[change.topic], **change.after), NO_OVERRIDES)
        for change in changes
    }
    taken, reason = await alter_each(bootstrap_servers, wanted)
    altered = [change for change in changes if change.topic in taken]
    if altered:
        try:
            _replace(path, edited(text, altered))
        except OSError as error:
            reason = f"the broker has them until the next start, but kafka/topics.toml cannot be written: {error}"
    return altered, reason


def _replace(path: Path, text: str) -> None:
    """Put the text in place of the file's, in one step; a crash leaves the old one or the new one."""
    mode = path.stat().st_mode
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise


def wanted_settings(given: Sequence[str]) -> dict[str, int] | None:
    """What --apply was given; None = what is proposed. Exit code 2 when it cannot be used."""
    if list(given) == [PROPOSAL]:
        return None
    wanted = settings_of(given, "--apply")
    if "check_interval_ms" in wanted:
        sys.stderr.write(NOT_AT_RUN_TIME)
        raise typer.Exit(2)
    return wanted


def alter(
    layout: Layout, answer: Mapping[str, Any], wanted: Mapping[str, int] | None, *, as_json: bool, yes: bool
) -> int:
    """Show what would change, ask, change; returns the exit code: 0 all done, 1 not all, 2 nobody can be asked."""
    changes = plan(answer["topics"], load_topics(TOPICS_FILE), wanted)
    if not as_json:
        _show(changes, answer)
    if changes and not yes:
        if as_json or not sys.stdin.isatty():
            sys.stderr.write("nothing was changed: --yes is needed where nobody can be asked\n")
            return 2
        if not typer.confirm("Alter kafka/topics.toml and the broker?"):
            print("nothing was changed")
            return 1
    altered, reason = _perform(layout, changes) if changes else ([], "")
    rows = [
        {
            "topic": change.topic,
            "before": change.at_broker,
            "after": change.after,
            "applied": change in altered,
            "warning": change.deletes or None,
        }
        for change in changes
    ]
    if as_json:
        print(json.dumps({"changes": rows, "error": reason or None}, indent=1))
    elif changes:
        print(f"{len(altered)} of {len(changes)} topics altered, in kafka/topics.toml and at the broker")
    if reason:
        sys.stderr.write(f"{reason}\n")
    return 1 if reason else 0


def _show(changes: Sequence[Change], answer: Mapping[str, Any]) -> None:
    for change in changes:
        print(f"{change.topic}: {change}")
        if change.deletes:
            print(f"WARNING {change.deletes}")
    if not changes:
        print("every topic stands so already")
    proposed, present = answer["proposed_check_interval_ms"], answer["check_interval_ms"]
    if proposed is not None and proposed != present:
        print(
            f"check interval: {present} ms, proposed {proposed} ms; that takes a restart with KAFKA_RETENTION_CHECK_MS"
        )
    settings = check.read(os.environ).settings
    for name in ("kafka_retention_ms", "kafka_segment_ms"):
        if getattr(settings, name) is not None:
            print(f"{name.upper()} is {getattr(settings, name)}, which goes before kafka/topics.toml at the next start")


def _perform(layout: Layout, changes: Sequence[Change]) -> tuple[list[Change], str]:
    """With its row of the audit, as far as the database answers: a log that is too short needs help before all."""
    environment = stack_environment(layout)
    servers, url = environment["KAFKA_BOOTSTRAP_SERVERS"], environment.get("DATABASE_URL")
    try:
        audit = _Audit(url, changes) if url else None
    except Busy as error:
        return [], str(error)
    except DatabaseError as error:
        audit = None
        sys.stderr.write(f"no audit row, the database does not answer: {str(error).splitlines()[0]}\n")
    altered, reason = _altered(servers, changes)
    if audit is not None:
        audit.close("failed" if reason else "done", reason or "; ".join(f"{one.topic}: {one}" for one in altered))
    return altered, reason


class _Audit:
    """The row of operator_action around the change."""

    def __init__(self, database_url: str, changes: Sequence[Change]) -> None:
        arguments = {
            one.topic: {name: [one.at_broker[name], value] for name, value in one.wanted.items()} for one in changes
        }
        self._connection: Connection[TupleRow] = connect(database_url, "retention")
        with self._connection.transaction():
            by = f"command line ({getpass.getuser()})"
            self._request: Request = accept(self._connection, "retention", arguments, by)

    def close(self, state: str, detail: str) -> None:
        """What became of it. A database that went away meanwhile is said; the change stands."""
        try:
            with self._connection, self._connection.transaction():
                finish(self._connection, self._request, state, detail)
        except DatabaseError as error:
            sys.stderr.write(f"the audit row stays open: {str(error).splitlines()[0]}\n")


def _altered(servers: str, changes: Sequence[Change]) -> tuple[list[Change], str]:
    try:
        return asyncio.run(apply_changes(servers, TOPICS_FILE, changes))
    except OSError as error:
        return [], f"nothing was changed: kafka/topics.toml cannot be written: {error.strerror}"
