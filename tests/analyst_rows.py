"""What the tests of analysts' interfaces read: 1,000 closed candles with awkward decimals, and what proves them."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import msgspec
import psycopg

from market.interval import MINUTE_MS, Interval
from market.kline import Kline
from runtime.clock import new_random
from tests.webapp_process import END_MS, insert_klines, insert_symbols, make_klines, moment

SYMBOL = "BTCUSDT"
COUNT = 1_000
START_MS = END_MS - COUNT * MINUTE_MS
#: The candle that was revised, and the one that misses twelve seconds.
REVISED_MS, TORN_MS = START_MS + 100 * MINUTE_MS, START_MS + 200 * MINUTE_MS
#: When the revised candle got its present values.
REVISED_AT_MS = END_MS - MINUTE_MS

#: Prices with digits that floating point, a fixed number of decimals, exponents or stripped zeros would spoil: largest
#: number of steps, and the step. At most 15 digits, so that a double names each of them.
_PRICES = (
    (9_999, Decimal("0.00000001")),
    (99_999_999_999_999, Decimal("0.00000001")),
    (9_999_999, Decimal("0.10000000")),
    (999, Decimal("1E+2")),
    (9_999_999, Decimal("0.010")),
)
#: Volumes beyond the 17 digits of a double.
_VOLUMES = (
    (10**20, Decimal("0.00000001")),
    (9, Decimal("0.00000001")),
    (10**12, Decimal("100")),
    (10**9, Decimal("0.50000000")),
)


def awkward_klines() -> list[Kline]:
    """COUNT closed 1m klines from START_MS on, oldest first."""
    rng = new_random(20261121)
    return [
        _awkward(kline, rng, number) for number, kline in enumerate(make_klines(SYMBOL, Interval.M1, END_MS, COUNT))
    ]


def _awkward(kline: Kline, rng: Random, number: int) -> Kline:
    most, step = _PRICES[number % len(_PRICES)]
    prices = [rng.randint(1, most) * step for _ in range(4)]
    most, step = _VOLUMES[number % len(_VOLUMES)]
    volumes = [rng.randint(1, most) * step for _ in range(2)]
    taker_volumes = [rng.randint(0, 1_000) * step for _ in range(2)]
    values = {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[1],
        "base_volume": volumes[0],
        "quote_volume": volumes[1],
        "taker_buy_base_volume": taker_volumes[0],
        "taker_buy_quote_volume": taker_volumes[1],
        "trade_count": number + 1,
        "first_trade_id": number * 10_000_000_000,
        "last_trade_id": number * 10_000_000_000 + number,
    }
    return msgspec.structs.replace(kline, **values)


def store_analyst_rows(connection: psycopg.Connection) -> list[Kline]:
    """Store the candles with a revision, gaps, seconds, completeness, audits and a ticker; the candles as they are."""
    klines = awkward_klines()
    insert_symbols(connection, SYMBOL, "ETHUSDT")
    insert_klines(connection, klines)
    insert_klines(connection, make_klines(SYMBOL, Interval.S1, END_MS, 120))
    insert_klines(connection, make_klines(SYMBOL, Interval.H1, END_MS, 17))
    connection.execute("update aggregated_kline set updated_at = close_time + interval '1 second'")
    torn, revised = moment(TORN_MS), moment(REVISED_MS)
    connection.execute(
        "update aggregated_kline set row_count = 48, is_complete = false where interval = '1m' and open_time = %s",
        [torn],
    )
    connection.execute(
        "insert into kline_gap (symbol, from_time, to_time, cause, state, detected_at, resolved_at, resolved_by) "
        "values (%s, %s, %s::timestamptz + interval '12 s', 'disconnect', 'open', %s, null, null), "
        "(%s, %s, %s::timestamptz + interval '3 s', 'silence', 'repaired', %s, %s, 'rest')",
        [SYMBOL, torn, torn, torn, SYMBOL, revised, revised, revised, moment(REVISED_AT_MS)],
    )
    _revise(connection, klines[100])
    connection.execute(
        "insert into completeness_hour (symbol, hour, expected, stream, rest, trades, absent, open) "
        "select %s, %s::timestamptz + n * interval '1 hour', 3600, 3570, 18, 0, 0, 12 from generate_series(0, 16) n",
        [SYMBOL, moment(END_MS - 17 * 3_600_000)],
    )
    connection.execute(
        "insert into minute_audit (symbol, open_time, state, differences, compared_with, revision, needs_person) "
        "select symbol, open_time, 'equal', '{}', 'stream', revision, false from aggregated_kline where interval = '1m'"
    )
    connection.execute(
        "update minute_audit set state = 'different', needs_person = true, "
        """differences = '{"close": ["1.10", "1.11"], "trade_count": ["201", "240"]}' where open_time = %s""",
        [torn],
    )
    connection.execute(
        "insert into symbol_ticker values (%s, 95, 105, 90, 100.50, 1234.5, 123450.25, %s, %s)",
        [SYMBOL, moment(END_MS - 500), moment(END_MS)],
    )
    return klines


def _revise(connection: psycopg.Connection, kline: Kline) -> None:
    """The candle had another close first; the trigger keeps that version."""
    at = "where symbol = %s and interval = '1m' and open_time = %s"
    key = [kline.symbol, moment(kline.open_time_ms)]
    connection.execute(f"update aggregated_kline set close = low, row_count = 57, is_complete = false {at}", key)
    connection.execute(
        "update aggregated_kline set close = %s, row_count = 60, rest_count = 3, is_complete = true, revision = 1, "
        f"updated_at = %s {at}",
        [kline.close, moment(REVISED_AT_MS), *key],
    )
