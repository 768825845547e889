"""Catch-up: the inserter from Kafka to committed rows, against bare COPY and upsert of the same rows.

The reference has the rows as COPY text in memory and writes them, in batches of the inserter's size, into a table like
the inserter's: it reads no Kafka, decodes nothing, keeps no ledger, dirty minutes, watermarks or checkpoint. It runs
before and after the inserter; the mean of both counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.engines import Engines, started
from bench.klines import made_up, past_open_ms, send
from bench.ratio import Ratio
from inserter.settings import InserterSettings
from market.kline import Kline
from runtime.clock import SystemClock, sleep_s
from runtime.database import Connection, TupleRow, connect
from runtime.kafka_client import load_topics

SYMBOLS = 300
SECONDS = 1_000
TARGET = 0.8
POLL_S = 0.02
DEADLINE_S = 60.0

TABLE = """
drop table if exists bench_kline;
create table bench_kline (like kline_1s including all) partition by range (open_time);
create table bench_kline_all partition of bench_kline default;
create temp table if not exists bench_stage (like kline_1s);
"""
UPSERT = """
insert into bench_kline select * from bench_stage
on conflict (symbol, open_time) do update set
    close_time = excluded.close_time, open = excluded.open, high = excluded.high, low = excluded.low,
    close = excluded.close, base_volume = excluded.base_volume, quote_volume = excluded.quote_volume,
    trade_count = excluded.trade_count, taker_buy_base_volume = excluded.taker_buy_base_volume,
    taker_buy_quote_volume = excluded.taker_buy_quote_volume, first_trade_id = excluded.first_trade_id,
    last_trade_id = excluded.last_trade_id, event_time = excluded.event_time, received_at = excluded.received_at,
    source = excluded.source
where excluded.event_time > bench_kline.event_time
"""


def run() -> list[Ratio]:
    """Rows a second of both."""
    klines = list(made_up(SYMBOLS, SECONDS, past_open_ms(SECONDS)))
    with started() as engines:
        lines = copy_lines(klines)
        asyncio.run(send(engines.kafka_bootstrap_servers, klines))
        with connect(engines.database_url, "bench") as connection:
            connection.autocommit = True
            before_s = bare(connection, lines)
            ours = catch_up(engines, connection, len(klines))
            after_s = bare(connection, lines)
    reference = 2 * len(lines) / (before_s + after_s)
    note = f"{len(klines):,} rows, {SYMBOLS} symbols"
    return [Ratio("inserter catch-up : bare COPY + upsert", ours, reference, "rows/s", True, TARGET, note)]


def copy_lines(klines: Sequence[Kline]) -> list[str]:
    """Each kline as COPY text in the order of the table's columns."""
    return [
        "\t".join(
            (
                k.symbol,
                _instant(k.open_time_ms),
                _instant(k.close_time_ms),
                *(str(v) for v in (k.open, k.high, k.low, k.close, k.base_volume, k.quote_volume, k.trade_count)),
                *(str(v) for v in (k.taker_buy_base_volume, k.taker_buy_quote_volume)),
                str(k.first_trade_id),
                str(k.last_trade_id),
                _instant(k.event_time_ms),
                _instant(k.received_at_ms),
                "stream\n",
            )
        )
        for k in klines
    ]


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{ms % 1000:03}+00"


def bare(connection: Connection[TupleRow], lines: Sequence[str]) -> float:
    """Seconds that the reference takes."""
    batch_rows = int(InserterSettings.model_fields["inserter_batch_max_rows"].default)
    connection.execute(TABLE)
    start_s = SystemClock().monotonic_s()
    for first in range(0, len(lines), batch_rows):
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy("copy bench_stage from stdin") as copy:
                copy.write("".join(lines[first : first + batch_rows]))
            cursor.execute(UPSERT)
            cursor.execute("truncate bench_stage")
    return SystemClock().monotonic_s() - start_s


def catch_up(engines: Engines, connection: Connection[TupleRow], total: int) -> float:
    """Rows a second of the inserter, from its first commit on: its start does not count."""
    topic = load_topics().kline_1s.name
    query = "select coalesce(sum(next_offset), 0)::bigint from kline_checkpoint where topic = %s"
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + DEADLINE_S
    first_rows, first_s = 0, 0.0
    with engines.room("inserter"):
        while clock.monotonic_s() < deadline_s:
            row = connection.execute(query, [topic]).fetchone()
            rows, now_s = int(row[0]) if row else 0, clock.monotonic_s()
            if rows and not first_rows:
                first_rows, first_s = rows, now_s
            if rows >= total:
                return (rows - first_rows) / (now_s - first_s)
            sleep_s(POLL_S)
    raise TimeoutError(f"the inserter committed {rows} of {total} rows in {DEADLINE_S:.0f} s")
