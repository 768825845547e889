"""1 s rows as the text of COPY: made while the database still works on the batch before."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from inserter.batch import Row
from market.interval import SECOND_MS

SECOND_TEXTS_MAX = 8_192


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
