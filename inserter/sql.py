"""Every statement of the inserter. Times go in and out as ms since the epoch, UTC."""

from __future__ import annotations

from typing import Final

#: One at a time makes partitions or claims checkpoints, whoever runs.
CLAIM_LOCK: Final = 7_310_002

_EPOCH = "timestamptz 'epoch'"
_MS = "interval '1 millisecond'"


def at(expression: str) -> str:
    """SQL for the instant of a bigint expression in ms. Exact below the year 287396 (2**53 us)."""
    return f"({_EPOCH} + {expression} * {_MS})"


def ms(expression: str) -> str:
    """SQL for a timestamptz expression as bigint ms."""
    return f"(extract(epoch from {expression}) * 1000)::bigint"


_UPSERT_HEAD = """
insert into kline_1s (symbol, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count,
                      taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, event_time,
                      received_at, source)
"""
#: The newest event wins, whatever the order of arrival; the same event again changes nothing.
_UPSERT_TAIL = """
on conflict (symbol, open_time) do update set
    close_time = excluded.close_time, open = excluded.open, high = excluded.high, low = excluded.low,
    close = excluded.close, base_volume = excluded.base_volume, quote_volume = excluded.quote_volume,
    trade_count = excluded.trade_count, taker_buy_base_volume = excluded.taker_buy_base_volume,
    taker_buy_quote_volume = excluded.taker_buy_quote_volume, first_trade_id = excluded.first_trade_id,
    last_trade_id = excluded.last_trade_id, event_time = excluded.event_time, received_at = excluded.received_at,
    source = excluded.source
where excluded.event_time > kline_1s.event_time
"""

#: The order of a COPY line (inserter/rows.py).
COPY_COLUMNS: Final = (
    "symbol, open_time, close_time, trade_count, first_trade_id, last_trade_id, event_time, received_at, source, "
    "open, high, low, close, base_volume, quote_volume, taker_buy_base_volume, taker_buy_quote_volume"
)
COPY_ROWS: Final = f"copy kline_1s ({COPY_COLUMNS}) from stdin"
CREATE_STAGE: Final = "create temp table if not exists kline_stage (like kline_1s) on commit delete rows"
COPY_STAGE: Final = f"copy kline_stage ({COPY_COLUMNS}) from stdin"
UPSERT_STAGE: Final = f"insert into kline_1s ({COPY_COLUMNS}) select {COPY_COLUMNS} from kline_stage" + _UPSERT_TAIL

#: Parameters: the fields of a row by name.
UPSERT_ROW: Final = (
    _UPSERT_HEAD
    + f"""
values (%(symbol)s, {at("%(open_ms)s::bigint")}, {at("%(close_ms)s::bigint")}, %(open)s, %(high)s, %(low)s, %(close)s,
        %(base_volume)s, %(quote_volume)s, %(trade_count)s, %(taker_base)s, %(taker_quote)s, %(first_trade_id)s,
        %(last_trade_id)s, {at("%(event_ms)s::bigint")}, {at("%(received_ms)s::bigint")}, 'stream')
"""
    + _UPSERT_TAIL
)

#: The newest event wins, but not over what REST has said of the minute. One that the stream corrects is due again.
UPSERT_MINUTE: Final = f"""
with stored as (
insert into exchange_minute (symbol, open_time, open, high, low, close, base_volume, quote_volume, trade_count,
                             taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, source,
                             event_time, received_at)
values (%(symbol)s, {at("%(open_ms)s::bigint")}, %(open)s, %(high)s, %(low)s, %(close)s, %(base_volume)s,
        %(quote_volume)s, %(trade_count)s, %(taker_base)s, %(taker_quote)s, %(first_trade_id)s, %(last_trade_id)s,
        'stream', {at("%(event_ms)s::bigint")}, {at("%(received_ms)s::bigint")})
on conflict (symbol, open_time) do update set
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    base_volume = excluded.base_volume, quote_volume = excluded.quote_volume, trade_count = excluded.trade_count,
    taker_buy_base_volume = excluded.taker_buy_base_volume, taker_buy_quote_volume = excluded.taker_buy_quote_volume,
    first_trade_id = excluded.first_trade_id, last_trade_id = excluded.last_trade_id, source = excluded.source,
    event_time = excluded.event_time, received_at = excluded.received_at
where excluded.event_time > exchange_minute.event_time and exchange_minute.source = 'stream'
returning symbol, open_time, xmax <> 0 as is_correction
)
insert into audit_due (symbol, open_time) select symbol, open_time from stored where is_correction
on conflict (symbol, open_time) do update set marks = audit_due.marks + 1
"""
INSERT_SUSPECT: Final = f"""
insert into suspect_range (symbol, from_time, to_time, reason)
values (%s, {at("%s::bigint")}, {at("%s::bigint")}, 'trade_chain')
on conflict (symbol, from_time, to_time, reason) do nothing
"""
MARK_DIRTY_HOURS: Final = f"""
insert into dirty_hour (symbol, hour)
select symbol, {at("hour_ms")} from unnest(%s::text[], %s::bigint[]) as mark (symbol, hour_ms)
order by symbol, hour_ms
on conflict (symbol, hour) do update set marks = dirty_hour.marks + 1
"""
MARK_DIRTY: Final = f"""
insert into dirty_minute (symbol, open_time)
select symbol, {at("minute_ms")} from unnest(%s::text[], %s::bigint[]) as mark (symbol, minute_ms)
order by symbol, minute_ms
on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1
"""

ADVANCE_WATERMARKS: Final = f"""
insert into symbol_watermark (symbol, stream, event_time)
select symbol, 'kline_1s', {at("watermark_ms")} from unnest(%s::text[], %s::bigint[]) as mark (symbol, watermark_ms)
order by symbol
on conflict (symbol, stream) do update set event_time = excluded.event_time, updated_at = now()
where excluded.event_time > symbol_watermark.event_time
"""

LOAD_WATERMARKS: Final = f"""
select w.symbol, {ms("w.event_time")}, traded.last_trade_id, {ms("traded.open_time")}
from symbol_watermark w
left join lateral (
    select k.last_trade_id, k.open_time from kline_1s k
    where k.symbol = w.symbol and k.open_time < w.event_time and k.open_time >= w.event_time - interval '10 minutes'
      and k.trade_count > 0
    order by k.open_time desc limit 1
) traded on not exists (
    -- Across a hole no chain can be followed.
    select from kline_gap g
    where g.symbol = w.symbol and g.interval = '1s' and g.state <> 'repaired'
      and g.to_time > traded.open_time and g.from_time < w.event_time
)
where w.stream = 'kline_1s'
"""
LOAD_OPEN_OUTAGES: Final = f"""
select symbol, {ms("from_time")}, {ms("to_time")}, cause from feed_outage
where stream = 'kline_1s' and to_time is null order by symbol, from_time
"""
LOAD_UNFOLLOWED: Final = "select symbol from market_symbol where not is_followed"

_GAP_COLUMNS = f"""id, symbol, {ms("from_time")}, {ms("to_time")}, cause, state, resolved_by, {ms("detected_at")},
       detector"""
#: Gaps that touch the range of their symbol (both ends inclusive, so that neighbours are found too). Gaps of a symbol
#: do not overlap, so none before the last that begins earlier can touch: the index is entered there, however many
#: there are.
GAPS_TOUCHING: Final = f"""
select {_GAP_COLUMNS}
from unnest(%s::text[], %s::bigint[], %s::bigint[]) as span (span_symbol, from_ms, to_ms)
join kline_gap on symbol = span_symbol and interval = '1s'
  and from_time <= {at("to_ms")} and to_time >= {at("from_ms")}
  and from_time >= coalesce((
    select max(earlier.from_time) from kline_gap earlier
    where earlier.symbol = span_symbol and earlier.interval = '1s' and earlier.from_time < {at("from_ms")}
  ), '-infinity')
order by symbol, from_time for update of kline_gap
"""
GAPS_UNKNOWN: Final = f"""
select {_GAP_COLUMNS} from kline_gap
where interval = '1s' and state = 'open' and cause = 'unknown' and symbol = any(%s::text[]) order by id for update
"""
#: All of a transaction at once: with every stream out there is a gap of each symbol, every few seconds.
_GAPS_GIVEN = """unnest(%(gap_id)s::bigint[], %(symbol)s::text[], %(from_ms)s::bigint[], %(to_ms)s::bigint[],
    %(cause)s::text[], %(state)s::text[], %(resolved_by)s::text[], %(detector)s::text[], %(detected_at_ms)s::bigint[])
    as given (gap_id, symbol, from_ms, to_ms, cause, state, resolved_by, detector, detected_at_ms)"""
INSERT_GAPS: Final = f"""
insert into kline_gap (symbol, from_time, to_time, cause, state, resolved_by, detector, detected_at, resolved_at)
select symbol, {at("from_ms")}, {at("to_ms")}, cause, state, resolved_by, detector,
       coalesce({at("detected_at_ms")}, now()), case when state = 'open' then null else now() end
from {_GAPS_GIVEN}
"""
UPDATE_GAPS: Final = f"""
update kline_gap set from_time = {at("given.from_ms")}, to_time = {at("given.to_ms")}, cause = given.cause,
    state = given.state, resolved_by = given.resolved_by, detector = given.detector,
    resolved_at = case when given.state = 'open' then null else now() end
from {_GAPS_GIVEN} where id = gap_id
"""
#: One writer of a symbol's gaps at a time; the repair takes the same lock. Sorted, so that two cannot wait for each
#: other.
LOCK_LEDGER: Final = """
select pg_advisory_xact_lock(7330000, hashtext(symbol)) from unnest(%s::text[]) with ordinality as s (symbol, number)
order by number
"""
DELETE_GAPS: Final = "delete from kline_gap where id = any(%s::bigint[])"

UPSERT_OUTAGE: Final = f"""
insert into feed_outage (symbol, stream, from_time, to_time, cause, detail)
values (%(symbol)s, %(stream)s, {at("%(from_ms)s::bigint")}, {at("%(to_ms)s::bigint")}, %(cause)s, %(detail)s)
on conflict (symbol, stream, from_time) do update set
    to_time = coalesce(excluded.to_time, feed_outage.to_time), cause = excluded.cause, detail = excluded.detail
"""
#: A stream has one open outage at a time: what a producer left open when it was killed ends with the next record.
END_EARLIER_OUTAGES: Final = f"""
update feed_outage set to_time = {at("%(from_ms)s::bigint")}
where symbol = %(symbol)s and stream = %(stream)s and to_time is null and from_time < {at("%(from_ms)s::bigint")}
"""
#: Outages of the 1 s klines that may explain a gap of these symbols ending after the given time.
OUTAGES_OF: Final = f"""
select symbol, {ms("from_time")}, {ms("to_time")}, cause from feed_outage
where stream = 'kline_1s' and symbol = any(%s::text[]) and (to_time is null or to_time > {at("%s::bigint")})
order by from_time desc
"""

UPSERT_TICKER: Final = f"""
insert into symbol_ticker (symbol, open, high, low, close, base_volume, quote_volume, event_time, received_at)
values (%(symbol)s, %(open)s, %(high)s, %(low)s, %(close)s, %(base_volume)s, %(quote_volume)s,
        {at("%(event_ms)s::bigint")}, {at("%(received_ms)s::bigint")})
on conflict (symbol) do update set
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    base_volume = excluded.base_volume, quote_volume = excluded.quote_volume, event_time = excluded.event_time,
    received_at = excluded.received_at
where excluded.event_time >= symbol_ticker.event_time
"""

INSERT_DEAD_LETTER: Final = f"""
insert into dead_letter (topic, partition, record_offset, reason, payload, received_at)
values (%s, %s, %s, %s, %s, {at("%s::bigint")})
on conflict (topic, partition, record_offset) do nothing
"""

LOAD_CHECKPOINTS: Final = """
select topic, partition, topic_id, next_offset, epoch from kline_checkpoint where topic = any(%s::text[])
"""
CLAIM: Final = """
insert into kline_checkpoint (topic, topic_id, partition, next_offset, epoch) values (%s, %s, %s, %s, %s)
on conflict (topic, partition) do update set epoch = excluded.epoch, updated_at = now()
"""
#: Compare and set: no row is updated when another writer has moved or claimed the checkpoint.
ADVANCE_CHECKPOINT: Final = """
update kline_checkpoint set next_offset = %(next_offset)s, topic_id = %(topic_id)s, updated_at = now()
where topic = %(topic)s and partition = %(partition)s and epoch = %(epoch)s and next_offset = %(stored_offset)s
"""

#: Days since the epoch, UTC.
ENSURE_DAYS: Final = "select ensure_kline_1s_day(date '1970-01-01' + day) from unnest(%s::int[]) day"
