"""The table operator_action: every request, who asked, and what became of it.

A request is `accepted` here, in one transaction with what can be done at once; the room that it is for looks for those
that wait, does the work and finishes the row, in one transaction with the work where the work is one. A crash in
between leaves it waiting, and every action may be done twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from runtime.database import AsyncConnection, Connection, TupleRow
from runtime.logs import get_logger

MAX_REFUSED_PER_MINUTE: Final = 30
MAX_WAITING: Final = 100
MAX_ARGUMENTS_CHARS: Final = 20_000
MAX_DETAIL_CHARS: Final = 2_000
MAX_RECENT: Final = 100
STATEMENT_TIMEOUT_MS: Final = 5_000

_MS: Final = "(extract(epoch from {}) * 1000)::bigint"
_COLUMNS: Final = (
    f"id, action, arguments, requested_by, {_MS.format('requested_at')}, state, detail, {_MS.format('finished_at')}"
)
ACCEPT: Final = f"""
insert into operator_action (action, arguments, requested_by) values (%s, %s::jsonb, %s) returning {_COLUMNS}
"""
#: Somebody who knocks all day must not fill the table.
REFUSE: Final = f"""
insert into operator_action (action, arguments, requested_by, state, detail, finished_at)
select %s, %s::jsonb, %s, 'refused', %s, now()
where (select count(*) from operator_action where requested_at > now() - interval '1 minute' and state = 'refused') < %s
returning {_COLUMNS}
"""
COUNT_WAITING: Final = "select count(*) from operator_action where state = 'accepted'"
WAITING: Final = f"""
select {_COLUMNS} from operator_action where state = 'accepted' and action = any(%s::text[]) order by id limit 1
"""
FINISH: Final = """
update operator_action set state = %s, detail = %s, finished_at = now() where id = %s and state = 'accepted'
"""
RECENT: Final = f"select {_COLUMNS} from operator_action order by requested_at desc, id desc limit %s"
BY_ID: Final = f"select {_COLUMNS} from operator_action where id = %s"

log = get_logger(__name__)


class Busy(Exception):
    """Too many requests wait for their rooms."""


class NotDone(Exception):
    """The action cannot be done; the text says why, for people."""


@dataclass(frozen=True)
class Request:
    """A row of operator_action; times ms."""

    id: int
    action: str
    arguments: Mapping[str, Any]
    requested_by: str
    requested_at_ms: int
    state: str
    detail: str | None
    finished_at_ms: int | None

    def as_json(self) -> dict[str, Any]:
        """For answers and `--json`."""
        return asdict(self)


def accept(connection: Connection[TupleRow], action: str, arguments: Mapping[str, Any], by: str) -> Request:
    """The row of a request, within the caller's transaction. Raises Busy."""
    count = connection.execute(COUNT_WAITING).fetchone()
    if count is not None and count[0] >= MAX_WAITING:
        raise Busy(f"{count[0]} requests wait for their rooms already")
    row = connection.execute(ACCEPT, [action, json.dumps(arguments), by]).fetchone()
    assert row is not None
    log.info("operator_action", action=action, arguments=dict(arguments), by=by)
    return Request(*row)


def refuse(connection: Connection[TupleRow], action: str, arguments: object, by: str, why: str) -> Request | None:
    """The row of a request that is not followed; None when there were too many in the last minute."""
    text = json.dumps(arguments)
    if len(text) > MAX_ARGUMENTS_CHARS or "\\u0000" in text:
        text = json.dumps({"left_out": f"{len(text)} characters"})
    with connection.transaction():
        values = [action[:100].replace("\x00", ""), text, by, why[:MAX_DETAIL_CHARS], MAX_REFUSED_PER_MINUTE]
        row = connection.execute(REFUSE, values).fetchone()
    log.warning("operator_action_refused", action=action[:100], by=by, reason=why)
    return None if row is None else Request(*row)


def next_waiting(connection: Connection[TupleRow], actions: Sequence[str]) -> Request | None:
    """The oldest request of these actions that waits."""
    row = connection.execute(WAITING, [list(actions)]).fetchone()
    connection.commit()
    return None if row is None else Request(*row)


async def next_waiting_async(connection: AsyncConnection[TupleRow], actions: Sequence[str]) -> Request | None:
    """The same for rooms with an event loop."""
    async with connection.transaction():
        row = await (await connection.execute(WAITING, [list(actions)])).fetchone()
    return None if row is None else Request(*row)


def finish(connection: Connection[TupleRow], request: Request, state: str, detail: str) -> None:
    """It is done or has failed; within the caller's transaction."""
    connection.execute(FINISH, [state, detail[:MAX_DETAIL_CHARS], request.id])
    log.info("operator_action_finished", id=request.id, action=request.action, state=state, detail=detail[:500])


async def finish_async(connection: AsyncConnection[TupleRow], request: Request, state: str, detail: str) -> None:
    """The same for rooms with an event loop."""
    await connection.execute(FINISH, [state, detail[:MAX_DETAIL_CHARS], request.id])
    log.info("operator_action_finished", id=request.id, action=request.action, state=state, detail=detail[:500])


def recent(connection: Connection[TupleRow], limit: int = MAX_RECENT) -> list[Request]:
    """The newest requests first."""
    rows = connection.execute(RECENT, [min(limit, MAX_RECENT)]).fetchall()
    connection.commit()
    return [Request(*row) for row in rows]


def by_id(connection: Connection[TupleRow], request_id: int) -> Request | None:
    """One request as it is now."""
    row = connection.execute(BY_ID, [request_id]).fetchone()
    connection.commit()
    return None if row is None else Request(*row)
