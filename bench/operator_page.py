"""The operators' page with 20 symbols and 30 days of completeness: what a load takes, and what its polling costs.

The reference of the month is COPY of the same rows to text on a connection of its own. The broker and the rooms are
away here, as far as the web application is told: the page comes from memory whatever they do.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Final

import psutil
import psycopg

from bench.http_dialects import seeded_web
from bench.ratio import Ratio, percentile
from market.interval import DAY_MS, HOUR_MS
from runtime.clock import SystemClock

LOADS: Final = 40
TIMEOUT_S: Final = 30.0
#: What is promised (docs/OPERATIONS.md).
LOAD_P95_MS: Final = 300.0
COMPLETENESS_P95_MS: Final = 100.0
POLLING_SHARE: Final = 0.02
MINUTES_POLLED: Final = 5
#: What an open page asks for in a minute: figures each 5 s, actions each 15 s, history each 30 s, the running hours.
FIGURES, ACTIONS, HISTORIES, HOURS = 12, 4, 2, 1
CLOCK: Final = SystemClock()

_SEED: Final = """
    insert into market_symbol
    select 'S' || n || 'USDT', 'S' || n, 'USDT', 'TRADING', 0.01, 0.00001, n, true, null, now()
    from generate_series(1, 20) n;
    insert into completeness_hour
    select symbol, hour, 3600, 3588, 8, 0, 0, 4 from market_symbol cross join generate_series(
        date_trunc('hour', now()) - interval '719 hours', date_trunc('hour', now()), interval '1 hour') hour;
    analyze completeness_hour;
"""
_PLAIN: Final = "copy (select * from completeness_hour order by symbol, hour) to stdout"


def run() -> list[Ratio]:
    """Every figure."""
    with (
        seeded_web(_SEED) as (engines, server, port),
        psycopg.connect(engines.database_url, autocommit=True) as database,
    ):
        return _measure(database, port, psutil.Process(server.pid))


def _measure(database: psycopg.Connection, port: int, server: psutil.Process) -> list[Ratio]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    hour_ms = CLOCK.now_ms() // HOUR_MS * HOUR_MS
    month = f"/api/v1/completeness?from={hour_ms - 30 * DAY_MS + HOUR_MS}&to={hour_ms + HOUR_MS}"
    running = f"/api/v1/completeness?from={hour_ms - HOUR_MS}&to={hour_ms + HOUR_MS}"
    history = "/api/v1/operator/history?subject=room:webapp"
    load = ["/operator", "/api/v1/operator", "/api/v1/operator/actions", history, month]
    minute = ["/api/v1/operator"] * FIGURES + ["/api/v1/operator/actions"] * ACTIONS + [history] * HISTORIES
    minute += [running] * HOURS
    loads = _times_ms(lambda: _get_all(connection, load))
    months = _times_ms(lambda: _get_all(connection, [month]))
    plain = _times_ms(lambda: _copy(database))
    cpu_s = sum(server.cpu_times()[:2])
    for _ in range(MINUTES_POLLED):
        _get_all(connection, minute)
    polled_s = sum(server.cpu_times()[:2]) - cpu_s
    return [
        Ratio(
            "operator page with its month, p95 : promised",
            percentile(loads, 0.95),
            LOAD_P95_MS,
            "ms",
            False,
            1.0,
            f"page, figures, actions, history and 30 days of 20 symbols one after the other, {LOADS} times",
        ),
        Ratio(
            "completeness 30 days, p95 : promised",
            percentile(months, 0.95),
            COMPLETENESS_P95_MS,
            "ms",
            False,
            1.0,
            f"20 symbols, {LOADS} times",
        ),
        Ratio("completeness 30 days, p50 : COPY", percentile(months, 0.5), percentile(plain, 0.5), "ms", False, None),
        Ratio(
            "operator page open, share of a core : promised",
            polled_s / MINUTES_POLLED / 60,
            POLLING_SHARE,
            "",
            False,
            1.0,
            "processor time of the server for what a page asks in a minute",
        ),
    ]


def _times_ms(work: Callable[[], None]) -> list[float]:
    work()
    times = []
    for _ in range(LOADS):
        begin_s = CLOCK.monotonic_s()
        work()
        times.append((CLOCK.monotonic_s() - begin_s) * 1000)
    return times


def _get_all(connection: http.client.HTTPConnection, paths: list[str]) -> None:
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")


def _copy(database: psycopg.Connection) -> None:
    with database.cursor() as cursor, cursor.copy(_PLAIN) as rows:
        for _ in rows:
            pass
