"""Bars of lengths and time zones that are not stored, rolled up from the stored ones by the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from market.odd_intervals import Grid
from webapp.selectors import to_time

#: The columns of `aggregated_kline`, of bars [edges[n], edges[n + 1]) that have parts; oldest first. Quiet parts take
#: no part in open, high and low, as in market/rollup.py (binance.md 0.6). `source`: seconds where every part is rolled
#: up from our own seconds, else the foreign one; `revision`: all revisions of the parts, so that it grows with each.
ODD_BARS: Final = """
    select %(symbol)s as symbol, %(interval)s as interval, edge[bar] as open_time,
        edge[bar + 1] - interval '1 millisecond' as close_time,
        coalesce(open, close) as open, coalesce(high, close) as high, coalesce(low, close) as low, close,
        base_volume, quote_volume, trade_count, taker_buy_base_volume, taker_buy_quote_volume,
        case when trade_count > 0 then first_trade_id else -1 end as first_trade_id,
        case when trade_count > 0 then last_trade_id else -1 end as last_trade_id,
        row_count, extract(epoch from edge[bar + 1] - edge[bar])::integer as expected_count, rest_count, trades_count,
        covered_until, row_count = extract(epoch from edge[bar + 1] - edge[bar]) as is_complete,
        greatest(covered_until, watermark) >= edge[bar + 1] as is_closed, source, revision, event_time, updated_at
    from (
        select width_bucket(open_time, %(edges)s::timestamptz[]) as bar,
            (array_agg(open order by open_time) filter (where trade_count > 0))[1] as open,
            max(high) filter (where trade_count > 0) as high, min(low) filter (where trade_count > 0) as low,
            (array_agg(close order by open_time))[count(*)] as close,
            sum(base_volume) as base_volume, sum(quote_volume) as quote_volume, sum(trade_count)::bigint as trade_count,
            sum(taker_buy_base_volume) as taker_buy_base_volume, sum(taker_buy_quote_volume) as taker_buy_quote_volume,
            (array_agg(first_trade_id order by open_time) filter (where trade_count > 0))[1] as first_trade_id,
            (array_agg(last_trade_id order by open_time desc) filter (where trade_count > 0))[1] as last_trade_id,
            sum(row_count)::integer as row_count, sum(rest_count)::integer as rest_count,
            sum(trades_count)::integer as trades_count, max(covered_until) as covered_until,
            coalesce(min(source) filter (where source <> 'seconds'), 'seconds') as source,
            sum(revision)::integer as revision, max(event_time) as event_time, max(updated_at) as updated_at
        from aggregated_kline
        where symbol = %(symbol)s and interval = %(base)s and open_time >= %(start)s and open_time < %(end)s
        group by bar
    ) part
    cross join (select %(edges)s::timestamptz[] as edge) edges
    left join lateral (
        select event_time as watermark from symbol_watermark where symbol = %(symbol)s and stream = 'kline_1s'
    ) progress on true
    order by part.bar
"""


def odd_bars_of(symbol: str, grid: Grid, opens_ms: Sequence[int]) -> dict[str, Any]:
    """The values of ODD_BARS for the bars that open at these times, which follow each other; at least one."""
    edges = [to_time(open_ms) for open_ms in (*opens_ms, grid.step(opens_ms[-1], 1))]
    return {
        "symbol": symbol,
        "interval": grid.interval,
        "base": grid.base.value,
        "edges": edges,
        "start": edges[0],
        "end": edges[-1],
    }
