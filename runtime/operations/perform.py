"""Taking a request: its row, and in the same transaction what needs no room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runtime.database import Connection, TupleRow
from runtime.operations import recordings
from runtime.operations.requests import Busy, NotDone, Request, accept, by_id, finish

__all__ = ["Busy", "take"]

MAX_LETTERS: Final = 10_000
#: By their numbers, or all of a topic; bounded.
SOME_LETTERS: Final = """
select id from dead_letter where (%(ids)s::bigint[] is null or id = any(%(ids)s::bigint[]))
and (%(topic)s::text is null or topic = %(topic)s) and id > %(after)s order by id limit %(limit)s
"""
DISMISS: Final = f"""
with gone as (delete from dead_letter where id in ({SOME_LETTERS}) returning topic, partition, record_offset)
select topic, count(*), min(record_offset), max(record_offset) from gone group by topic order by topic
"""
CONTROL: Final = """
insert into room_control (room, is_paused, updated_by) values (%s, %s, %s)
on conflict (room) do update set is_paused = excluded.is_paused, updated_at = now(), updated_by = excluded.updated_by
where room_control.is_paused <> excluded.is_paused
"""


def letters(arguments: Mapping[str, Any], limit: int = MAX_LETTERS, after: int = 0) -> dict[str, Any]:
    """The parameters of SOME_LETTERS: at most `limit`, with numbers above `after`."""
    return {"ids": arguments.get("ids"), "topic": arguments.get("topic"), "limit": limit, "after": after}


def take(
    connection: Connection[TupleRow], action: str, arguments: Mapping[str, Any], by: str, *, data_dir: Path
) -> Request:
    """The request as it stands after what could be done at once. Raises Busy."""
    with connection.transaction():
        request = accept(connection, action, arguments, by)
        try:
            if action == "dismiss":
                finish(connection, request, "done", _dismiss(connection, arguments))
            elif action in ("pause", "resume"):
                # The room itself says when it has done so.
                connection.execute(CONTROL, [arguments["room"], action == "pause", by])
            elif action == "rotate_tape":
                finish(connection, request, "done", _rotate(data_dir))
        except NotDone as error:
            finish(connection, request, "failed", str(error))
    return by_id(connection, request.id) or request


def _dismiss(connection: Connection[TupleRow], arguments: Mapping[str, Any]) -> str:
    rows = connection.execute(DISMISS, letters(arguments)).fetchall()
    if not rows:
        raise NotDone("there is no such dead letter")
    parts = [
        f"{count} of {topic}" + ("" if first is None else f" (offsets {first} to {last})")
        for topic, count, first, last in rows
    ]
    return f"deleted {', '.join(parts)}"


def _rotate(data_dir: Path) -> str:
    asked = recordings.ask_to_rotate(data_dir)
    if not asked:
        raise NotDone("no recording of this DATA_DIR is running")
    return f"a new part of {', '.join(asked)}"
