"""1 s rows as the inserter leaves them for the aggregator, and the candles made of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from aggregator.publish import to_candle
from aggregator.sql import AS_CANDLE
from market.interval import SECOND_MS, Interval
from market.kline import Candle, Kline
from runtime.database import Connection, TupleRow

INSERT = """
insert into kline_1s values (%s, timestamptz 'epoch' + %s * interval '1 millisecond',
    timestamptz 'epoch' + %s * interval '1 millisecond', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
    timestamptz 'epoch' + %s * interval '1 millisecond', now(), %s)
on conflict (symbol, open_time) do nothing
"""
MARK = """
insert into dirty_minute (symbol, open_time) values (%s, timestamptz 'epoch' + %s * interval '1 millisecond')
on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1
"""
WATERMARK = """
insert into symbol_watermark values (%s, 'kline_1s', timestamptz 'epoch' + %s * interval '1 millisecond')
on conflict (symbol, stream) do update set event_time = greatest(excluded.event_time, symbol_watermark.event_time)
"""


def make_days(connection: Connection[TupleRow], start_ms: int) -> None:
    """A partition for the day of `start_ms` and the one after it."""
    day = datetime.fromtimestamp(start_ms / 1000, UTC).date()
    connection.execute(
        f"create table kline_1s_{day:%Y%m%d} partition of kline_1s for values from"
        f" ('{day}') to ('{day + timedelta(days=2)}')"
    )
    connection.commit()


def insert(
    connection: Connection[TupleRow], klines: Iterable[Kline], watermark_ms: int | None = None, source: str = "stream"
) -> None:
    """What the inserter would do: rows, marks, watermark, in one transaction."""
    newest: dict[str, int] = {}
    with connection.transaction(), connection.cursor() as cursor:
        for k in klines:
            values: list[Any] = [k.symbol, k.open_time_ms, k.close_time_ms, k.open, k.high, k.low, k.close]
            values += [k.base_volume, k.quote_volume, k.trade_count, k.taker_buy_base_volume, k.taker_buy_quote_volume]
            cursor.execute(INSERT, [*values, k.first_trade_id, k.last_trade_id, k.event_time_ms, source])
            cursor.execute(MARK, [k.symbol, Interval.M1.floor(k.open_time_ms)])
            newest[k.symbol] = max(newest.get(k.symbol, 0), k.open_time_ms + SECOND_MS)
        for symbol, time_ms in newest.items():
            cursor.execute(WATERMARK, [symbol, watermark_ms or time_ms])


def candles_of(connection: Connection[TupleRow], symbol: str) -> dict[tuple[Interval, int], Candle]:
    rows = connection.execute(f"select {AS_CANDLE} from aggregated_kline k where symbol = %s", [symbol]).fetchall()
    connection.commit()
    return {(candle.interval, candle.open_time_ms): candle for candle in map(to_candle, rows)}
