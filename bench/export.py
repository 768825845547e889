"""A million candles exported in each format, against one plain COPY of the same rows in the same run.

Ours as the web process does it: a snapshot read in pieces, each piece encoded; the bytes are counted and thrown away.
The process's memory is looked at after every piece; its growth counts from after Arrow's libraries have been loaded,
as the web process does at its start.
"""

from __future__ import annotations

from typing import Final

import psutil

from bench.engines import started
from bench.ratio import Ratio
from runtime.clock import SystemClock
from runtime.database import Connection, TupleRow, connect
from webapp.export.encoders import Format, encoder_for, preload
from webapp.export.pieces import Snapshot
from webapp.export.tables import CANDLES, ExportQuery, Table

ROWS: Final = 1_000_000
MAX_GROWTH_MB: Final = 64
#: Promised seconds for a million rows.
PROMISED_S: Final = {Format.ARROW: 10.0, Format.PARQUET: 12.0, Format.CSV: 15.0}
QUERY: Final = ExportQuery(table=Table.KLINES, symbol="BENCHUSDT", interval="1m")
FILL: Final = """
insert into aggregated_kline (symbol, interval, open_time, close_time, open, high, low, close, base_volume,
    quote_volume, trade_count, taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, row_count,
    expected_count, covered_until, is_complete, is_closed, source, event_time)
select 'BENCHUSDT', '1m', t, t + interval '59.999 seconds', price, price + 10, price - 10, price + 1,
    n %% 1000 / 8.0, price * (n %% 1000) / 8, n %% 1000, n %% 500 / 8.0, price * (n %% 500) / 8, n * 1000,
    n * 1000 + n %% 1000, 60, 60, t + interval '1 minute', true, true, 'seconds', t + interval '1 minute'
from generate_series(1, %s) n
cross join lateral (
    select timestamptz '2024-01-01' + n * interval '1 minute', (6000000 + n %% 99991) * 0.01
) as row (t, price)
"""


def run() -> list[Ratio]:
    """Seconds of each format against COPY and against what is promised, and the memory that they take."""
    with started() as engines:
        with connect(engines.database_url, "bench", statement_timeout_ms=300_000) as connection:
            connection.execute(FILL, [ROWS])
            connection.commit()
            connection.autocommit = True
            connection.execute("vacuum analyze aggregated_kline")
            plain_s = copy_s(connection)
        preload()
        ratios, growths = [], []
        for kind in Format:
            took_s, growth_mb = export_s(engines.database_url, kind)
            growths.append(growth_mb)
            name = f"{ROWS // 1_000_000} M candles as {kind.value}"
            ratios.append(Ratio(f"{name} : plain COPY", took_s, plain_s, "s", False, None, f"{growth_mb:.0f} MB more"))
            if kind in PROMISED_S:
                ratios.append(Ratio(f"{name} : promised", took_s, PROMISED_S[kind], "s", False, 1.0))
    note = "largest growth of the process during an export"
    return [*ratios, Ratio("memory of an export : promised", max(growths), MAX_GROWTH_MB, "MB", False, 1.0, note)]


def copy_s(connection: Connection[TupleRow]) -> float:
    """The same rows and columns by one COPY, read and thrown away."""
    select = ", ".join(column.selected() for column in CANDLES)
    where = "symbol = 'BENCHUSDT' and interval = '1m' order by open_time"
    clock, rows = SystemClock(), 0
    start_s = clock.monotonic_s()
    statement = f"copy (select {select} from aggregated_kline where {where}) to stdout (format csv)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for _ in copy:
            rows += 1
    if rows != ROWS:
        raise RuntimeError(f"COPY gave {rows} rows, not {ROWS}")
    return clock.monotonic_s() - start_s


def export_s(database_url: str, kind: Format) -> tuple[float, float]:
    """Seconds of an export, and by how many MB the process grew meanwhile at most."""
    process, clock = psutil.Process(), SystemClock()
    before, largest = process.memory_info().rss, 0
    start_s, rows, size = clock.monotonic_s(), 0, 0
    snapshot = Snapshot(connect(database_url, "bench", statement_timeout_ms=30_000), QUERY)
    encoder = encoder_for(kind, snapshot.columns)
    size += len(encoder.begin())
    for piece in snapshot.pieces():
        size += len(encoder.add(piece.lines))
        rows += piece.rows
        largest = max(largest, process.memory_info().rss)
    size += len(encoder.end())
    snapshot.close()
    if rows != ROWS or size < ROWS:
        raise RuntimeError(f"{rows} rows in {size} bytes, not {ROWS} rows")
    return clock.monotonic_s() - start_s, max(0, largest - before) / 1_000_000
