"""Exports to HTTP clients: so many at a time, each for so long, and their manifests afterwards.

Every running export holds one of the server's threads, one connection to the database and its snapshot. All three are
given back when the client has it all, goes away, reads nothing for so long that the server's socket gives up, or when
the time is up; then the body ends without its end, which no HTTP client takes for a whole file.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from runtime.clock import Clock
from runtime.database import DatabaseError
from runtime.logs import get_logger
from webapp.export.encoders import Encoder, Unrepresentable
from webapp.export.manifest import Progress, manifest
from webapp.export.pieces import Snapshot

#: Bytes handed to the socket at once: an interrupted client is noticed within so many.
WRITE_BYTES: Final = 1 << 18
MAX_MANIFESTS: Final = 1_000

log = get_logger(__name__)


class Aborted(Exception):
    """The export cannot go on; the connection is cut without the end of the body."""


class Exports:
    """What runs now and the manifests of what has finished, oldest forgotten first. Thread-safe; one per process."""

    def __init__(self, max_running: int) -> None:
        self._free = threading.BoundedSemaphore(max_running)
        self._lock = threading.Lock()
        self._manifests: OrderedDict[str, dict[str, Any] | None] = OrderedDict()

    def begin(self) -> bool:
        """Take one of the places; False when none is free."""
        return self._free.acquire(blocking=False)

    def end(self) -> None:
        """Give the place back."""
        self._free.release()

    def note(self, export_id: str, found: dict[str, Any] | None) -> None:
        """Remember a manifest; None = it runs or has been broken off."""
        with self._lock:
            self._manifests[export_id] = found
            while len(self._manifests) > MAX_MANIFESTS:
                self._manifests.popitem(last=False)

    def manifest(self, export_id: str) -> dict[str, Any] | None:
        """The manifest; None = not finished. Raises KeyError for one that is not known."""
        with self._lock:
            return self._manifests[export_id]


class ExportStream:
    """The bytes of one export. close() ends the query, wherever it is; the server calls it in every case."""

    def __init__(
        self, exports: Exports, export_id: str, snapshot: Snapshot, encoder: Encoder, query: dict[str, Any]
    ) -> None:
        self._exports, self._id, self._snapshot, self._encoder = exports, export_id, snapshot, encoder
        self._query = query
        self._progress = Progress()
        self._digest = hashlib.sha256()
        self._body: Iterator[bytes] = iter(())
        self._is_closed = False

    def start(self, clock: Clock, max_s: float) -> None:
        """Read the first piece, so that what fails at once can still be answered. Raises what the driver raises, and
        Unrepresentable."""
        self._exports.note(self._id, None)
        body = self._written(clock, clock.monotonic_s() + max_s)
        first = next(body)
        self._body = self._chain(first, body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._body)

    def close(self) -> None:
        """Give back place, connection and snapshot. Any number of times."""
        if not self._is_closed:
            self._is_closed = True
            self._snapshot.close()
            self._exports.end()

    def _chain(self, first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from _slices(first)
            for data in rest:
                yield from _slices(data)
        except (DatabaseError, Unrepresentable, Aborted) as error:
            log.warning("export_broken_off", export=self._id, rows=self._progress.rows, error=str(error).strip())
            raise

    def _written(self, clock: Clock, end_s: float) -> Iterator[bytes]:
        """The file, a piece at a time, the first one together with its head."""
        held = self._encoder.begin()
        for piece in self._snapshot.pieces():
            held += self._encoder.add(piece.lines)
            self._progress.rows += piece.rows
            self._progress.complete_rows += piece.complete_rows
            self._digest.update(held)
            yield held
            held = b""
            if clock.monotonic_s() > end_s:
                raise Aborted("it took longer than WEB_EXPORT_MAX_S allows")
        held += self._encoder.end()
        self._digest.update(held)
        found = manifest(self._progress, self._digest.hexdigest(), self._snapshot.expected_bars(), self._query)
        self._exports.note(self._id, found)
        yield held


def _slices(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), WRITE_BYTES):
        yield data[start : start + WRITE_BYTES]
