"""What operators have told a room: to pause, and which symbols to follow. Asked from the database, on a thread.

The database may be away, and the room goes on with what it was told last, which is kept in DATA_DIR over restarts.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runtime.clock import sleep_s
from runtime.database import UNDEFINED_TABLE, Connection, DatabaseError, TupleRow, connect
from runtime.health import Health
from runtime.logs import get_logger

POLL_S: Final = 1.5
STATEMENT_TIMEOUT_MS: Final = 3_000
FIRST_WAIT_S: Final = 2.0
DIRECTORY: Final = "control"

#: Parameter: room.
TOLD: Final = """
select coalesce((select is_paused from room_control where room = %(room)s), false),
       coalesce((select updated_by from room_control where room = %(room)s), ''),
       coalesce((select json_agg(json_build_array(symbol, is_wanted) order by updated_at, symbol) from symbol_choice),
                '[]'),
       (select max(id) from operator_action
        where state = 'accepted' and action in ('pause', 'resume') and arguments ->> 'room' = %(room)s)
"""
CONFIRM: Final = """
update operator_action set state = 'done', finished_at = now(),
       detail = case when (action = 'pause') = %(is_paused)s then %(detail)s else 'overtaken by a later request' end
where state = 'accepted' and action in ('pause', 'resume') and arguments ->> 'room' = %(room)s and id <= %(newest)s
"""

log = get_logger(__name__)


@dataclass(frozen=True)
class Told:
    """What a room was told last. `choices`: symbol -> followed beside SYMBOLS, or not though SYMBOLS names it."""

    is_paused: bool = False
    by: str = ""
    choices: Mapping[str, bool] = field(default_factory=dict)


def chosen(symbols: Sequence[str], choices: Mapping[str, bool]) -> list[str]:
    """The symbols to follow: those of SYMBOLS that nobody took away, then those that were added."""
    kept = [symbol for symbol in symbols if choices.get(symbol, True)]
    return kept + [symbol for symbol, is_wanted in choices.items() if is_wanted and symbol not in kept]


class RoomControl:
    """Looks what its room was told, each POLL_S, from `start` on. Read from any thread."""

    def __init__(self, database_url: str, room: str, data_dir: Path, health: Health) -> None:
        self._database_url, self._room, self._health = database_url, room, health
        self._path = _path(data_dir, room)
        self._connection: Connection[TupleRow] | None = None
        self._first = threading.Event()
        self._ended = threading.Event()
        self._applied: bool | None = None
        self._problem = ""
        self.told = kept(data_dir, room)

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="control", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def wait_first(self) -> bool:
        """After the first answer of the database, at most FIRST_WAIT_S: false when it is away."""
        return self._first.wait(FIRST_WAIT_S)

    def applied(self, *, is_paused: bool) -> None:
        """The room does so now: shown in its health, and its request is done."""
        if is_paused != self._applied and (is_paused or self._applied is not None):
            log.info("paused" if is_paused else "running", by=self.told.by)
        self._applied = is_paused
        self._health.set_paused(f"paused by an operator ({self.told.by})" if is_paused else None)

    def look(self) -> None:
        """Ask once; what the database does not answer stays as it was."""
        try:
            self._look()
            self._first.set()
            self._problem = ""
        except DatabaseError as error:
            reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            has_schema = error.sqlstate != UNDEFINED_TABLE
            if reason != self._problem:
                # A first start waits for the schema: no error that operators should see as the room's last.
                tell = log.warning if has_schema else log.info
                tell("control_not_read", reason=reason)
            self._problem = reason
            if not has_schema:  # nobody can have told anything
                self._first.set()
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _run(self) -> None:
        while not self._ended.is_set():
            self.look()
            sleep_s(POLL_S)
        if self._connection is not None:
            self._connection.close()

    def _look(self) -> None:
        if self._connection is None or self._connection.closed:
            name = f"{self._room}-control"
            self._connection = connect(self._database_url, name, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
        with self._connection.transaction():
            row = self._connection.execute(TOLD, {"room": self._room}).fetchone()
            assert row is not None
            is_paused, by, choices, newest = row
            if newest is not None and self._applied == is_paused:
                detail = f"{self._room} {'has stopped its work' if is_paused else 'is at work'}"
                values = {"room": self._room, "is_paused": is_paused, "detail": detail, "newest": newest}
                self._connection.execute(CONFIRM, values)
        told = Told(is_paused, by, dict(choices))
        if told != self.told:
            self.told = told
            self._keep(told)

    def _keep(self, told: Told) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(f".{os.getpid()}.new")
            content = {"is_paused": told.is_paused, "by": told.by, "choices": dict(told.choices)}
            fresh.write_text(json.dumps(content) + "\n", "utf-8")
            fresh.replace(self._path)
        except OSError as error:
            log.warning("control_not_kept", path=str(self._path), error=str(error))


def _path(data_dir: Path, room: str) -> Path:
    return data_dir / DIRECTORY / f"{room}.json"


def kept(data_dir: Path, room: str) -> Told:
    """What the room was told last, as its newest process has kept it; nothing where nothing was."""
    try:
        found: dict[str, Any] = json.loads(_path(data_dir, room).read_text("utf-8"))
        choices = {str(symbol): bool(is_wanted) for symbol, is_wanted in found["choices"].items()}
        return Told(bool(found["is_paused"]), str(found["by"]), choices)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Told()
