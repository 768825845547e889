"""The collector's dealings with the database: one thread, bounded waits, new connections after a failure.

A server that hangs holds up the thread, never the collector: while a call has not come back no other one is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

from django.db import Error as DjangoError

from runtime.clock import Clock
from runtime.database import Connection, DatabaseError, LockNotAvailable, TupleRow, connect
from webapp.operations import log_book
from webapp.operations.snapshot import AlertRow
from webapp.operations.stored import Stored, StoredReader
from webapp.settings import WebappSettings

STATEMENT_TIMEOUT_MS: Final = 3_000
DEADLINE_S: Final = 2.5
TEND_EVERY_S: Final = 600.0
#: What ends a call and its connections, to be tried again in the next round.
Away: Final = (DatabaseError, DjangoError, OSError, TimeoutError)

_T = TypeVar("_T")


class Written(NamedTuple):
    """What became of a round's write. `is_writer`: this process is the one that alerts and writes."""

    is_writer: bool
    #: what the tables say: when this process has just become the writer, and each time while another one is
    alerts: list[AlertRow] | None
    #: start time and restarts of the rooms, the first time
    rooms: dict[str, tuple[int, int]] | None
    #: (condition, subject) -> number of the alert
    numbers: dict[tuple[str, str], int]


class DatabaseSide:
    """For the collector's loop: `read` and `write` raise one of `Away`, never later than DEADLINE_S."""

    def __init__(self, settings: WebappSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._reader = StoredReader(clock, settings.operator_stale_s)
        self._thread = ThreadPoolExecutor(1, "operations-database")
        self._pending: Future[Any] | None = None
        self._owner: Connection[TupleRow] | None = None
        self._is_writer = self._has_told_alerts = self._has_told_rooms = False
        self._tended_at_s: float | None = None

    async def read(self) -> Stored:
        """One round's figures."""
        return await self._call(self._read)

    async def write(
        self, at_ms: int, samples: Mapping[str, Mapping[str, Any]] | None, alerts: list[AlertRow]
    ) -> Written:
        """Samples (None = not in this round) and alerts that changed. Written twice they do no harm."""
        written = await self._call(lambda: self._write(at_ms, samples, alerts))
        # An answer that comes too late is not heard: then the next one tells what stood before this process.
        self._has_told_rooms = True
        self._has_told_alerts = written.is_writer
        return written

    async def _call(self, work: Callable[[], _T]) -> _T:
        if self._pending is not None and not self._pending.done():
            raise TimeoutError(f"no answer for longer than {DEADLINE_S:g} s")
        future = self._thread.submit(self._guarded, work)
        self._pending = future
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), DEADLINE_S)
        except TimeoutError:
            raise TimeoutError(f"no answer within {DEADLINE_S:g} s") from None

    def _guarded(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except Away:
            self._forget()
            raise

    def _forget(self) -> None:
        owner, self._owner, self._is_writer, self._has_told_alerts = self._owner, None, False, False
        self._reader.forget()
        if owner is not None:
            owner.close()

    def _connected(self) -> Connection[TupleRow]:
        if self._owner is None:
            url = self._settings.database_url
            self._owner = connect(url, "webapp-operations", statement_timeout_ms=STATEMENT_TIMEOUT_MS)
            self._owner.autocommit = True
        return self._owner

    def _read(self) -> Stored:
        return self._reader.read(self._connected())

    def _write(self, at_ms: int, samples: Mapping[str, Mapping[str, Any]] | None, alerts: list[AlertRow]) -> Written:
        owner = self._connected()
        rooms = None if self._has_told_rooms else log_book.newest_rooms(owner, at_ms)
        if not self._is_writer:
            self._is_writer = log_book.take_lock(owner)
            if not self._is_writer:
                return Written(False, log_book.read_alerts(owner), rooms, {})
        numbers = {}
        for alert in alerts:
            number = log_book.write_alert(owner, alert)
            if number is not None:
                numbers[alert.condition, alert.subject] = number
        if samples is not None:
            self._tend(owner, at_ms)
            log_book.write_samples(owner, at_ms, samples)
        # Read after they were written: what was raised or over while the database was away is in it.
        return Written(True, None if self._has_told_alerts else log_book.read_alerts(owner), rooms, numbers)

    def _tend(self, owner: Connection[TupleRow], at_ms: int) -> None:
        now_s = self._clock.monotonic_s()
        if self._tended_at_s is None or now_s - self._tended_at_s >= TEND_EVERY_S:
            try:
                log_book.tend_partitions(owner, at_ms, self._settings.operator_history_days)
            except LockNotAvailable:
                return
            self._tended_at_s = now_s
