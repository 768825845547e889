"""The rows of an export as CSV lines, piece by piece, all of one snapshot of the database.

A piece is one statement within the reader's statement timeout, read to its end before anybody is given a byte of it:
a slow reader of the file keeps a snapshot, never a query. The server ends a snapshot that nobody has used for
IDLE_S, and closing the connection ends all of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from market.interval import Interval
from market.odd_intervals import MONTH
from runtime.database import Connection, TupleRow
from runtime.time_text import iso
from webapp.export.manifest import Progress
from webapp.export.tables import (
    PIECE_PARTS,
    PIECE_ROWS,
    Column,
    ExportQuery,
    Table,
    columns_of,
    keys_of,
    rolled_up_piece,
    stored_piece,
)
from webapp.selectors import ms

IDLE_S: Final = 60
#: Larger numbers are microseconds (the year 5138 in milliseconds).
MICROSECONDS_FROM: Final = 10**14
_SNAPSHOT: Final = "set transaction isolation level repeatable read, read only"
_IDLE: Final = f"set idle_in_transaction_session_timeout = {IDLE_S * 1000}"
_COMPLETE_LINE_END: Final = b",true\n"

_KNOWN: Final = """
    select {first}, greatest({covered}, (
        select {watermark} from symbol_watermark where symbol = %(symbol)s and stream = 'kline_1s'))
    from (select min(open_time) as first, max(open_time) as last from {table} where {where}) known
"""
#: First open time, and the time up to which everything is known (ms).
_KNOWN_SECONDS: Final = _KNOWN.format(
    first=ms("first"),
    covered=f"{ms('last')} + 1000",
    watermark=ms("event_time"),
    table="kline_1s",
    where="symbol = %(symbol)s",
)
_KNOWN_BARS: Final = _KNOWN.format(
    first=ms("first"),
    covered="(select " + ms("covered_until") + " from aggregated_kline where symbol = %(symbol)s"
    " and interval = %(interval)s and open_time = known.last)",
    watermark=ms("event_time"),
    table="aggregated_kline",
    where="symbol = %(symbol)s and interval = %(interval)s",
)


@dataclass(frozen=True)
class Piece:
    """Lines of the file without the header; `after`: keys of the last row, from which the next piece goes on.
    `is_over`: the last row is no bar that still forms."""

    lines: bytes
    rows: int
    complete_rows: int
    after: list[str]
    is_over: bool


class Snapshot:
    """The rows of one query as they are at this moment. Takes over the connection: close() ends whatever it does."""

    def __init__(
        self, connection: Connection[TupleRow], query: ExportQuery, columns: tuple[Column, ...] | None = None
    ) -> None:
        self.query = query
        self.columns = columns or columns_of(query)
        self._connection = connection
        connection.execute(_IDLE)
        connection.commit()
        connection.execute(_SNAPSHOT)

    def close(self) -> None:
        """Give the connection back to the system; the snapshot is over."""
        self._connection.close()

    def pieces(self, after: list[str] | None = None) -> Iterator[Piece]:
        """Pieces of at least a row, in order of the keys. Raises what the driver raises."""
        if self.query.table is Table.KLINES and not self.query.grid.is_stored:
            yield from self._rolled_up(after)
            return
        while True:
            piece = self._read(*stored_piece(self.query, self.columns, after))
            if piece is None:
                return
            yield piece
            if piece.rows < PIECE_ROWS:
                return
            after = piece.after

    def counted(self, progress: Progress) -> Iterator[bytes]:
        """The lines of the pieces; `progress` counts their rows."""
        for piece in self.pieces():
            progress.rows += piece.rows
            yield piece.lines

    def known_ms(self) -> tuple[int, int] | None:
        """Open time of the first stored bar, and the time up to which everything is known. None without bars."""
        base = self.query.grid.base
        values = {"symbol": self.query.symbol, "interval": base.value}
        row = self._connection.execute(_KNOWN_SECONDS if base is Interval.S1 else _KNOWN_BARS, values).fetchone()
        return None if row is None or row[0] is None else (row[0], row[1])

    def expected_bars(self) -> int | None:
        """How many closed bars the range asked for has: from its start (else the first stored bar) to its end, but not
        beyond what is known by now. None for other tables than klines."""
        known = self.known_ms() if self.query.table is Table.KLINES else None
        if known is None:
            return None
        grid = self.query.grid
        start_ms = grid.floor(known[0]) if self.query.start_ms is None else grid.ceiling(self.query.start_ms)
        end_ms = grid.floor(known[1] if self.query.end_ms is None else min(known[1], self.query.end_ms))
        if grid.interval == MONTH:
            return sum(1 for _ in grid.opens(start_ms, end_ms))
        return max(0, (end_ms - start_ms) // (grid.step(start_ms, 1) - start_ms))

    def complete_bars(self) -> int:
        """How many bars of the range are complete, for a layout whose lines do not tell."""
        thin = copy(self)
        thin.columns = tuple(column for column in columns_of(self.query) if column.name in ("open_time", "is_complete"))
        return sum(piece.complete_rows for piece in thin.pieces())

    def _rolled_up(self, after: list[str] | None) -> Iterator[Piece]:
        grid, query = self.query.grid, self.query
        ends = f"{ms('min(open_time)')}, {ms('max(open_time)')}"
        row = self._connection.execute(
            f"select {ends} from aggregated_kline where symbol = %s and interval = %s", [query.symbol, grid.base.value]
        ).fetchone()
        if row is None or row[0] is None:
            return
        start_ms = max(grid.floor(row[0]), query.start_ms or 0)
        if after is not None:
            found = self._connection.execute(f"select {ms('%s::timestamptz')}", after).fetchone()
            start_ms = max(start_ms, found[0] + 1) if found is not None else start_ms
        end_ms = row[1] + 1 if query.end_ms is None else min(query.end_ms, row[1] + 1)
        opens = list[int]()
        for open_ms in grid.opens(start_ms, end_ms):
            opens.append(open_ms)
            if len(opens) * grid.max_parts >= PIECE_PARTS or len(opens) == PIECE_ROWS:
                yield from self._bars_of(opens)
                opens = []
        if opens:
            yield from self._bars_of(opens)

    def _bars_of(self, opens: list[int]) -> Iterator[Piece]:
        piece = self._read(*rolled_up_piece(self.query, self.columns, opens))
        if piece is not None:
            yield piece

    def _read(self, select: str, values: Sequence[Any] | dict[str, Any]) -> Piece | None:
        statement = f"copy ({select}) to stdout (format csv)"
        with self._connection.cursor() as cursor, cursor.copy(statement, values) as rows:
            lines = [bytes(row) for row in rows]
        if not lines:
            return None
        text = b"".join(lines)
        last = next(csv.reader([lines[-1].decode()]))
        names = [column.name for column in self.columns]
        after = [self._key(key, last[names.index(key)]) for key in keys_of(self.query)]
        is_over = "is_closed" not in names or last[names.index("is_closed")] == "true"
        return Piece(text, len(lines), text.count(_COMPLETE_LINE_END), after, is_over)

    def _key(self, name: str, text: str) -> str:
        """A key of a row as the next statement compares it: archive files have times as numbers, ms or us."""
        if name != "open_time" or not text.isdigit():
            return text
        number = int(text)
        return iso(number // 1000 if number >= MICROSECONDS_FROM else number)
