"""Asking for actions from the command line: preview, confirmation, the request, and waiting for what becomes of it."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer

from runtime import logs
from runtime.clock import SystemClock, sleep_s
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.operations import requests
from runtime.operations.catalogue import BadArgument, parse
from runtime.operations.perform import Busy, take
from runtime.operations.preview import Place, preview
from runtime.operations.requests import Request
from runtime.time_text import iso
from stack.layout import Layout
from stack.status import stack_environment

WAIT_S: Final = 60.0
POLL_S: Final = 0.2
LETTERS: Final = """
select id, topic, partition, record_offset, reason, received_at from dead_letter
where %(topic)s::text is null or topic = %(topic)s order by id desc limit %(limit)s
"""
SYMBOLS: Final = """
select coalesce(m.symbol, c.symbol), coalesce(m.is_followed, false), c.is_wanted
from market_symbol m full join symbol_choice c on c.symbol = m.symbol
where m.is_followed or c.symbol is not null order by m.rank, 1
"""


@contextmanager
def _database(layout: Layout) -> Iterator[Connection[TupleRow]]:
    """The stack's own. Ends the command with exit code 1 when there is none or it does not answer."""
    logs.configure("operate", "ERROR", as_json=False, stream=sys.stderr)
    url = stack_environment(layout).get("DATABASE_URL")
    if not url:
        sys.stderr.write("no database: nothing was started with this DATA_DIR, and DATABASE_URL is not given\n")
        raise typer.Exit(1)
    try:
        timeout_ms = requests.STATEMENT_TIMEOUT_MS
        with connect(url, "candlewire", statement_timeout_ms=timeout_ms) as connection:
            yield connection
    except DatabaseError as error:
        sys.stderr.write(f"the database does not answer: {str(error).strip().splitlines()[0]}\n")
        raise typer.Exit(1) from None


def ask(layout: Layout, action: str, given: dict[str, Any], *, as_json: bool, yes: bool) -> int:
    """The exit code: 0 done, 1 failed, waiting or busy, 2 wrong arguments or not confirmed."""
    try:
        arguments = parse(action, given)
    except BadArgument as error:
        allowed = "" if error.allowed is None else f"; allowed: {error.allowed}"
        sys.stderr.write(f"{error}{allowed}\n")
        return 2
    by = f"command line ({getpass.getuser()})"
    with _database(layout) as connection:
        if not yes and not _is_confirmed(connection, layout, action, arguments):
            requests.refuse(connection, action, arguments, by, "not confirmed")
            sys.stderr.write("not confirmed; --yes does not ask\n")
            return 2
        try:
            request = take(connection, action, arguments, by, data_dir=layout.data_dir)
        except Busy as error:
            sys.stderr.write(f"{error}\n")
            return 1
        request = _wait(connection, request)
    print(json.dumps(request.as_json()) if as_json else words(request))
    if request.state == "accepted" and not as_json:
        print("The room that it is for has not done it yet; `candlewire actions` shows when it has.")
    return 0 if request.state == "done" else 1


def _is_confirmed(connection: Connection[TupleRow], layout: Layout, action: str, arguments: dict[str, Any]) -> bool:
    servers = stack_environment(layout).get("KAFKA_BOOTSTRAP_SERVERS", "")
    sys.stderr.write(preview(connection, action, arguments, Place(servers, layout.data_dir)) + "\n")
    connection.rollback()
    return sys.stdin.isatty() and typer.confirm("Do it?", err=True)


def _wait(connection: Connection[TupleRow], request: Request) -> Request:
    clock = SystemClock()
    end_s = clock.monotonic_s() + WAIT_S
    while request.state == "accepted" and clock.monotonic_s() < end_s:
        sleep_s(POLL_S)
        request = requests.by_id(connection, request.id) or request
    return request


def words(request: Request) -> str:
    """One line for people."""
    given = " ".join(f"{name}={_short(value)}" for name, value in request.arguments.items())
    detail = f": {request.detail}" if request.detail else ""
    at = iso(request.requested_at_ms)
    return f"{request.id:>6}  {at}  {request.action} {given}  by {request.requested_by}  {request.state}{detail}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def newest(layout: Layout, limit: int) -> list[Request]:
    """The newest requests first."""
    with _database(layout) as connection:
        return requests.recent(connection, limit)


def dead_letters(layout: Layout, topic: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest first."""
    with _database(layout) as connection:
        rows = connection.execute(LETTERS, {"topic": topic, "limit": limit}).fetchall()
    names = ("id", "topic", "partition", "record_offset", "reason")
    return [{**dict(zip(names, row, strict=False)), "received_at": row[5].isoformat()} for row in rows]


def symbols(layout: Layout) -> list[dict[str, Any]]:
    """Followed ones in their order, then those that operators took away."""
    with _database(layout) as connection:
        rows = connection.execute(SYMBOLS).fetchall()
    return [{"symbol": symbol, "is_followed": followed, "is_wanted": wanted} for symbol, followed, wanted in rows]
