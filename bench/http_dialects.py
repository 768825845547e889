"""The HTTP dialects against plain SQL of the same rows, by one client on loopback: time, and work of the server.

The reference is COPY of the same rows to text on a connection of its own: what the database alone takes. The server
is measured at what it is for: /api/v3/klines of 1,000 rows and /udf/history of 2,000 bars, newest and long over.
"""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, LiteralString

import psutil
import psycopg

from bench import http_fuzz
from bench.engines import Engines, started
from bench.ratio import Ratio, percentile
from bench.relay import free_port
from runtime.clock import SystemClock, sleep_s

MINUTES: Final = 60_000
REQUESTS: Final = 300
WARM_UP: Final = 10
FUZZ_REQUESTS: Final = 10_000
FUZZ_SEED: Final = 1
READY_DEADLINE_S: Final = 30.0
IDLE_S: Final = 1.0
IDLE_SHARE: Final = 0.05
#: What is promised (docs/HTTP.md).
KLINES_P95_MS: Final = 15.0
HISTORY_MS: Final = 30.0
REQUESTS_PER_CORE_SECOND: Final = 300.0
CLOCK: Final = SystemClock()

_SEED_ROWS: Final = """
    insert into market_symbol values ('BTCUSDT', 'BTC', 'USDT', 'TRADING', 0.01, 0.00001, 1, true, null, now());
    insert into aggregated_kline (symbol, interval, open_time, close_time, open, high, low, close, base_volume,
        quote_volume, trade_count, taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id,
        row_count, expected_count, covered_until, is_complete, is_closed, source, event_time)
    select 'BTCUSDT', '1m', t, t + interval '59.999 s', 97000.12 + n % 100, 97100.55, 96900.01, 97050.22 + n % 7,
        12.34567 + n % 10, 1234567.890123, 345, 6.12345, 612345.67, n * 10, n * 10 + 9,
        60, 60, t + interval '1 minute', true, true, 'seconds', t + interval '1 minute'
    from (select n, date_trunc('minute', now()) - interval '1 minute' * (60001 - n) as t
          from generate_series(1, 60000) n) minutes;
    select ensure_kline_1s_day(day::date) from generate_series(now() - interval '1 day', now(), interval '1 day') day;
    insert into kline_1s
    select 'BTCUSDT', t, t + interval '999 milliseconds', 97000.12, 97100.55, 96900.01, 97050.22, 1.5, 145575.33, 3,
        0.5, 48525.11, n * 3, n * 3 + 2, t + interval '1 s', now(), 'stream'
    from (select n, date_trunc('minute', now()) - interval '1 s' * (3600 - n) as t
          from generate_series(0, 3630) n) seconds;
    insert into symbol_watermark values ('BTCUSDT', 'kline_1s', now());
    analyze aggregated_kline;
    analyze kline_1s;
"""
_PLAIN: Final = (
    "copy (select open_time, open, high, low, close, base_volume, close_time, quote_volume, trade_count, "
    "taker_buy_base_volume, taker_buy_quote_volume from aggregated_kline where symbol = 'BTCUSDT' and interval = '1m' "
    "order by open_time desc limit {limit}) to stdout"
)


def run() -> list[Ratio]:
    """Every figure."""
    with seeded_web(_SEED_ROWS) as (engines, server, port):
        return _measure(engines, server, port)


@contextmanager
def seeded_web(seed_sql: LiteralString) -> Iterator[tuple[Engines, subprocess.Popen[bytes], int]]:
    """The web process, ready and without a limit of weight, on a database with these rows; and its port."""
    with started() as engines:
        with psycopg.connect(engines.database_url) as connection:
            connection.execute(seed_sql)
        port, health_port = free_port(), free_port()
        variables = {"PORT": str(port), "HEALTH_PORT": str(health_port), "API_WEIGHT_PER_MINUTE": "0", "SOURCE": "sim"}
        with engines.room("webapp", **variables) as server:
            _wait_ready(health_port)
            yield engines, server, port


def _measure(engines: Engines, server: subprocess.Popen[bytes], port: int) -> list[Ratio]:
    klines = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1000"
    now_s = CLOCK.now_ms() // 1000
    history = f"/udf/history?symbol=BTCUSDT&resolution=1&from=0&countback=2000&to={now_s}"
    over = f"{klines}&endTime={(now_s - 86_400) * 1000}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_DEADLINE_S)
    with psycopg.connect(engines.database_url, autocommit=True) as database:
        plain_1000 = _times_ms(lambda: _copy(database, 1000))
        plain_2000 = _times_ms(lambda: _copy(database, 2000))
    process = psutil.Process(server.pid)
    _wait_idle(process)
    cpu_s, begin_s = sum(process.cpu_times()[:2]), CLOCK.monotonic_s()
    newest = _times_ms(lambda: _get(connection, klines))
    settled = _times_ms(lambda: _get(connection, over))
    cpu_s, took_s = sum(process.cpu_times()[:2]) - cpu_s, CLOCK.monotonic_s() - begin_s
    asked = 2 * (WARM_UP + REQUESTS)
    bars = _times_ms(lambda: _get(connection, history))
    fuzzed = http_fuzz.run(port, FUZZ_SEED, FUZZ_REQUESTS)
    note = f"{REQUESTS} requests one after the other"
    return [
        Ratio("klines 1,000 newest, p95 : promised", percentile(newest, 0.95), KLINES_P95_MS, "ms", False, 1.0, note),
        Ratio(
            "klines 1,000 newest, p50 : COPY", percentile(newest, 0.5), percentile(plain_1000, 0.5), "ms", False, None
        ),
        Ratio("klines 1,000 over, p95 : promised", percentile(settled, 0.95), KLINES_P95_MS, "ms", False, 1.0, note),
        Ratio(
            "klines requests a core second : promised",
            asked / cpu_s,
            REQUESTS_PER_CORE_SECOND,
            "/s",
            True,
            1.0,
            f"processor time of the server, newest and over; by the clock {asked / took_s:.0f}/s from one client",
        ),
        Ratio("history 2,000 bars, p95 : promised", percentile(bars, 0.95), HISTORY_MS, "ms", False, 1.0, note),
        Ratio("history 2,000 bars, p50 : COPY", percentile(bars, 0.5), percentile(plain_2000, 0.5), "ms", False, None),
        Ratio(
            "slowest fuzzed request : longest query",
            fuzzed.slowest_s if not fuzzed.complaints else float("inf"),
            http_fuzz.LATE_S,
            "s",
            False,
            1.0,
            f"{FUZZ_REQUESTS:,} requests, {len(fuzzed.complaints)} answered wrongly",
        ),
    ]


def _wait_idle(process: psutil.Process) -> None:
    """Until what a start leaves for later is done. Raises RuntimeError."""
    deadline_s = CLOCK.monotonic_s() + READY_DEADLINE_S
    while process.cpu_percent(IDLE_S) > 100 * IDLE_SHARE:
        if CLOCK.monotonic_s() > deadline_s:
            raise RuntimeError("the server did not become idle")


def _times_ms(work: Callable[[], None]) -> list[float]:
    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(REQUESTS):
        begin_s = CLOCK.monotonic_s()
        work()
        times.append((CLOCK.monotonic_s() - begin_s) * 1000)
    return times


def _copy(database: psycopg.Connection, limit: int) -> None:
    with database.cursor() as cursor, cursor.copy(_PLAIN.format(limit=limit)) as rows:
        for _ in rows:
            pass


def _get(connection: http.client.HTTPConnection, path: str) -> None:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200 or len(body) < 10_000:
        raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")


def _wait_ready(health_port: int) -> None:
    """Until the server can answer. Raises RuntimeError."""
    deadline_s = CLOCK.monotonic_s() + READY_DEADLINE_S
    while CLOCK.monotonic_s() < deadline_s:
        try:
            health = http.client.HTTPConnection("127.0.0.1", health_port, timeout=1)
            health.request("GET", "/readyz")
            if health.getresponse().status == 200:
                return
        except OSError:
            pass
        sleep_s(0.2)
    raise RuntimeError("the server did not become ready")
