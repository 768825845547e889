"""The seconds before our first one, against a real database and the simulated exchange."""

from __future__ import annotations

import asyncio

import psycopg

from aggregator.first_seconds import FirstSeconds, unbroken_before
from aggregator.roll_up import roll_up
from exchange_sim.service import RunningExchange
from exchange_sim.settings import SimSettings
from market.interval import Interval
from runtime.clock import SystemClock
from runtime.exchange_rest import ExchangeRest
from tests.chaos.account import take_account


async def test_the_chart_of_a_new_symbol_begins_with_the_exchanges_seconds(fresh_database: str) -> None:
    clock = SystemClock()
    first_ms = clock.now_ms() // 1000 * 1000 - 30_000
    async with RunningExchange(SimSettings(sim_port=0)) as exchange:
        await exchange_in_thread(f"http://127.0.0.1:{exchange.port}", fresh_database, first_ms)


async def exchange_in_thread(rest_url: str, database_url: str, first_ms: int) -> None:
    """The synchronous part, off the exchange's event loop."""
    await asyncio.to_thread(load_and_check, rest_url, database_url, first_ms)


def load_and_check(rest_url: str, database_url: str, first_ms: int) -> None:
    """A first row of our own, the load, the roll-up, the account; a second load finds nothing to do."""
    clock = SystemClock()
    rest = ExchangeRest([rest_url], clock)
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        own = rest.klines("BTCUSDT", Interval.S1, first_ms, first_ms)[0]
        seed(connection, first_ms, [own.open, own.high, own.low, own.close])
        FirstSeconds(rest, clock).load_until(connection, clock.monotonic_s() + 30)
        roll_up(connection)
        count = connection.execute("select source, count(*) from kline_1s group by 1 order by 1").fetchall()
        FirstSeconds(rest, clock).load_until(connection, clock.monotonic_s() + 30)
        again = connection.execute("select source, count(*) from kline_1s group by 1 order by 1").fetchall()
        account = take_account(connection)
    assert count == [("rest", 1000), ("stream", 1)]
    assert again == count
    assert account.is_exact, str(account)
    assert account.minutes >= 15


def seed(connection: psycopg.Connection, first_ms: int, prices: list[object]) -> None:
    """One symbol that has just begun: its first row and its watermark."""
    connection.execute("select ensure_kline_1s_day(to_timestamp(%s)::date)", [first_ms / 1000])
    connection.execute(
        "insert into kline_1s select 'BTCUSDT', to_timestamp(%s), to_timestamp(%s), %s, %s, %s, %s,"
        " 0, 0, 0, 0, 0, -1, -1, now(), now(), 'stream'",
        [first_ms / 1000, first_ms / 1000 + 0.999, *prices],
    )
    connection.execute(
        "insert into symbol_watermark (symbol, stream, event_time) values ('BTCUSDT', 'kline_1s', to_timestamp(%s))",
        [first_ms / 1000 + 1],
    )
    connection.execute(
        "insert into market_symbol (symbol, base_asset, quote_asset, status, tick_size, step_size, rank, is_followed)"
        " values ('BTCUSDT', 'BTC', 'USDT', 'TRADING', 0.01, 0.00001, 0, true)"
    )
    connection.commit()


async def test_what_lies_before_a_hole_is_left_out() -> None:
    clock = SystemClock()
    end_ms = clock.now_ms() // 1000 * 1000 - 10_000
    async with RunningExchange(SimSettings(sim_port=0)) as exchange:
        rest = ExchangeRest([f"http://127.0.0.1:{exchange.port}"], clock)
        klines = await asyncio.to_thread(rest.klines, "BTCUSDT", Interval.S1, end_ms - 10_000, end_ms - 1000)
    assert len(unbroken_before(klines, end_ms)) == 10
    assert [k.open_time_ms for k in unbroken_before(klines[:5] + klines[6:], end_ms)] == [
        end_ms - 4000 + 1000 * i for i in range(4)
    ]
    assert unbroken_before(klines, end_ms + 1000) == []
