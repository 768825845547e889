"""Every statement of the aggregator that makes candles. Times go in and out as timestamptz or ms, UTC.

Symbols are always named (`symbol = any(...)` or LATERAL), which keeps the plan on the primary key.
"""

from __future__ import annotations

from typing import Final

from market.interval import CHILD_INTERVAL, Interval

#: Held by the one that makes candles; a second worker finds it taken and leaves.
ROLL_UP_LOCK: Final = 7_320_001
PUBLISH_LOCK: Final = 7_320_002
HISTORY_LOCK: Final = 7_320_003
RETENTION_LOCK: Final = 7_320_004

TRY_LOCK: Final = "select pg_try_advisory_xact_lock(%s)"

CANDLE_COLUMNS: Final = (
    "symbol, interval, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count, "
    "taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, row_count, expected_count, "
    "rest_count, trades_count, covered_until, is_complete, is_closed, source, event_time"
)

#: Minutes below their symbol's watermark, oldest first. The marks are locked and deleted before anything is read:
#: the inserter marks by an upsert, which waits here for our commit and then marks anew, so no late row is lost.
#: What the inserter holds at this moment is skipped and comes next time.
TAKE_DIRTY: Final = """
with ready as (
    select d.symbol, d.open_time from dirty_minute d
    join symbol_watermark w on w.symbol = d.symbol and w.stream = 'kline_1s'
    where d.open_time + interval '1 minute' <= w.event_time
    order by d.open_time, d.symbol
    limit %s
    for update of d skip locked
)
delete from dirty_minute d using ready r
where d.symbol = r.symbol and d.open_time = r.open_time
returning d.symbol, d.open_time
"""

LATENESS: Final = """
select coalesce(max(extract(epoch from w.event_time - d.open_time - interval '1 minute')), 0)
from dirty_minute d join symbol_watermark w on w.symbol = d.symbol and w.stream = 'kline_1s'
where d.open_time + interval '1 minute' <= w.event_time
"""

#: The aggregates of binance.md 0.6 over `part`: quiet parts take no part in open, high and low; when all are quiet
#: the last close is carried. `part_count` and `part_source` come from the source of the parts.
VALUES_OF_PARTS: Final = """
    coalesce((array_agg(part.open order by part.open_time) filter (where part.trade_count > 0))[1],
             (array_agg(part.close order by part.open_time desc))[1]) as open,
    coalesce(max(part.high) filter (where part.trade_count > 0),
             (array_agg(part.close order by part.open_time desc))[1]) as high,
    coalesce(min(part.low) filter (where part.trade_count > 0),
             (array_agg(part.close order by part.open_time desc))[1]) as low,
    (array_agg(part.close order by part.open_time desc))[1] as close,
    sum(part.base_volume) as base_volume,
    sum(part.quote_volume) as quote_volume,
    sum(part.trade_count)::bigint as trade_count,
    sum(part.taker_buy_base_volume) as taker_buy_base_volume,
    sum(part.taker_buy_quote_volume) as taker_buy_quote_volume,
    case when sum(part.trade_count) = 0 then -1
         else (array_agg(part.first_trade_id order by part.open_time) filter (where part.trade_count > 0))[1]
    end as first_trade_id,
    case when sum(part.trade_count) = 0 then -1
         else (array_agg(part.last_trade_id order by part.open_time desc) filter (where part.trade_count > 0))[1]
    end as last_trade_id,
    max(part.event_time) as event_time
"""

_VALUE_NAMES: Final = (
    "open, high, low, close, base_volume, quote_volume, trade_count, taker_buy_base_volume, taker_buy_quote_volume, "
    "row_count"
)
_OTHER_NAMES: Final = (
    "first_trade_id, last_trade_id, rest_count, trades_count, covered_until, is_complete, is_closed, source"
)


def _of(table: str, names: str) -> str:
    """The columns as a row of that table."""
    return f"({', '.join(f'{table}.{name}' for name in names.split(', '))})"


_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in f"{_VALUE_NAMES}, {_OTHER_NAMES}".split(", "))
_IS_REVISED: Final = (
    f"aggregated_kline.is_closed and {_of('aggregated_kline', _VALUE_NAMES)}"
    f" is distinct from {_of('excluded', _VALUE_NAMES)}"
)
_ALL_NAMES: Final = f"{_VALUE_NAMES}, {_OTHER_NAMES}"

#: A candle is replaced by one that covers at least as much: seconds dropped by retention cannot thin a candle
#: out, and the exchange's own bar stays until ours is complete. The same values again touch nothing. `revision`
#: counts the changes of a closed candle's values, and `updated_at` of a closed candle moves with it alone: "as known
#: at" asks it. Every written candle goes to the outbox in the same transaction.
_STORE = f"""
stored as (
    insert into aggregated_kline ({CANDLE_COLUMNS}) select {CANDLE_COLUMNS} from fresh order by symbol, open_time
    on conflict (symbol, interval, open_time) do update set {_SET}, event_time = excluded.event_time,
        updated_at = case when aggregated_kline.is_closed and not ({_IS_REVISED}) then aggregated_kline.updated_at
                          else clock_timestamp() end,
        revision = aggregated_kline.revision + case when {_IS_REVISED} then 1 else 0 end
    where excluded.row_count >= aggregated_kline.row_count
      and {_of("aggregated_kline", _ALL_NAMES)} is distinct from {_of("excluded", _ALL_NAMES)}
    returning symbol, interval, open_time
)"""

_TO_OUTBOX: Final = """
insert into candle_outbox (symbol, interval, open_time) select symbol, interval, open_time from stored
order by symbol, interval, open_time
on conflict (symbol, interval, open_time) do update set marks = candle_outbox.marks + 1
"""

#: The exchange's own kline of the minute needs a moment to arrive.
AUDIT_AFTER_S: Final = 5
_TO_AUDIT: Final = f""", due as (
    insert into audit_due (symbol, open_time, due_at)
    select symbol, open_time, now() + interval '{AUDIT_AFTER_S} seconds' from stored order by symbol, open_time
    on conflict (symbol, open_time) do update set marks = audit_due.marks + 1, due_at = excluded.due_at
)"""

#: The hours of the given (symbol, minute) pairs. A writer that also marks minutes marks those before the hours, as
#: the roll-up does, so that two never wait for each other.
MARK_HOURS: Final = """
insert into dirty_hour (symbol, hour)
select distinct symbol, date_trunc('hour', open_time)
from unnest(%s::text[], %s::timestamptz[]) as rolled (symbol, open_time) order by 1, 2
on conflict (symbol, hour) do update set marks = dirty_hour.marks + 1
"""

#: One-minute candles of the given (symbol, minute) pairs from their seconds. The minute is below the watermark, so
#: it is closed even where seconds are missing.
ROLL_UP_MINUTES: Final = (
    f"""
with work as (
    select symbol, open_time from unnest(%s::text[], %s::timestamptz[]) as work (symbol, open_time)
), fresh as (
    select work.symbol, '1m' as interval, work.open_time,
           work.open_time + interval '1 minute' - interval '1 millisecond' as close_time,
           bar.open, bar.high, bar.low, bar.close, bar.base_volume, bar.quote_volume, bar.trade_count,
           bar.taker_buy_base_volume, bar.taker_buy_quote_volume, bar.first_trade_id, bar.last_trade_id,
           bar.row_count, 60 as expected_count, bar.rest_count, bar.trades_count,
           work.open_time + interval '1 minute' as covered_until,
           bar.row_count = 60 as is_complete, true as is_closed, 'seconds' as source, bar.event_time
    from work cross join lateral (
        select count(*)::integer as row_count,
               (count(*) filter (where part.source in ('rest', 'archive')))::integer as rest_count,
               (count(*) filter (where part.source = 'trades'))::integer as trades_count, {VALUES_OF_PARTS}
        from kline_1s part
        where part.symbol = work.symbol and part.open_time >= work.open_time
          and part.open_time < work.open_time + interval '1 minute'
    ) bar
    where bar.row_count > 0
), """
    + _STORE
    + _TO_AUDIT
    + _TO_OUTBOX
)

SQL_INTERVAL: Final = {
    Interval.M5: "5 minutes",
    Interval.M15: "15 minutes",
    Interval.H1: "1 hour",
    Interval.H4: "4 hours",
    Interval.D1: "1 day",
}


def roll_up_parents(interval: Interval) -> str:
    """Statement that makes the bars of `interval` holding the given (symbol, time) pairs from the interval below,
    forming bars included, and closes bars of these symbols whose end the watermark has passed meanwhile.

    Parameters: symbols, times (pairs), in that order.
    """
    child, length = CHILD_INTERVAL[interval], f"interval '{SQL_INTERVAL[interval]}'"
    return (
        f"""
with given as (
    select symbol, open_time from unnest(%s::text[], %s::timestamptz[]) as given (symbol, open_time)
), watermark as (
    select g.symbol, w.event_time from (select distinct symbol from given) g
    left join symbol_watermark w on w.symbol = g.symbol and w.stream = 'kline_1s'
), work as (
    select symbol, date_bin({length}, open_time, timestamptz 'epoch') as open_time from given
    union
    select k.symbol, k.open_time from watermark w
    join aggregated_kline k on k.symbol = w.symbol and k.interval = '{interval}' and not k.is_closed
    where k.close_time < w.event_time
), fresh as (
    select work.symbol, '{interval}' as interval, work.open_time,
           work.open_time + {length} - interval '1 millisecond' as close_time,
           bar.open, bar.high, bar.low, bar.close, bar.base_volume, bar.quote_volume, bar.trade_count,
           bar.taker_buy_base_volume, bar.taker_buy_quote_volume, bar.first_trade_id, bar.last_trade_id,
           bar.row_count, {interval.seconds} as expected_count, bar.rest_count, bar.trades_count,
           case when work.open_time + {length} <= watermark.event_time then work.open_time + {length}
                else bar.covered_until end as covered_until,
           bar.row_count = {interval.seconds} as is_complete,
           bar.covered_until >= work.open_time + {length}
               or coalesce(work.open_time + {length} <= watermark.event_time, false) as is_closed,
           bar.source, bar.event_time
    from work join watermark on watermark.symbol = work.symbol
    cross join lateral (
        select sum(part.row_count)::integer as row_count, max(part.covered_until) as covered_until,
               sum(part.rest_count)::integer as rest_count, sum(part.trades_count)::integer as trades_count,
               coalesce(min(part.source) filter (where part.source <> 'seconds'), 'seconds') as source,
               {VALUES_OF_PARTS}
        from aggregated_kline part
        where part.symbol = work.symbol and part.interval = '{child}' and part.open_time >= work.open_time
          and part.open_time < work.open_time + {length}
    ) bar
    where bar.row_count > 0
), """
        + _STORE
        + _TO_OUTBOX
    )


PARENT_INTERVALS: Final = (Interval.M5, Interval.M15, Interval.H1, Interval.H4, Interval.D1)
ROLL_UP_PARENTS: Final = {interval: roll_up_parents(interval) for interval in PARENT_INTERVALS}

_MS = "(extract(epoch from {}) * 1000)::bigint"
#: Field order of market.kline.Candle.
AS_CANDLE = f"""
    k.symbol, k.interval, {_MS.format("k.open_time")}, {_MS.format("k.close_time")}, k.open, k.high, k.low, k.close,
    k.base_volume, k.quote_volume, k.trade_count, k.taker_buy_base_volume, k.taker_buy_quote_volume,
    k.first_trade_id, k.last_trade_id, k.row_count, k.expected_count, {_MS.format("k.covered_until")},
    k.is_complete, k.is_closed, k.source, k.revision, {_MS.format("k.event_time")}, {_MS.format("k.updated_at")}
"""

#: A piece of the outbox: marks and candles of one snapshot.
READ_OUTBOX: Final = f"""
select o.marks, o.symbol, o.interval, o.open_time, k.symbol is not null, {AS_CANDLE}
from (select * from candle_outbox order by open_time, symbol limit %s) o
left join aggregated_kline k on k.symbol = o.symbol and k.interval = o.interval and k.open_time = o.open_time
order by o.symbol, o.open_time, k.expected_count
"""
#: Published candles leave the outbox unless they were marked again meanwhile.
CLEAR_OUTBOX: Final = """
delete from candle_outbox o
using unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[]) as sent (marks, symbol, interval, open_time)
where o.symbol = sent.symbol and o.interval = sent.interval and o.open_time = sent.open_time and o.marks = sent.marks
"""
TRY_SESSION_LOCK: Final = "select pg_try_advisory_lock(%s)"
UNLOCK: Final = "select pg_advisory_unlock(%s)"
