"""Rows of `kline_1s` as klines, for those that compare them with what they should be."""

from __future__ import annotations

from typing import Final

from market.interval import SECOND_MS, Interval
from market.kline import VALUE_COLUMNS, Kline
from runtime.database import TupleRow

#: What follows the open time in a row.
FIELDS: Final = (*VALUE_COLUMNS, "first_trade_id", "last_trade_id")


def stored_second(symbol: str, row: TupleRow) -> Kline:
    """The closed kline of a row of (open time in ms, FIELDS). Its event time is not known: the open time."""
    open_ms: int = row[0]
    return Kline(
        symbol=symbol,
        interval=Interval.S1,
        open_time_ms=open_ms,
        close_time_ms=open_ms + SECOND_MS - 1,
        is_closed=True,
        event_time_ms=open_ms,
        **dict(zip(FIELDS, row[1:], strict=True)),
    )
