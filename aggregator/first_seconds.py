"""The seconds before our first one, for the 1 s chart of a new symbol: from the exchange's REST klines, source `rest`.

They end where our own rows begin, without a hole, so the account of every second simply starts earlier. Only for
symbols whose first row is young: what retention has dropped stays dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from market.errors import BadFrame
from market.interval import SECOND_MS, Interval
from market.kline import Kline
from runtime.clock import Clock
from runtime.database import Connection, TupleRow
from runtime.exchange_rest import MAX_KLINE_ROWS, ExchangeRest, RestRefused
from runtime.logs import get_logger

#: Followed symbols whose oldest row came over the stream within the last hour, with the time of that row.
BEGUN = """
select m.symbol, first.open_time
from market_symbol m
join symbol_watermark w on w.symbol = m.symbol and w.stream = 'kline_1s'
cross join lateral (
    select k.open_time, k.source from kline_1s k where k.symbol = m.symbol order by k.open_time limit 1
) first
where m.is_followed and first.source = 'stream' and first.open_time > w.event_time - interval '1 hour'
  and m.symbol <> all(%s::text[])
order by m.rank limit 1
"""
ENSURE_DAYS = """
select ensure_kline_1s_day(day) from (
    select distinct ((timestamptz 'epoch' + ms * interval '1 millisecond') at time zone 'UTC')::date as day
    from unnest(%s::bigint[]) ms
) days
"""
STORE = """
insert into kline_1s (symbol, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count,
                      taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, event_time,
                      received_at, source)
values (%s, timestamptz 'epoch' + %s * interval '1 millisecond', timestamptz 'epoch' + %s * interval '1 millisecond',
        %s, %s, %s, %s, %s, %s, %s, %s, %s, null, null, timestamptz 'epoch' + %s * interval '1 millisecond',
        now(), 'rest')
on conflict (symbol, open_time) do nothing
"""
MARK_DIRTY = """
insert into dirty_minute (symbol, open_time)
select distinct %s, date_trunc('minute', timestamptz 'epoch' + ms * interval '1 millisecond')
from unnest(%s::bigint[]) ms order by 2
on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1
"""

log = get_logger(__name__)


class FirstSeconds:
    """Loads one symbol at a time; each is asked for once in the life of the process."""

    def __init__(self, rest: ExchangeRest, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock
        self._asked: set[str] = set()

    def load_until(self, connection: Connection[TupleRow], end_s: float) -> None:
        """Symbols until none is left or the monotonic clock passes `end_s`. Raises RestUnavailable."""
        while self._clock.monotonic_s() < end_s and self._next_symbol(connection):
            pass

    def _next_symbol(self, connection: Connection[TupleRow]) -> bool:
        row = connection.execute(BEGUN, [list(self._asked)]).fetchone()
        connection.commit()
        if row is None:
            return False
        symbol, first = row[0], _ms(row[1])
        start_ms = first - MAX_KLINE_ROWS * SECOND_MS
        try:
            klines = self._rest.klines(symbol, Interval.S1, start_ms, first - SECOND_MS)
        except (RestRefused, BadFrame) as error:
            # Some exchanges of this protocol have no 1 s klines (binance.md 11).
            log.info("no_first_seconds", symbol=symbol, error=str(error))
            klines = []
        stored = unbroken_before(klines, first)
        with connection.transaction():
            store(connection, symbol, stored)
        self._asked.add(symbol)
        log.info("first_seconds_loaded", symbol=symbol, seconds=len(stored))
        return True


def unbroken_before(klines: Sequence[Kline], end_ms: int) -> list[Kline]:
    """The klines that lead up to `end_ms` second by second, oldest first; what lies before a hole is left out."""
    unbroken: list[Kline] = []
    for kline in sorted(klines, key=lambda k: k.open_time_ms, reverse=True):
        if kline.open_time_ms != end_ms - SECOND_MS * (len(unbroken) + 1):
            break
        unbroken.append(kline)
    return unbroken[::-1]


def store(connection: Connection[TupleRow], symbol: str, klines: Sequence[Kline]) -> None:
    """The rows, never over one of ours, and the minutes that they touch, within the caller's transaction."""
    if not klines:
        return
    times = [kline.open_time_ms for kline in klines]
    connection.execute(ENSURE_DAYS, [times])
    with connection.cursor() as cursor:
        cursor.executemany(STORE, [_values(kline) for kline in klines])
    connection.execute(MARK_DIRTY, [symbol, times])


def _values(k: Kline) -> list[object]:
    return [
        k.symbol, k.open_time_ms, k.close_time_ms, k.open, k.high, k.low, k.close, k.base_volume, k.quote_volume,
        k.trade_count, k.taker_buy_base_volume, k.taker_buy_quote_volume, k.close_time_ms,
    ]  # fmt: skip


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000
