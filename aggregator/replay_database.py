"""The digest of what the database holds of given times: the other side of a tape's digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final

from aggregator.stored_seconds import FIELDS, stored_second
from market.bars import BarStream
from market.digest import Digest
from market.interval import STORED_INTERVALS, Interval
from market.kline import Candle, Source
from runtime.database import Connection, TupleRow

_AT: Final = "timestamptz 'epoch' + %s::bigint * interval '1 millisecond'"
_OPEN_MS: Final = "(extract(epoch from open_time) * 1000)::bigint"
ROWS_AT_ONCE: Final = 10_000

SECONDS: Final = f"""
select {_OPEN_MS}, {", ".join(FIELDS)} from public.kline_1s
where symbol = %s and open_time >= {_AT} and open_time < {_AT} order by open_time
"""
#: Bars that lie in the time whole; those at its edges hold more than the tape saw.
CANDLES: Final = f"""
select interval, {_OPEN_MS}, row_count, {", ".join(FIELDS)} from public.aggregated_kline
where symbol = %s and open_time >= {_AT} and close_time < {_AT} order by open_time
"""
GAPS: Final = f"""
select (extract(epoch from from_time) * 1000)::bigint, (extract(epoch from to_time) * 1000)::bigint
from public.kline_gap where symbol = %s and interval = '1s' and state in ('open', 'absent', 'unrepairable')
and to_time > {_AT} and from_time < {_AT} order by from_time
"""


def database_digest(connection: Connection[TupleRow], windows_ms: Mapping[str, tuple[int, int]]) -> Digest:
    """Rows, candles and unresolved gaps of each symbol in its time [from, to). Raises what the driver raises.

    Candles that lie in the time whole are the stored ones; those at the edges are rolled up from the stored rows.
    All are read in one snapshot, so that a writer at work cannot come in between.
    """
    digest = Digest()
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        for symbol, (from_ms, to_ms) in windows_ms.items():
            span: list[str | int] = [symbol, from_ms, to_ms]
            candles = {
                (Interval(row[0]), row[1]): _candle(symbol, row) for row in connection.execute(CANDLES, span).fetchall()
            }
            for candle in _edges(connection, digest, span):
                if candle.open_time_ms < from_ms or candle.close_time_ms >= to_ms:
                    candles[candle.interval, candle.open_time_ms] = candle
            for interval in STORED_INTERVALS:
                for key in sorted(key for key in candles if key[0] is interval):
                    digest.candle(candles[key])
            for start_ms, end_ms in connection.execute(GAPS, span).fetchall():
                digest.gap(symbol, max(start_ms, from_ms), min(end_ms, to_ms))
    return digest


def _edges(connection: Connection[TupleRow], digest: Digest, span: list[str | int]) -> Iterator[Candle]:
    """Every candle that the stored rows make; the rows go to the digest on the way."""
    bars = BarStream()
    with connection.cursor("replay_seconds") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(SECONDS, span)
        klines = (stored_second(str(span[0]), row) for row in cursor)
        for _, minute in groupby(klines, key=lambda kline: Interval.M1.floor(kline.open_time_ms)):
            seconds = list(minute)
            for kline in seconds:
                digest.row(kline)
            yield from bars.minute(seconds, is_over=True)
    yield from bars.finish()


def _candle(symbol: str, row: TupleRow) -> Candle:
    interval, open_ms = Interval(row[0]), row[1]
    return Candle(
        symbol=symbol,
        interval=interval,
        open_time_ms=open_ms,
        close_time_ms=interval.close_time(open_ms),
        row_count=row[2],
        expected_count=interval.seconds,
        covered_until_ms=interval.close_time(open_ms) + 1,
        is_complete=row[2] == interval.seconds,
        is_closed=True,
        source=Source.SECONDS,
        revision=0,
        event_time_ms=open_ms,
        updated_at_ms=0,
        **dict(zip(FIELDS, row[3:], strict=True)),
    )
