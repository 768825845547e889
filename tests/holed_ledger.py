"""A database with the exchange's own seconds in it and holes where a test wants them; and the exchange beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from aggregator.repair import Limits, Repair
from aggregator.repair_store import add_gaps, ensure_days, lock_ledger, store_seconds
from exchange_sim.faults import Fault
from exchange_sim.service import RunningExchange
from exchange_sim.settings import SimSettings
from market.aggregate_trades import single_trades
from market.interval import SECOND_MS
from market.kline import Kline, Source
from market.trade_klines import klines_of_trades
from runtime.clock import Clock, SystemClock
from runtime.database import connect
from runtime.exchange_rest import ExchangeRest
from tests.chaos.account import Account, take_account

SYMBOL = "BTCUSDT"
#: Old enough that the exchange's answer is final.
AGE_MS = 3_600_000
BUDGET_PER_MINUTE = 6_000
#: Within it there is a trade before the first second.
BEFORE_MS = 20_000


@contextmanager
def exchange_in_thread(**settings: Any) -> Iterator[RunningExchange]:
    """The simulated exchange on a loop of its own, so that the test may block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = RunningExchange(SimSettings(**({"sim_port": 0, "sim_symbols": 20, "sim_limits": False} | settings)))
    try:
        asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(30)
        yield running
    finally:
        asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass
class HoledLedger:
    """One symbol of `seconds` seconds from `from_ms` on, with trade ids, as if they had come over the stream."""

    connection: psycopg.Connection[Any]
    exchange: RunningExchange
    rest: ExchangeRest
    from_ms: int
    to_ms: int

    def repair(self, max_delay_s: float = 0.001) -> Repair:
        """A repair that waits for nothing unless told otherwise."""
        limits = Limits(max_attempts=3, max_delay_s=max_delay_s, settle_s=0.0)
        return Repair(self.rest, SystemClock(), limits)

    def run(self, repair: Repair, steps: int = 50) -> None:
        """Steps until nothing is due."""
        assert any(not repair.step(self.connection) for _ in range(steps)), f"still work after {steps} steps"

    def hole(self, start_s: int, end_s: int) -> None:
        """Seconds (counted from the first) that were lost, with their open gap."""
        start_ms, end_ms = self.from_ms + start_s * SECOND_MS, self.from_ms + end_s * SECOND_MS
        with self.connection.transaction():
            self.connection.execute(
                "delete from kline_1s where symbol = %s and open_time between to_timestamp(%s) and to_timestamp(%s)",
                [SYMBOL, start_ms / 1000, end_ms / 1000 - 1],
            )
            lock_ledger(self.connection, SYMBOL)
            add_gaps(self.connection, SYMBOL, range(start_ms, end_ms, SECOND_MS), "operator")

    def gaps(self) -> list[tuple[Any, ...]]:
        """(from, to in seconds counted from the first, state, resolved_by, attempts), oldest first."""
        rows = self.connection.execute(
            "select (extract(epoch from from_time) * 1000)::bigint, (extract(epoch from to_time) * 1000)::bigint,"
            " state, resolved_by, attempts from kline_gap order by from_time"
        ).fetchall()
        self.connection.commit()
        return [((a - self.from_ms) // 1000, (b - self.from_ms) // 1000, *rest) for a, b, *rest in rows]

    def sources(self) -> dict[str, int]:
        """Rows by source."""
        rows = self.connection.execute("select source, count(*) from kline_1s group by 1 order by 1").fetchall()
        self.connection.commit()
        return dict(rows)

    def one(self, query: str, *values: object) -> Any:
        """The first column of the first row."""
        row = self.connection.execute(query, values).fetchone()
        self.connection.commit()
        return None if row is None else row[0]

    def account(self, *, with_exchange: bool = False) -> Account:
        """Every second and candle, and each row against the exchange's if asked."""
        found = take_account(self.connection, self.rest if with_exchange else None)
        self.connection.commit()
        return found

    def make_due(self) -> None:
        """What waits for a further try may be tried now."""
        self.connection.execute("update kline_gap set next_attempt_at = null where state = 'open'")
        self.connection.execute("update kline_gap set next_attempt_at = now() where state = 'absent'")
        self.connection.execute("update suspect_range set next_attempt_at = null")
        self.connection.commit()

    def order(self, **fault: Any) -> None:
        """A fault of the exchange."""
        self.exchange.faults.order(Fault(**fault))


@contextmanager
def holed_ledger(
    database_url: str,
    exchange: RunningExchange,
    seconds: int,
    holes: Sequence[tuple[int, int]],
    age_ms: int = AGE_MS,
    *,
    clock: Clock | None = None,
) -> Iterator[HoledLedger]:
    """The rows, the watermark after the last, and the holes. `clock`: by which the exchange is asked."""
    clock = clock or SystemClock()
    rest = ExchangeRest([f"http://127.0.0.1:{exchange.port}"], clock, BUDGET_PER_MINUTE)
    to_ms = (clock.now_ms() - age_ms) // 1000 * 1000
    from_ms = to_ms - seconds * SECOND_MS
    with connect(database_url, "test") as connection:
        klines = stream_klines(rest, from_ms, to_ms)
        ensure_days(connection, [from_ms, to_ms])
        with connection.transaction():
            assert store_seconds(connection, SYMBOL, klines, Source.STREAM) == seconds
            connection.execute(
                "insert into symbol_watermark (symbol, stream, event_time) values (%s, 'kline_1s', to_timestamp(%s))",
                [SYMBOL, to_ms / 1000],
            )
        ledger = HoledLedger(connection, exchange, rest, from_ms, to_ms)
        for start_s, end_s in holes:
            ledger.hole(start_s, end_s)
        yield ledger
    rest.close()


def stream_klines(rest: ExchangeRest, from_ms: int, to_ms: int) -> list[Kline]:
    """What the stream would have sent: klines with trade ids, made of the exchange's trades."""
    rows = rest.aggregate_trades(SYMBOL, startTime=from_ms - BEFORE_MS, endTime=to_ms - 1)
    while rows[-1].trade_time_ms < to_ms - 1:
        more = rest.aggregate_trades(SYMBOL, fromId=rows[-1].aggregate_id + 1)
        rows += more
    earlier = [row.price for row in rows if row.trade_time_ms < from_ms]
    trades = single_trades([row for row in rows if from_ms <= row.trade_time_ms < to_ms], SYMBOL)
    return klines_of_trades(SYMBOL, trades, from_ms, to_ms, earlier[-1])
