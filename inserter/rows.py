"""1 s rows into the table: one by one while live, by COPY in catch-up.

A batch whose rows all lie at or past their symbol's watermark is new to the table, so it is copied straight in; should
a row be there all the same, the savepoint takes the copy back and the batch goes through the stage table and an upsert.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from inserter import sql
from inserter.batch import Row
from market.interval import SECOND_MS
from runtime.database import AsyncConnection, TupleRow, UniqueViolation

SECOND_TEXTS_MAX = 8_192


async def upsert(connection: AsyncConnection[TupleRow], rows: Sequence[Row]) -> int:
    """Number of rows that were new or newer than what the table had. Raises what the driver raises."""
    if not rows:
        return 0
    async with connection.cursor() as cursor:
        await cursor.executemany(sql.UPSERT_ROW, [_values(row) for row in rows])
        return cursor.rowcount


async def copy_in(connection: AsyncConnection[TupleRow], text: str, row_count: int, *, are_new: bool) -> int:
    """The same for rows as COPY text. Raises what the driver raises."""
    if are_new:
        try:
            async with connection.transaction():
                await _copy(connection, sql.COPY_ROWS, text)
        except UniqueViolation:
            # Somebody else brought the row (repair, a topic made again): the upsert decides.
            pass
        else:
            return row_count
    await _copy(connection, sql.COPY_STAGE, text)
    return (await connection.execute(sql.UPSERT_STAGE)).rowcount


async def _copy(connection: AsyncConnection[TupleRow], statement: str, text: str) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(text)


def copy_text(rows: Iterable[Row]) -> str:
    """The rows as COPY text."""
    return "".join([copy_line(row) for row in rows])


def copy_line(row: Row) -> str:
    """The row as COPY text, in the order of sql.COPY_COLUMNS."""
    k = row.kline
    opened = _second_text(k.open_time_ms // SECOND_MS)
    event_s, event_ms = divmod(k.event_time_ms, SECOND_MS)
    received_s, received_ms = divmod(k.received_at_ms, SECOND_MS)
    return (
        f"{k.symbol}\t{opened}+00\t{opened}.999+00\t{k.trade_count}\t{k.first_trade_id}\t{k.last_trade_id}\t"
        f"{_second_text(event_s)}.{event_ms:03d}+00\t{_second_text(received_s)}.{received_ms:03d}+00\tstream\t"
        f"{row.numbers}"
    )


@lru_cache(SECOND_TEXTS_MAX)
def _second_text(second: int) -> str:
    """The second (since the epoch) as the database reads it, without zone."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _values(row: Row) -> dict[str, Any]:
    k = row.kline
    return {
        "symbol": k.symbol,
        "open_ms": k.open_time_ms,
        "close_ms": k.close_time_ms,
        "open": k.open,
        "high": k.high,
        "low": k.low,
        "close": k.close,
        "base_volume": k.base_volume,
        "quote_volume": k.quote_volume,
        "trade_count": k.trade_count,
        "taker_base": k.taker_buy_base_volume,
        "taker_quote": k.taker_buy_quote_volume,
        "first_trade_id": k.first_trade_id,
        "last_trade_id": k.last_trade_id,
        "event_ms": k.event_time_ms,
        "received_ms": k.received_at_ms,
    }
