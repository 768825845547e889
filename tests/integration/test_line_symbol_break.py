"""Trading in a symbol is halted: its streams are silent, which is a gap, not calm; REST goes on, and heals it."""

from __future__ import annotations

from typing import Any

import httpx

from tests.stack_process import StackProcess, wait_for

SYMBOL = "XRPUSDT"
GAPS = """
select state, cause, detector, extract(epoch from to_time - from_time)::int from kline_gap
where symbol = %s and interval = '1s' and to_time > to_timestamp(%s) order by from_time
"""
WATERMARK = "select extract(epoch from event_time)::bigint from symbol_watermark where symbol = %s"
ROWS = """
select count(*) from kline_1s
where symbol = %s and open_time >= to_timestamp(%s) and open_time < to_timestamp(%s)
"""
DEADLINE_S = 90.0


def test_a_symbol_in_break_is_a_gap_that_heals(full_stack: StackProcess) -> None:
    exchange = full_stack.status()["urls"]["exchange_rest"]
    with full_stack.connect() as connection:
        connection.autocommit = True

        def one(query: str, *values: object) -> Any:
            row = connection.execute(query, values).fetchone()
            return row and row[0]

        def gaps() -> list[tuple[Any, ...]]:
            return connection.execute(GAPS, [SYMBOL, start_s]).fetchall()

        start_s = wait_for("seconds of the symbol", lambda: one(WATERMARK, SYMBOL), DEADLINE_S)
        halt = {"fault": "symbol_status", "symbol_status": "BREAK", "stream": SYMBOL.lower(), "duration_ms": 600_000}
        httpx.post(f"{exchange}/sim/faults", json=halt, timeout=DEADLINE_S).raise_for_status()
        try:
            wait_for("the gap", lambda: any(gap[1] == "silence" for gap in gaps()), DEADLINE_S)
        finally:
            httpx.delete(f"{exchange}/sim/faults", timeout=DEADLINE_S).raise_for_status()
        wait_for("the repair", lambda: {gap[0] for gap in gaps()} == {"repaired"}, DEADLINE_S)
        # On a machine that is busy enough a connection may be lost beside it.
        assert ("silence", "feed") in {gap[1:3] for gap in gaps()}
        end_s = one(WATERMARK, SYMBOL)
        assert one(ROWS, SYMBOL, start_s, end_s) == end_s - start_s
