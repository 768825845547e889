"""Bringing the schema up to date: wait for the database, one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import call_command
from django.db import OperationalError, connections

from runtime.clock import new_random, sleep_s
from runtime.health import Health
from runtime.logs import get_logger
from runtime.retry import Backoff

#: Any number will do, as long as all versions of this program use the same.
LOCK_KEY = 0x63616E646C65
LOCK_POLL_S = 0.2

log = get_logger(__name__)


def wait_for_database(health: Health | None = None) -> None:
    """Block until the owner's connection works, backing off with jitter; the reason shows in `health`."""
    backoff = Backoff(new_random(), first_delay_s=0.5, max_delay_s=5.0, min_delay_s=0.1)
    while True:
        connection = connections["default"]
        try:
            connection.close_if_unusable_or_obsolete()
            connection.ensure_connection()
        except OperationalError as error:
            reason = f"database not reachable: {str(error).splitlines()[0]}"
            delay_s = backoff.next_delay_s()
            log.warning("database_not_ready", reason=reason, retry_in_s=round(delay_s, 1))
            if health is not None:
                health.set_problem("database", reason)
            sleep_s(delay_s)
        else:
            if health is not None:
                health.clear_problem("database")
            return


@contextmanager
def exclusive_schema() -> Iterator[None]:
    """Hold the advisory lock that lets one process at a time change the schema."""
    with connections["default"].cursor() as cursor:
        while True:
            cursor.execute("select pg_try_advisory_lock(%s)", [LOCK_KEY])
            if cursor.fetchone()[0]:
                break
            sleep_s(LOCK_POLL_S)
    try:
        yield
    finally:
        connection = connections["default"]
        if connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("select pg_advisory_unlock(%s)", [LOCK_KEY])


def migrate(health: Health) -> None:
    """Bring the schema up to date; waits for the database as long as it takes."""
    wait_for_database(health)
    call_command("migrate", interactive=False, verbosity=0)
