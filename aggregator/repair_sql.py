"""Every statement of the repair. Times go in and out as ms since the epoch, UTC."""

from __future__ import annotations

from typing import Final

#: Held (by the session) by the one that repairs; a second worker finds it taken and leaves.
REPAIR_LOCK: Final = 7_320_005
TRY_REPAIR_LOCK: Final = f"select pg_try_advisory_lock({REPAIR_LOCK})"
FREE_REPAIR_LOCK: Final = f"select pg_advisory_unlock({REPAIR_LOCK})"
#: One writer of a symbol's gaps at a time: the inserter takes the same lock, before its rows, as is done here.
LOCK_LEDGER: Final = "select pg_advisory_xact_lock(7330000, hashtext(%s))"


def at(expression: str) -> str:
    """SQL for the instant of a bigint expression in ms."""
    return f"(timestamptz 'epoch' + {expression} * interval '1 millisecond')"


def ms(expression: str) -> str:
    """SQL for a timestamptz expression as bigint ms."""
    return f"(extract(epoch from {expression}) * 1000)::bigint"


_AT: Final = at("%s::bigint")

_DUE: Final = f"""
select id, symbol, {ms("from_time")}, {ms("to_time")}, state, attempts from kline_gap where interval = '1s'
"""
#: A gap that has just been noticed may still grow, or be filled by late rows. Parameters: seconds it is left, how many.
DUE_GAPS: Final = (
    _DUE + "and state = 'open' and (next_attempt_at is null or next_attempt_at <= now()) "
    "and (detector = 'operator' or detected_at <= now() - %s * interval '1 second') order by to_time desc limit %s"
)
#: Absent seconds of the last days are looked at again: the exchange corrects its archive. Without a time (a kill came
#: before it was noted, or a late row has split the range) at once.
DUE_ABSENT: Final = (
    _DUE + "and state = 'absent' and coalesce(next_attempt_at, now()) <= now() and to_time > now() - interval '7 days' "
    "order by to_time desc limit %s"
)
OPEN_SECONDS: Final = """
select coalesce(sum(extract(epoch from to_time - from_time)), 0)::bigint from kline_gap
where interval = '1s' and state = 'open'
"""

ENSURE_DAYS: Final = "select ensure_kline_1s_day(date '1970-01-01' + day) from unnest(%s::int[]) day"
CREATE_STAGE: Final = """
create temp table if not exists second_stage (
    open_ms bigint, open numeric, high numeric, low numeric, close numeric, base_volume numeric, quote_volume numeric,
    trade_count bigint, taker_buy_base_volume numeric, taker_buy_quote_volume numeric, first_trade_id bigint,
    last_trade_id bigint
) on commit delete rows
"""
COPY_STAGE: Final = "copy second_stage from stdin"
#: Never over a row that is there. Parameters: symbol, source.
STORE_STAGE: Final = f"""
insert into kline_1s (symbol, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count,
                      taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, event_time,
                      received_at, source)
select %s, {at("open_ms")}, {at("(open_ms + 999)")}, open, high, low, close, base_volume, quote_volume, trade_count,
       taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, {at("(open_ms + 999)")}, now(), %s
from second_stage
on conflict (symbol, open_time) do nothing
"""
MARK_DIRTY: Final = f"""
insert into dirty_minute (symbol, open_time)
select %s, {at("minute_ms")} from unnest(%s::bigint[]) minute_ms order by minute_ms
on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1
"""
MARK_HOURS: Final = f"""
insert into dirty_hour (symbol, hour)
select %s, {at("hour_ms")} from unnest(%s::bigint[]) hour_ms order by hour_ms
on conflict (symbol, hour) do update set marks = dirty_hour.marks + 1
"""

#: The nearest second with known trade ids on each side of [from, to), and what lies between them.
#: Parameters: symbol and from; symbol and to; symbol.
CHAIN: Final = f"""
with before as (
    select open_time, last_trade_id from kline_1s
    where symbol = %s and open_time < {_AT} and open_time >= {_AT} - interval '1 day' and last_trade_id >= 0
    order by open_time desc limit 1
), after as (
    select open_time, first_trade_id from kline_1s
    where symbol = %s and open_time >= {_AT} and open_time < {_AT} + interval '1 day' and first_trade_id >= 0
    order by open_time limit 1
)
select {ms("before.open_time")}, before.last_trade_id, {ms("after.open_time")}, after.first_trade_id,
       count(k.open_time), coalesce(sum(k.trade_count), 0)::bigint
from before, after
left join kline_1s k on k.symbol = %s
where k.open_time > before.open_time and k.open_time < after.open_time
group by before.open_time, before.last_trade_id, after.open_time, after.first_trade_id
"""
#: Is there a row of this second?
HAS_ROW: Final = f"select exists (select from kline_1s where symbol = %s and open_time = {_AT})"

_GAP: Final = f"""id, symbol, {ms("from_time")}, {ms("to_time")}, cause, state, resolved_by, {ms("detected_at")},
       detector"""
#: Gaps of a symbol that touch a range (both ends inclusive, so that neighbours are found too).
GAPS_TOUCHING: Final = f"""
select {_GAP} from kline_gap
where interval = '1s' and symbol = %s and from_time <= {_AT} and to_time >= {_AT}
order by from_time for update
"""
DELETE_GAPS: Final = "delete from kline_gap where id = any(%s::bigint[])"
INSERT_GAP: Final = f"""
insert into kline_gap (symbol, from_time, to_time, cause, state, resolved_by, detector, detected_at, resolved_at)
values (%(symbol)s, {at("%(from_ms)s::bigint")}, {at("%(to_ms)s::bigint")}, %(cause)s, %(state)s, %(resolved_by)s,
        %(detector)s, coalesce({at("%(detected_at_ms)s::bigint")}, now()),
        case when %(state)s = 'open' then null else now() end)
"""
UPDATE_GAP: Final = f"""
update kline_gap set from_time = {at("%(from_ms)s::bigint")}, to_time = {at("%(to_ms)s::bigint")},
    state = %(state)s, resolved_by = %(resolved_by)s,
    resolved_at = case when %(state)s = 'open' then null else now() end
where id = %(gap_id)s
"""
#: What a try has come to, on the gaps of one state that overlap a range. Parameters: attempts, seconds until the
#: next try (null = none is planned), error; symbol, state, to, from.
NOTE_TRY: Final = f"""
update kline_gap set attempts = %s, next_attempt_at = now() + %s * interval '1 second', last_error = %s
where interval = '1s' and symbol = %s and state = %s and from_time < {_AT} and to_time > {_AT}
"""

#: Seconds of a range that are neither a row nor in an unresolved gap. Parameters: from, to; symbol, twice.
UNACCOUNTED: Final = f"""
select {ms("second")} from generate_series({_AT}, {_AT} - interval '1 second', interval '1 second') as second
where not exists (select from kline_1s k where k.symbol = %s and k.open_time = second)
  and not exists (select from kline_gap g where g.interval = '1s' and g.symbol = %s and g.state <> 'repaired'
                    and g.from_time <= second and g.to_time > second)
"""
#: The account of a symbol: its first second and its watermark. Gaps outlive the rows that retention drops, so they
#: say where it begins only where there are no rows at all.
ACCOUNT_SPAN: Final = f"""
select {
    ms(
        "coalesce((select min(open_time) from kline_1s where symbol = w.symbol),"
        " (select min(from_time) from kline_gap where symbol = w.symbol and interval = '1s'))"
    )
},
       {ms("w.event_time")}
from symbol_watermark w where w.stream = 'kline_1s' and w.symbol = %s
"""
#: Seconds of a range by the state of the gaps they are in. Parameters: to, from; symbol, to, from.
BY_STATE: Final = f"""
select state, sum(extract(epoch from least(to_time, {_AT}) - greatest(from_time, {_AT})))::bigint
from kline_gap where interval = '1s' and symbol = %s and from_time < {_AT} and to_time > {_AT} group by state
"""
#: Gaps that are settled without rows; of all symbols, not what lies before an account (an import listed it: it may be
#: years). Parameters: symbol (null = all), twice; to, from.
SETTLED_WITHOUT_ROWS: Final = f"""
select symbol, {ms("from_time")}, {ms("to_time")} from kline_gap
where interval = '1s' and state in ('unrepairable', 'absent')
  and (symbol = %s or (%s::text is null and resolved_by is distinct from 'archive'))
  and from_time < {_AT} and to_time > {_AT} order by symbol, from_time
"""

DUE_SUSPECT: Final = f"""
select id, symbol, {ms("from_time")}, {ms("to_time")}, reason, attempts from suspect_range
where state = 'open' and (next_attempt_at is null or next_attempt_at <= now()) order by from_time desc limit 1
"""
#: One that was settled before is opened anew. Parameters: symbol, from, to.
ADD_SUSPECT: Final = f"""
insert into suspect_range as s (symbol, from_time, to_time, reason) values (%s, {_AT}, {_AT}, 'trade_chain')
on conflict (symbol, from_time, to_time, reason) do update set state = 'open', attempts = 0, next_attempt_at = null,
    last_error = null, found_at = now(), settled_at = null
where s.state <> 'open'
"""
NOTE_SUSPECT: Final = """
update suspect_range set state = %s, attempts = %s, next_attempt_at = now() + %s * interval '1 second',
    last_error = %s, settled_at = case when %s = 'open' then null else now() end
where id = %s and state = 'open'
"""
STORED_SECONDS: Final = f"""
select {ms("open_time")}, open, high, low, close, base_volume, quote_volume, trade_count, taker_buy_base_volume,
       taker_buy_quote_volume, coalesce(first_trade_id, -1), coalesce(last_trade_id, -1)
from kline_1s where symbol = %s and open_time >= {_AT} and open_time < {_AT} order by open_time
"""
#: The event time stays: a row that comes again from the stream is not newer than its correction.
CORRECT_STAGED: Final = f"""
update kline_1s k set open = s.open, high = s.high, low = s.low, close = s.close, base_volume = s.base_volume,
    quote_volume = s.quote_volume, trade_count = s.trade_count, taker_buy_base_volume = s.taker_buy_base_volume,
    taker_buy_quote_volume = s.taker_buy_quote_volume, first_trade_id = s.first_trade_id,
    last_trade_id = s.last_trade_id, received_at = now(), source = %s
from second_stage s where k.symbol = %s and k.open_time = {at("s.open_ms")}
"""
