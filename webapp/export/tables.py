"""What can be exported: the columns of each table, and the statement that reads a piece of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from market.interval import Interval
from market.odd_intervals import Grid, grid_of
from webapp.odd_klines import ODD_BARS, odd_bars_of
from webapp.selectors import to_time

FAR_MS: Final = 253_402_300_799_000
#: Rows of one statement. Stored bars that a statement rolls up, at least those of one bar.
PIECE_ROWS: Final = 10_000
PIECE_PARTS: Final = 50_000


#: Why there is no table of trades.
NO_TRADES: Final = "single trades are not stored here"


class Table(StrEnum):
    """What can be exported."""

    KLINES = "klines"
    GAPS = "gaps"
    COMPLETENESS = "completeness"


class Kind(StrEnum):
    """Of what kind the values of a column are."""

    TEXT = "text"
    TIME = "time"
    DECIMAL = "decimal"
    NUMBER = "number"
    FLAG = "flag"


@dataclass(frozen=True)
class Column:
    """One column of the file: its name and kind, and its SQL where that is not the name."""

    name: str
    kind: Kind
    sql: str = ""

    def selected(self) -> str:
        """As it stands in the select list; flags are written out as true and false."""
        text = self.sql or self.name
        return f"({text})::text as {self.name}" if self.kind is Kind.FLAG else f"{text} as {self.name}"


class ExportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Times ms UTC, from `start_ms` (inclusive) to `end_ms` (exclusive); None = no bound.

    Klines need symbol and interval; gaps are those that overlap the range, completeness is of whole hours."""

    table: Table
    symbol: str | None = None
    interval: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    #: Leave the forming bar out.
    is_closed_only: bool = False

    @property
    def grid(self) -> Grid:
        """The bars of the klines asked for."""
        return grid_of(self.interval or "")


def _columns(kind: Kind, names: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name in names.split())


_BEFORE: Final = (
    Column("symbol", Kind.TEXT),
    Column("interval", Kind.TEXT),
    *_columns(Kind.TIME, "open_time close_time"),
    *_columns(Kind.DECIMAL, "open high low close base_volume quote_volume"),
    Column("trade_count", Kind.NUMBER),
    *_columns(Kind.DECIMAL, "taker_buy_base_volume taker_buy_quote_volume"),
    *_columns(Kind.NUMBER, "first_trade_id last_trade_id"),
)
#: The last column tells of each line whether it is complete, so that complete bars are counted by the ends of lines.
SECONDS: Final = (
    *(Column("interval", Kind.TEXT, "'1s'::text") if c.name == "interval" else c for c in _BEFORE),
    *_columns(Kind.TIME, "event_time received_at"),
    Column("source", Kind.TEXT),
    Column("revision", Kind.NUMBER, "0"),
    Column("is_complete", Kind.FLAG, "true"),
)
CANDLES: Final = (
    *_BEFORE,
    *_columns(Kind.NUMBER, "row_count expected_count rest_count trades_count"),
    Column("covered_until", Kind.TIME),
    Column("is_closed", Kind.FLAG),
    *_columns(Kind.TIME, "event_time updated_at"),
    Column("source", Kind.TEXT),
    Column("revision", Kind.NUMBER),
    Column("is_complete", Kind.FLAG),
)
GAPS: Final = (
    Column("id", Kind.NUMBER),
    *_columns(Kind.TEXT, "symbol interval"),
    *_columns(Kind.TIME, "from_time to_time"),
    *_columns(Kind.TEXT, "cause state"),
    *_columns(Kind.TIME, "detected_at resolved_at"),
    *_columns(Kind.TEXT, "resolved_by detector"),
    Column("attempts", Kind.NUMBER),
    Column("next_attempt_at", Kind.TIME),
    Column("last_error", Kind.TEXT),
)
HOURS: Final = (
    Column("symbol", Kind.TEXT),
    Column("hour", Kind.TIME),
    *_columns(Kind.NUMBER, "expected stream rest trades absent open"),
    Column("updated_at", Kind.TIME),
)


def columns_of(query: ExportQuery) -> tuple[Column, ...]:
    """The columns of the file."""
    if query.table is Table.GAPS:
        return GAPS
    if query.table is Table.COMPLETENESS:
        return HOURS
    return SECONDS if query.interval == Interval.S1 else CANDLES


def keys_of(query: ExportQuery) -> tuple[str, ...]:
    """Columns that order the rows and tell any two apart."""
    if query.table is Table.GAPS:
        return ("from_time", "id")
    return ("hour", "symbol") if query.table is Table.COMPLETENESS else ("open_time",)


_TABLE_NAMES: Final = {Table.GAPS: "kline_gap", Table.COMPLETENESS: "completeness_hour"}
_TYPES: Final = {Kind.TIME: "timestamptz", Kind.NUMBER: "bigint", Kind.TEXT: "text"}


def stored_piece(query: ExportQuery, columns: tuple[Column, ...], after: list[str] | None) -> tuple[str, list[Any]]:
    """Statement for the next rows of a table, those whose keys come after `after` (None = from the first)."""
    table = _TABLE_NAMES.get(query.table, "kline_1s" if query.interval == Interval.S1 else "aggregated_kline")
    keys = keys_of(query)
    where: list[str] = []
    values: list[Any] = []
    if query.symbol is not None:
        where.append("symbol = %s")
        values.append(query.symbol)
    if query.table is Table.KLINES and query.interval != Interval.S1:
        where.append("interval = %s")
        values.append(query.interval)
    if query.start_ms is not None:
        first = {Table.GAPS: "to_time > %s", Table.COMPLETENESS: "hour > %s - interval '1 hour'"}
        where.append(first.get(query.table, "open_time >= %s"))
        values.append(to_time(query.start_ms))
    if query.end_ms is not None:
        where.append(f"{keys[0]} < %s")
        values.append(to_time(query.end_ms))
    if query.is_closed_only and table == "aggregated_kline":
        where.append("is_closed")
    if after is not None:
        kinds = {column.name: column.kind for column in columns_of(query)}
        where.append(f"({', '.join(keys)}) > ({', '.join(f'%s::{_TYPES[kinds[key]]}' for key in keys)})")
        values += after
    condition = f" where {' and '.join(where)}" if where else ""
    select = ", ".join(column.selected() for column in columns)
    return f"select {select} from {table}{condition} order by {', '.join(keys)} limit {PIECE_ROWS}", values


def rolled_up_piece(query: ExportQuery, columns: tuple[Column, ...], opens_ms: list[int]) -> tuple[str, dict[str, Any]]:
    """Statement for bars that are not stored, of these open times."""
    assert query.symbol is not None
    select = ", ".join(column.selected() for column in columns)
    condition = " where is_closed" if query.is_closed_only else ""
    return f"select {select} from ({ODD_BARS}) bar{condition}", odd_bars_of(query.symbol, query.grid, opens_ms)
