"""One hour of 1 s rows of 100 symbols out of open gaps, against the simulated exchange without its rate limit.

Ours finds the gaps, asks, checks every row and the trade chain, and commits rows, ledger and queues call by call. The
reference sends the same questions, decodes the same answers and copies them into an empty table: it checks nothing,
keeps no ledger and marks nothing. The exchange has answered each question once before, so that its own market is made.
Within the real limit of 6,000 weights a minute these 400 questions (2 each) fit into one minute.
"""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from aggregator.repair import Limits, Repair
from aggregator.repair_plan import CALL_SECONDS
from aggregator.repair_store import add_gaps, ensure_days, lock_ledger
from bench.engines import Engines, started
from bench.ratio import Ratio
from market.interval import HOUR_MS, SECOND_MS, Interval
from runtime import logs
from runtime.clock import SystemClock, sleep_s
from runtime.database import Connection, TupleRow, connect
from runtime.exchange_rest import ExchangeRest

SYMBOLS: Final = 100
LIMIT_S: Final = 60.0
READY_DEADLINE_S: Final = 60.0
POLL_S: Final = 0.1
#: No limit of ours either.
WEIGHT: Final = 10_000_000

TABLE: Final = "create table bench_second (like kline_1s including all)"
COPY: Final = "copy bench_second (symbol, open_time, close_time, open, high, low, close, base_volume, quote_volume,\
 trade_count, taker_buy_base_volume, taker_buy_quote_volume, event_time, received_at, source) from stdin"


def run() -> list[Ratio]:
    """Seconds of both."""
    logs.configure("bench", "WARNING", as_json=False, stream=sys.stderr)
    with started() as engines, exchange(engines) as url, connect(engines.database_url, "bench") as connection:
        rest = ExchangeRest([url], SystemClock(), WEIGHT)
        symbols = [info.symbol for info in rest.symbol_infos()[:SYMBOLS]]
        end_ms = Interval.H1.floor(SystemClock().now_ms()) - HOUR_MS
        prepare(connection, symbols, end_ms)
        bare_s(connection, rest, symbols, end_ms)
        connection.execute("truncate bench_second")
        connection.commit()
        reference_s = bare_s(connection, rest, symbols, end_ms)
        ours = ours_s(connection, rest)
        count = connection.execute("select count(*) from kline_1s").fetchone()
        if count is None or count[0] != SYMBOLS * HOUR_MS // SECOND_MS:
            raise RuntimeError(f"{count} rows were filled")
    note = f"{SYMBOLS} symbols x 3,600 s"
    return [
        Ratio("backfill : bare fetch and COPY", ours, reference_s, "s", False, None, note),
        Ratio("backfill of an hour of 100 symbols : limit", ours, LIMIT_S, "s", False, 1.0, note),
    ]


@contextmanager
def exchange(engines: Engines) -> Iterator[str]:
    """The simulated exchange as a process of its own; its address."""
    log = engines.data_dir / "exchange_sim.log"
    with engines.room("exchange_sim", SIM_PORT="0", SIM_LIMITS="false", SOURCE="sim"):
        clock = SystemClock()
        end_s = clock.monotonic_s() + READY_DEADLINE_S
        while clock.monotonic_s() < end_s:
            found = re.search(r'"port": (\d+)', log.read_text("utf-8", "replace"))
            if found:
                url = f"http://127.0.0.1:{found[1]}"
                with urllib.request.urlopen(f"{url}/api/v3/ping", timeout=5):
                    yield url
                return
            sleep_s(POLL_S)
        raise RuntimeError("the simulated exchange did not become ready")


def prepare(connection: Connection[TupleRow], symbols: list[str], end_ms: int) -> None:
    """An open gap of an hour for each symbol."""
    ensure_days(connection, [end_ms - HOUR_MS, end_ms])
    with connection.transaction():
        connection.execute(TABLE)
        for symbol in symbols:
            lock_ledger(connection, symbol)
            add_gaps(connection, symbol, range(end_ms - HOUR_MS, end_ms, SECOND_MS), "operator")


def ours_s(connection: Connection[TupleRow], rest: ExchangeRest) -> float:
    """The repair, until nothing is due."""
    clock = SystemClock()
    repair = Repair(rest, clock, Limits())
    start_s = clock.monotonic_s()
    while repair.step(connection):
        pass
    return clock.monotonic_s() - start_s


def bare_s(connection: Connection[TupleRow], rest: ExchangeRest, symbols: list[str], end_ms: int) -> float:
    """The same questions, straight into a table."""
    clock = SystemClock()
    start_s = clock.monotonic_s()
    for symbol in symbols:
        for to_ms in range(end_ms, end_ms - HOUR_MS, -CALL_SECONDS * SECOND_MS):
            from_ms = max(to_ms - CALL_SECONDS * SECOND_MS, end_ms - HOUR_MS)
            klines = rest.klines(symbol, Interval.S1, from_ms, to_ms - SECOND_MS)
            with connection.transaction(), connection.cursor().copy(COPY) as copy:
                for k in klines:
                    at = datetime.fromtimestamp(k.open_time_ms / 1000, UTC)
                    copy.write_row(
                        [
                            symbol, at, at, k.open, k.high, k.low, k.close, k.base_volume, k.quote_volume,
                            k.trade_count, k.taker_buy_base_volume, k.taker_buy_quote_volume, at, at, "rest",
                        ]
                    )  # fmt: skip
    return clock.monotonic_s() - start_s
