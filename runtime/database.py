"""The database: the only code that imports its driver."""

from __future__ import annotations

import select
from typing import Final, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection, sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import _WaitTimeout
from psycopg.rows import TupleRow, dict_row

from runtime.errors import Retryable
from runtime.health import Health
from runtime.lifecycle import Stop
from runtime.logs import get_logger
from runtime.retry import Backoff

CONNECT_TIMEOUT_S = 5
#: The newest migration makes it as its last: before, a room would find tables without their newest columns.
LAST_OF_SCHEMA: Final = "public.latest_prices"
_HAS_SCHEMA: Final = f"select to_regclass('{LAST_OF_SCHEMA}') is not null"
UNDEFINED_TABLE: Final = "42P01"
#: A peer that is gone without a word is noticed: idle after 10 + 3 * 5 s, with something unacknowledged after 30 s.
KEEPALIVE: dict[str, int] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
#: What a server that is stopped (SIGSTOP, a hanging disk) cannot end is ended here, so long after its own time-out.
ANSWER_SLACK_S = 5.0
#: So often a wait looks whether it has been interrupted or has lasted too long.
WAIT_INTERVAL_S = 0.1

__all__ = [
    "KEEPALIVE",
    "AsyncConnection",
    "Connection",
    "DatabaseError",
    "LockNotAvailable",
    "OperationalError",
    "TupleRow",
    "UniqueViolation",
    "UnusableData",
    "bound_answers",
    "connect",
    "connect_async",
    "connect_when_ready",
    "dict_row",
    "has_hung_up",
    "is_retryable",
    "parse_url",
    "sql",
]

DatabaseError = psycopg.Error
OperationalError = psycopg.OperationalError
UniqueViolation = psycopg.errors.UniqueViolation
LockNotAvailable = psycopg.errors.LockNotAvailable
#: The values themselves are refused (out of range, constraint): SQLSTATE classes 22 and 23.
UnusableData = (psycopg.DataError, psycopg.IntegrityError)

log = get_logger(__name__)


class SchemaMissing(Retryable):
    """The migrations have not made everything yet."""

    def __init__(self) -> None:
        super().__init__("waiting for the schema (migrations)")


_T = TypeVar("_T")


def _options(statement_timeout_ms: int) -> str:
    return f"-c timezone=UTC -c statement_timeout={statement_timeout_ms} -c lock_timeout={LOCK_TIMEOUT_MS}"


def parse_url(database_url: str) -> dict[str, str]:
    """The parts of a connection string by libpq's names (host, port, dbname, user, ...). Raises ProgrammingError."""
    return {name: str(value) for name, value in conninfo_to_dict(database_url).items() if value is not None}


def connect(
    database_url: str, application_name: str, *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS
) -> Connection[TupleRow]:
    """A synchronous connection in UTC with statement and lock timeouts, answers bounded. Raises OperationalError."""
    connection = psycopg.connect(
        make_conninfo(database_url, **KEEPALIVE),
        application_name=application_name,
        connect_timeout=CONNECT_TIMEOUT_S,
        options=_options(statement_timeout_ms),
    )
    bound_answers(connection, statement_timeout_ms)
    return connection


def bound_answers(connection: Connection[TupleRow], statement_timeout_ms: int) -> None:
    """End every wait of the connection ANSWER_SLACK_S after the server should have: it is closed, OperationalError.

    The kernel acknowledges what a stopped server does not read, so neither keep-alive nor tcp_user_timeout ends it.
    """
    timeout_s = statement_timeout_ms / 1000 + ANSWER_SLACK_S
    wait = connection.wait

    def bounded_wait(work: PQGen[_T], interval: float = WAIT_INTERVAL_S, timeout: float | None = None) -> _T:
        try:
            return wait(work, interval, timeout_s if timeout is None else timeout)
        except _WaitTimeout as error:
            connection.pgconn.finish()
            raise OperationalError(f"the database has not answered for {timeout_s:.0f} s") from error

    vars(connection)["wait"] = bounded_wait


def require_schema(connection: Connection[TupleRow]) -> None:
    """Raises SchemaMissing until Django's migrations have made LAST_OF_SCHEMA."""
    row = connection.execute(_HAS_SCHEMA).fetchone()
    if row is None or not row[0]:
        raise SchemaMissing


def has_hung_up(connection: Connection[TupleRow]) -> bool:
    """Whether an idle connection is lost, without a question: between two queries a server says nothing, unless it
    ends. One that falls silent is not found here but ended by `bound_answers`."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def connect_async(
    database_url: str, application_name: str, *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS
) -> AsyncConnection[TupleRow]:
    """An asynchronous connection in UTC with statement and lock timeouts. Raises OperationalError."""
    return await psycopg.AsyncConnection.connect(
        make_conninfo(database_url, **KEEPALIVE),
        application_name=application_name,
        connect_timeout=CONNECT_TIMEOUT_S,
        options=_options(statement_timeout_ms),
    )


async def connect_when_ready(
    database_url: str, application_name: str, health: Health, backoff: Backoff, stop: Stop
) -> AsyncConnection[TupleRow] | None:
    """Connect, waiting for server and schema as long as it takes. None when asked to stop meanwhile.

    The schema is ready when Django's migrations have made LAST_OF_SCHEMA.
    """
    logged = ""
    while not stop.is_set:
        try:
            connection = await connect_async(database_url, application_name)
            cursor = await connection.execute(_HAS_SCHEMA)
            row = await cursor.fetchone()
            await connection.rollback()
            if row is not None and row[0]:
                backoff.reset()
                health.clear_problem("database")
                return connection
            await connection.close()
            reason = str(SchemaMissing())
        except psycopg.OperationalError as error:
            reason = f"database not reachable: {str(error).splitlines()[0]}"
        delay_s = backoff.next_delay_s()
        health.set_problem("database", reason)
        if reason != logged:
            log.warning("database_not_ready", reason=reason)
            logged = reason
        await stop.wait(delay_s)
    return None


def is_retryable(error: BaseException) -> bool:
    """True for what may work later: lost connection, deadlock, timeouts, resources (disk full, too many
    connections), server shutting down. SQLSTATE classes 08, 40, 53, 55, 57, and errors without a state."""
    if not isinstance(error, psycopg.Error):
        return False
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and error.sqlstate is None:
        return True
    return (error.sqlstate or "")[:2] in {"08", "40", "53", "55", "57"}
