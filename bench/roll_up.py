"""One minute of 2,000 symbols: the aggregator's roll-up against the bare SQL aggregate of the same 120,000 rows.

Ours takes the dirty minutes, writes the candles of all six intervals and marks the outbox, in one transaction. The
reference is one `insert ... select ... group by symbol` into an empty table. Each three times, in turn; the medians
count.
"""

from __future__ import annotations

from statistics import median

from aggregator.roll_up import roll_up
from bench.engines import started
from bench.inserter import copy_lines
from bench.klines import made_up, past_open_ms
from bench.ratio import Ratio
from market.interval import MINUTE_MS
from runtime.clock import SystemClock
from runtime.database import Connection, TupleRow, connect

SYMBOLS = 2_000
SECONDS = 60
ROUNDS = 3

PREPARE = """
create table kline_1s_bench partition of kline_1s default;
create table bench_candle (like aggregated_kline including all);
"""
WATERMARKS = """
insert into symbol_watermark (symbol, stream, event_time)
select symbol, 'kline_1s', max(close_time) + interval '1 millisecond' from kline_1s group by symbol
"""
DIRTY = "insert into dirty_minute (symbol, open_time) select symbol, min(open_time) from kline_1s group by symbol"
BARE = """
insert into bench_candle (symbol, interval, open_time, close_time, open, high, low, close, base_volume, quote_volume,
    trade_count, taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, row_count,
    expected_count, covered_until, is_complete, is_closed, source, event_time)
select symbol, '1m', min(open_time), max(close_time), (array_agg(open order by open_time))[1], max(high), min(low),
    (array_agg(close order by open_time desc))[1], sum(base_volume), sum(quote_volume), sum(trade_count),
    sum(taker_buy_base_volume), sum(taker_buy_quote_volume), min(first_trade_id), max(last_trade_id), count(*), 60,
    max(close_time) + interval '1 millisecond', true, true, 'seconds', max(event_time)
from kline_1s group by symbol
"""


def run() -> list[Ratio]:
    """Milliseconds of both."""
    with started() as engines, connect(engines.database_url, "bench") as connection:
        connection.autocommit = True
        fill(connection)
        ours, bare = [], []
        for _ in range(ROUNDS):
            ours.append(ours_ms(connection))
            bare.append(bare_ms(connection))
    note = f"{SYMBOLS:,} symbols, {SYMBOLS * SECONDS:,} rows, median of {ROUNDS}"
    return [
        Ratio("roll-up of a minute, 6 intervals : bare aggregate", median(ours), median(bare), "ms", False, None, note)
    ]


def fill(connection: Connection[TupleRow]) -> None:
    """The seconds of one whole minute, watermarks beyond it."""
    first_open_ms = past_open_ms(SECONDS) // MINUTE_MS * MINUTE_MS
    connection.execute(PREPARE)
    with connection.cursor().copy("copy kline_1s from stdin") as copy:
        copy.write("".join(copy_lines(list(made_up(SYMBOLS, SECONDS, first_open_ms)))))
    connection.execute(WATERMARKS)
    connection.execute("vacuum analyze kline_1s")


def ours_ms(connection: Connection[TupleRow]) -> float:
    """The roll-up as the worker does it. Raises RuntimeError when it left something undone."""
    connection.execute("truncate aggregated_kline, candle_outbox, dirty_minute")
    connection.execute(DIRTY)
    clock = SystemClock()
    start_s = clock.monotonic_s()
    done = roll_up(connection)
    took_ms = (clock.monotonic_s() - start_s) * 1000
    if done.minutes != SYMBOLS:
        raise RuntimeError(f"{done.minutes} minutes were rolled up, not {SYMBOLS}")
    return took_ms


def bare_ms(connection: Connection[TupleRow]) -> float:
    """The reference."""
    connection.execute("truncate bench_candle")
    clock = SystemClock()
    start_s = clock.monotonic_s()
    connection.execute(BARE)
    return (clock.monotonic_s() - start_s) * 1000
