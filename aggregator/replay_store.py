"""A schema of its own for what a tape says: tables like the public ones, filled by COPY, dropped by name.

Nothing here writes to a public table; a schema is dropped only when a replay made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

from market.digest import Fact, Hole, Second
from market.feed import GapCause
from market.kline import VALUE_COLUMNS, Candle, Source
from runtime.database import Connection, TupleRow, sql

SCHEMA_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
RESERVED: Final = re.compile(r"public|information_schema|pg_.*")
#: The comment of a schema that a replay made begins so.
MARK: Final = "candlewire replay "
TABLES: Final[Sequence[LiteralString]] = ("kline_1s", "aggregated_kline", "kline_gap", "dead_letter")
#: Facts that wait to be written.
FLUSH_FACTS: Final = 5_000
#: Dead letters that are kept; more are counted only.
LETTERS_MAX: Final = 10_000
LETTER_MAX_BYTES: Final = 65_536

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VALUES: Final = (*VALUE_COLUMNS, "first_trade_id", "last_trade_id")
_BAR: Final = ("symbol", "open_time", "close_time", *_VALUES, "event_time", "source")
_COLUMNS: Final = {
    "kline_1s": (*_BAR, "received_at"),
    "aggregated_kline": (
        *_BAR, "interval", "row_count", "expected_count", "covered_until", "is_complete", "is_closed", "trades_count",
    ),
    "kline_gap": ("symbol", "from_time", "to_time", "cause", "detector"),
    "dead_letter": ("topic", "partition", "record_offset", "reason", "payload", "received_at"),
}  # fmt: skip


class SchemaError(ValueError):
    """The schema cannot be made or dropped; the message says why."""


def require_schema_name(name: str) -> str:
    """The name, if a schema of ours may be called so. Raises SchemaError."""
    if not SCHEMA_NAME.fullmatch(name) or RESERVED.fullmatch(name):
        raise SchemaError(f"schema {name!r}: a small letter, then small letters, digits and _; not public or pg_*")
    return name


def drop_schema(connection: Connection[TupleRow], name: str) -> None:
    """Drop a schema that a replay made. Raises SchemaError for any other."""
    require_schema_name(name)
    row = connection.execute(
        "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = %s", [name]
    ).fetchone()
    if row is None:
        raise SchemaError(f"there is no schema {name}")
    if not str(row[0] or "").startswith(MARK):
        raise SchemaError(f"schema {name} was not made by a replay and stays")
    connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(name)))
    connection.commit()


class ReplayStore:
    """Writes into one new schema; every flush is a transaction."""

    def __init__(self, connection: Connection[TupleRow], schema: str, tape: str) -> None:
        """Makes the schema and its tables. Raises SchemaError when it exists."""
        self._connection, self.schema, self._tape = connection, require_schema_name(schema), tape
        self._waiting: dict[str, list[tuple[object, ...]]] = {table: [] for table in TABLES}
        self.counts = dict.fromkeys(("rows", "candles", "gaps", "dead_letters"), 0)
        #: whether the seconds of a symbol were built from trades
        self._built: dict[str, bool] = {}
        name = sql.Identifier(schema)
        exists = connection.execute("select 1 from pg_namespace where nspname = %s", [schema]).fetchone()
        if exists is not None:
            connection.rollback()
            raise SchemaError(f"schema {schema} exists already; choose another, or drop it: replay --drop {schema}")
        connection.execute(sql.SQL("create schema {}").format(name))
        for table in TABLES:
            identifier = sql.Identifier(table)
            connection.execute(
                sql.SQL("create table {}.{} (like public.{} including all)").format(name, identifier, identifier)
            )
        self._describe({"tape": tape, "state": "unfinished"})
        connection.commit()

    def fact(self, fact: Fact) -> None:
        """Keep a fact; written at the next flush at the latest. Raises what the driver raises."""
        if isinstance(fact, Second):
            self.counts["rows"] += 1
            self._built[fact.kline.symbol] = fact.source is Source.TRADES
            kline = fact.kline
            received = kline.received_at_ms or kline.event_time_ms
            self._put("kline_1s", (*_bar_values(kline, fact.source), _time(received)))
        elif isinstance(fact, Candle):
            self.counts["candles"] += 1
            self._put("aggregated_kline", self._candle_values(fact))
        else:
            self.counts["gaps"] += 1
            self._put("kline_gap", _gap_values(fact))

    def letter(self, line: int, reason: str, payload: bytes, received_ms: int) -> None:
        """A line that cannot be used; beyond LETTERS_MAX it is only counted."""
        self.counts["dead_letters"] += 1
        if self.counts["dead_letters"] <= LETTERS_MAX:
            text = reason.replace("\x00", "\\0")[:500]
            self._put("dead_letter", (self._tape, 0, line, text, payload[:LETTER_MAX_BYTES], _time(received_ms)))

    def flush(self) -> None:
        """Write what waits. Raises what the driver raises."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            for table, rows in self._waiting.items():
                if not rows:
                    continue
                statement = sql.SQL("copy {}.{} ({}) from stdin").format(
                    sql.Identifier(self.schema),
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, _COLUMNS[table])),
                )
                with cursor.copy(statement) as copy:
                    for row in rows:
                        copy.write_row(row)
                rows.clear()

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write the rest, and on the schema what became of it."""
        self.flush()
        self._describe({"state": "finished", **report})
        self._connection.commit()

    def _put(self, table: str, row: tuple[object, ...]) -> None:
        self._waiting[table].append(row)
        if len(self._waiting[table]) >= FLUSH_FACTS:
            self.flush()

    def _candle_values(self, candle: Candle) -> tuple[object, ...]:
        return (
            *_bar_values(candle, candle.source),
            candle.interval.value,
            candle.row_count,
            candle.expected_count,
            _time(candle.covered_until_ms),
            candle.is_complete,
            candle.is_closed,
            candle.row_count if self._built.get(candle.symbol) else 0,
        )

    def _describe(self, facts: Mapping[str, Any]) -> None:
        text = sql.Literal(MARK + json.dumps(facts))
        self._connection.execute(sql.SQL("comment on schema {} is {}").format(sql.Identifier(self.schema), text))


def _bar_values(bar: Any, source: Source) -> tuple[object, ...]:
    values = [getattr(bar, name) for name in _VALUES]
    return (
        bar.symbol,
        _time(bar.open_time_ms),
        _time(bar.open_time_ms + bar.interval.length_ms - 1),
        *values,
        _time(bar.event_time_ms),
        source.value,
    )


def _gap_values(hole: Hole) -> tuple[object, ...]:
    detector = "trade_chain" if hole.cause is GapCause.TRADE_CHAIN else "open_times"
    return (hole.symbol, _time(hole.from_ms), _time(hole.to_ms), hole.cause.value, detector)


def _time(time_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=time_ms)
