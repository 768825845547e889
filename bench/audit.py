"""One day of 20 symbols audited: `candlewire audit` against one bare aggregate over the same 1,728,000 seconds.

Ours compares 28,800 minutes with the exchange's rows in nine columns and each with its 60 seconds. The exchange is a
stand-in that gives ready JSON, so that our own work is measured; its rows are decoded as ever. The reference adds the
seconds up by minute, in nine columns, and compares nothing. Each twice, in turn; the faster run counts.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from aggregator.audit import audit, spans_of
from aggregator.roll_up import roll_up
from bench.engines import started
from bench.ratio import Ratio
from market.interval import DAY_MS, MINUTE_MS
from runtime.clock import SystemClock
from runtime.database import Connection, TupleRow, connect
from runtime.exchange_rest import ExchangeRest

SYMBOLS: Final = 20
MINUTES: Final = DAY_MS // MINUTE_MS
ROUNDS: Final = 2
LIMIT: Final = 10.0
#: Yesterday, in whole days UTC.
START_MS: Final = SystemClock().now_ms() // DAY_MS * DAY_MS - DAY_MS

FILL: Final = """
insert into kline_1s
select symbol, at, at + interval '999 milliseconds', 100 + n %% 7, 110 + n %% 5, 90 + n %% 3, 100 + n %% 11,
       1.5 + n %% 13, 150.25 + n %% 17, 3, 0.75 + n %% 13, 75.125 + n %% 17, n * 3, n * 3 + 2,
       at + interval '1 second', at, 'stream'
from (select unnest(%s::text[]) as symbol) s
cross join lateral (select n, %s::timestamptz + n * interval '1 second' as at from generate_series(0, 86399) n) seconds
"""
MARKS: Final = """
insert into dirty_minute (symbol, open_time)
select symbol, date_trunc('minute', open_time) from kline_1s group by 1, 2
"""
WATERMARK: Final = "insert into symbol_watermark (symbol, stream, event_time) select unnest(%s::text[]), 'kline_1s', %s"
BODIES: Final = """
select symbol, (extract(epoch from open_time) * 1000)::bigint, open::text, high::text, low::text, close::text,
       base_volume::text, (extract(epoch from close_time) * 1000)::bigint, quote_volume::text, trade_count,
       taker_buy_base_volume::text, taker_buy_quote_volume::text
from aggregated_kline where interval = '1m' order by symbol, open_time
"""
BARE: Final = """
select symbol, date_trunc('minute', open_time), (array_agg(open order by open_time))[1], max(high), min(low),
       (array_agg(close order by open_time desc))[1], sum(base_volume), sum(quote_volume), sum(trade_count),
       sum(taker_buy_base_volume), sum(taker_buy_quote_volume)
from kline_1s where open_time >= %s and open_time < %s group by 1, 2
"""


class ReadyRest(ExchangeRest):
    """An exchange whose answers lie ready, by symbol and first minute."""

    def __init__(self, bodies: dict[tuple[str, int], bytes]) -> None:
        super().__init__(["http://127.0.0.1:9"], SystemClock())
        self._bodies = bodies

    def get(self, endpoint: str, query: dict[str, str | int]) -> bytes:
        """The body of GET klines."""
        return self._bodies[str(query["symbol"]), int(query["startTime"])]


def run() -> list[Ratio]:
    """Seconds of both."""
    symbols = [f"BENCH{number:04}USDT" for number in range(SYMBOLS)]
    with started() as engines, connect(engines.database_url, "bench") as connection:
        connection.autocommit = True
        connection.execute("set statement_timeout = 0")
        connection.execute("set jit = off")
        fill(connection, symbols)
        rest = ReadyRest(bodies(connection))
        ours, bare = [], []
        for _ in range(ROUNDS):
            ours.append(ours_s(engines.database_url, rest, symbols))
            bare.append(bare_s(connection))
    note = f"{SYMBOLS} symbols, {SYMBOLS * MINUTES:,} minutes, best of {ROUNDS}; the promise is {LIMIT:.0f} s"
    return [Ratio("audit of a day : bare aggregate", min(ours), min(bare), "s", False, None, note)]


def fill(connection: Connection[TupleRow], symbols: list[str]) -> None:
    """A day of seconds and the candles of them."""
    start = datetime.fromtimestamp(START_MS / 1000, UTC)
    end = datetime.fromtimestamp((START_MS + DAY_MS) / 1000, UTC)
    connection.execute("select ensure_kline_1s_day(%s)", [start.date()])
    connection.execute(FILL, [symbols, start])
    connection.execute(MARKS)
    connection.execute(WATERMARK, [symbols, end])
    connection.execute("vacuum analyze kline_1s")
    while roll_up(connection).more:
        pass
    connection.execute("vacuum analyze aggregated_kline")


def bodies(connection: Connection[TupleRow]) -> dict[tuple[str, int], bytes]:
    """What the exchange answers to each call of the audit."""
    rows: dict[tuple[str, int], list[object]] = {}
    for symbol, *row in connection.execute(BODIES).fetchall():
        rows[symbol, row[0]] = [*row, "0"]
    symbols = {symbol for symbol, _ in rows}
    spans = [span for symbol in symbols for span in spans_of(symbol, START_MS, START_MS + DAY_MS)]
    return {
        (span.symbol, span.from_ms): json.dumps(
            [rows[span.symbol, open_ms] for open_ms in range(span.from_ms, span.to_ms, MINUTE_MS)]
        ).encode()
        for span in spans
    }


def ours_s(database_url: str, rest: ExchangeRest, symbols: list[str]) -> float:
    """The audit of the day. Raises RuntimeError when a minute is not equal."""
    clock = SystemClock()
    start_s = clock.monotonic_s()
    spans = [span for symbol in symbols for span in spans_of(symbol, START_MS, START_MS + DAY_MS)]
    minutes = audit(lambda: connect(database_url, "bench"), rest, spans)
    took_s = clock.monotonic_s() - start_s
    if len(minutes) != SYMBOLS * MINUTES or any(minute.state != "equal" for minute in minutes):
        raise RuntimeError("the audit of equal minutes found a difference")
    return took_s


def bare_s(connection: Connection[TupleRow]) -> float:
    """The reference."""
    clock = SystemClock()
    start_s = clock.monotonic_s()
    day = [datetime.fromtimestamp(ms / 1000, UTC) for ms in (START_MS, START_MS + DAY_MS)]
    connection.execute(BARE, day).fetchall()
    return clock.monotonic_s() - start_s
