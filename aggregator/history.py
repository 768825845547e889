"""History that charts need, from the exchange's REST klines: source `rest`, never over a complete bar of our own.

One call (at most 1,000 bars of one interval, newest first) is one slice; the weight budget is ExchangeRest's. Nothing
is remembered but `market_symbol.history_loaded_at`: a restart in the middle of a symbol loads that symbol again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from aggregator import sql
from aggregator.roll_up import make_parents
from market.errors import BadFrame
from market.interval import Interval
from market.kline import Kline
from runtime.clock import Clock
from runtime.database import Connection, TupleRow
from runtime.exchange_rest import MAX_KLINE_ROWS, ExchangeRest, RestRefused
from runtime.logs import get_logger

ORDER: Final = (Interval.M1, Interval.H1, Interval.M5, Interval.M15, Interval.H4, Interval.D1)
TOP_UP_MAX_SYMBOLS: Final = 50

NEXT_SYMBOL = """
select symbol from market_symbol where is_followed and history_loaded_at is null order by rank limit 1
"""
LOADED = "update market_symbol set history_loaded_at = now() where symbol = %s"
#: Minutes that are incomplete and that no gap explains: we began to listen in the middle of them.
BEGUN_LATE = """
select k.symbol, min(k.open_time), max(k.open_time)
from market_symbol m
join symbol_watermark w on w.symbol = m.symbol and w.stream = 'kline_1s'
cross join lateral (
    select c.symbol, c.open_time from aggregated_kline c
    where c.symbol = m.symbol and c.interval = '1m' and c.open_time > w.event_time - interval '30 minutes'
      and not c.is_complete and c.is_closed and c.source = 'seconds'
      and not exists (
          select from kline_gap g where g.symbol = c.symbol and g.interval = '1s'
            and g.from_time < c.open_time + interval '1 minute' and g.to_time > c.open_time)
) k
where m.is_followed and m.history_loaded_at is not null
group by k.symbol order by max(k.open_time) desc limit %s
"""
CREATE_STAGE = """
create temp table if not exists candle_stage (
    open_ms bigint, close_ms bigint, open numeric, high numeric, low numeric, close numeric, base_volume numeric,
    quote_volume numeric, trade_count bigint, taker_buy_base_volume numeric, taker_buy_quote_volume numeric
) on commit delete rows
"""
#: Parameters: symbol, interval, expected seconds (twice), whether to publish.
STORE_STAGE = """
with fresh as (
    select %s as symbol, %s as interval, timestamptz 'epoch' + open_ms * interval '1 millisecond' as open_time,
           timestamptz 'epoch' + close_ms * interval '1 millisecond' as close_time, s.*
    from candle_stage s
), stored as (
    insert into aggregated_kline as k (
        symbol, interval, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count,
        taker_buy_base_volume, taker_buy_quote_volume, row_count, expected_count, covered_until, is_complete,
        is_closed, source, event_time)
    select symbol, interval, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count,
           taker_buy_base_volume, taker_buy_quote_volume, %s, %s, close_time + interval '1 millisecond', true,
           true, 'rest', close_time
    from fresh order by open_time
    on conflict (symbol, interval, open_time) do update set
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        base_volume = excluded.base_volume, quote_volume = excluded.quote_volume,
        trade_count = excluded.trade_count, taker_buy_base_volume = excluded.taker_buy_base_volume,
        taker_buy_quote_volume = excluded.taker_buy_quote_volume, first_trade_id = null, last_trade_id = null,
        row_count = excluded.row_count, covered_until = excluded.covered_until, is_complete = true,
        is_closed = true, source = 'rest', event_time = excluded.event_time, updated_at = clock_timestamp(),
        revision = k.revision + case when k.is_closed then 1 else 0 end
    where not k.is_complete
    returning symbol, interval, open_time
)
insert into candle_outbox (symbol, interval, open_time)
select symbol, interval, open_time from stored where %s order by open_time
on conflict (symbol, interval, open_time) do update set marks = candle_outbox.marks + 1
"""

log = get_logger(__name__)


class History:
    """Loads what is missing, slice by slice. Used by one thread at a time."""

    def __init__(self, rest: ExchangeRest, clock: Clock, bars: int = MAX_KLINE_ROWS) -> None:
        self._rest = rest
        self._clock = clock
        self._bars = bars
        self._symbol = ""
        #: interval, how many bars of it are still to come, and the time they end before (None = now)
        self._left: list[tuple[Interval, int, int | None]] = []

    def load_until(self, connection: Connection[TupleRow], end_s: float) -> None:
        """Slices until nothing is missing or the monotonic clock passes `end_s`. Raises RestUnavailable."""
        while self._clock.monotonic_s() < end_s and self._next_slice(connection):
            pass

    def _next_slice(self, connection: Connection[TupleRow]) -> bool:
        """One REST call and its rows; false when every followed symbol has its history."""
        if not self._left:
            row = connection.execute(NEXT_SYMBOL).fetchone()
            connection.commit()
            if row is None:
                return False
            self._symbol, self._left = row[0], [(interval, self._bars, None) for interval in ORDER]
        interval, bars, end_ms = self._left[0]
        try:
            klines = self._closed(self._symbol, interval, None, end_ms, min(bars, MAX_KLINE_ROWS))
        except (RestRefused, BadFrame) as error:
            log.warning("history_refused", symbol=self._symbol, interval=interval.value, error=str(error))
            klines = []
        with connection.transaction():
            store(connection, self._symbol, interval, klines, is_published=False)
        self._left.pop(0)
        if bars > len(klines) == MAX_KLINE_ROWS:
            self._left.insert(0, (interval, bars - len(klines), klines[0].open_time_ms - 1))
        if not self._left:
            self._finish(connection)
        return True

    def _finish(self, connection: Connection[TupleRow]) -> None:
        """All intervals are in: make the forming bars above what is there, and write the symbol off."""
        with connection.transaction():
            newest = connection.execute(
                "select max(open_time) from aggregated_kline where symbol = %s and interval = '1m'", [self._symbol]
            ).fetchone()
            if newest is not None and newest[0] is not None:
                wait_for_lock(connection)
                make_parents(connection, [self._symbol], [newest[0]])
            connection.execute(LOADED, [self._symbol])
        log.info("history_loaded", symbol=self._symbol)

    def top_up(self, connection: Connection[TupleRow]) -> None:
        """Replace the minutes in which we began to listen by the exchange's, and the bars above them."""
        rows = connection.execute(BEGUN_LATE, [TOP_UP_MAX_SYMBOLS]).fetchall()
        connection.commit()
        for symbol, first, last in rows:
            try:
                klines = self._closed(symbol, Interval.M1, _ms(first), _ms(last))
            except (RestRefused, BadFrame) as error:
                log.warning("first_minutes_refused", symbol=symbol, error=str(error))
                continue
            with connection.transaction():
                wait_for_lock(connection)
                store(connection, symbol, Interval.M1, klines, is_published=True)
                make_parents(connection, [symbol] * 2, [first, last])
            log.info("first_minutes_taken_from_exchange", symbol=symbol, minutes=len(klines))

    def _closed(
        self, symbol: str, interval: Interval, start_ms: int | None, end_ms: int | None, limit: int = MAX_KLINE_ROWS
    ) -> list[Kline]:
        """Closed rows by the exchange's own clock; without an end, up to the bar before the forming one."""
        now_ms = self._rest.server_time_ms()
        newest_ms = interval.floor(now_ms) - 1
        klines = self._rest.klines(symbol, interval, start_ms, newest_ms if end_ms is None else end_ms, limit)
        return [kline for kline in klines if kline.close_time_ms < now_ms]


def wait_for_lock(connection: Connection[TupleRow]) -> None:
    """Take the roll-up's lock until the end of the transaction, waiting (lock_timeout is the bound)."""
    connection.execute("select pg_advisory_xact_lock(%s)", [sql.ROLL_UP_LOCK])


def store(
    connection: Connection[TupleRow], symbol: str, interval: Interval, klines: Sequence[Kline], *, is_published: bool
) -> None:
    """Closed klines of the exchange as candles with source `rest`, within the caller's transaction."""
    if not klines:
        return
    connection.execute(CREATE_STAGE)
    with connection.cursor() as cursor:
        with cursor.copy("copy candle_stage from stdin") as copy:
            copy.write("".join([_copy_line(kline) for kline in klines]))
        cursor.execute(STORE_STAGE, [symbol, interval.value, interval.seconds, interval.seconds, is_published])


def _copy_line(k: Kline) -> str:
    return (
        f"{k.open_time_ms}\t{k.close_time_ms}\t{k.open}\t{k.high}\t{k.low}\t{k.close}\t{k.base_volume}\t"
        f"{k.quote_volume}\t{k.trade_count}\t{k.taker_buy_base_volume}\t{k.taker_buy_quote_volume}\n"
    )


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000
