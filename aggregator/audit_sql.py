"""Statements of the aggregator's audit."""

from __future__ import annotations

from typing import Final

from aggregator.sql import AS_CANDLE, AUDIT_AFTER_S
from market.kline import VALUE_COLUMNS

VALUE_NAMES: Final = VALUE_COLUMNS
#: What the stream has not brought by then is asked for by REST; the waiting minutes of a symbol share a call.
REST_AFTER_S: Final = 20
#: Until this age the exchange may still get a row that it does not show yet; it is asked again after a pause.
YOUNG_S: Final = 180
POSTPONE_S: Final = 15
#: Minutes of the queue that one run looks at: ten minutes of 2,000 symbols.
MAX_LOOKED_AT: Final = 20_000
#: An answer that had to be refused as a whole says nothing of its minutes; asked again after so long.
REFUSED_S: Final = 60

#: Minutes that differed, whose seconds the repair has looked at since: their roll-up, if any, is through. No times are
#: compared: the audit opens the range of each difference in the transaction that writes it down, so one that is
#: settled has not been answered yet, however the two transactions lay.
BRING_BACK_SETTLED: Final = f"""
insert into audit_due (symbol, open_time, due_at)
select a.symbol, a.open_time, now() + interval '{AUDIT_AFTER_S} seconds' from minute_audit a
join suspect_range s on s.symbol = a.symbol and s.from_time = a.open_time
    and s.to_time = a.open_time + interval '1 minute' and s.reason = 'audit'
where a.state = 'different' and not a.needs_person and s.state <> 'open'
  and not exists (select from dirty_minute d where d.symbol = a.symbol and d.open_time = a.open_time)
order by 1, 2
on conflict (symbol, open_time) do nothing
"""

#: A minute that differed from the stream's kline is compared with REST's the next time: either may be the wrong one.
#: What waits for REST comes last, so that an exchange that is away holds up nothing else. The newest part of the queue
#: alone is looked at, so that a run takes the same time however long the queue has grown.
READ_DUE: Final = f"""
select symbol, open_time, marks, wants_rest, is_young from (
    select d.symbol, d.open_time, d.marks, d.due_at, rechecked.it as is_recheck,
           coalesce(k.is_complete and k.source = 'seconds', false) and (x.symbol is null or rechecked.it) as wants_rest,
           d.open_time > now() - interval '{YOUNG_S} seconds' as is_young
    from (select * from audit_due where due_at <= now() order by due_at desc limit {MAX_LOOKED_AT}) d
    left join aggregated_kline k on k.symbol = d.symbol and k.interval = '1m' and k.open_time = d.open_time
    left join exchange_minute x on x.symbol = d.symbol and x.open_time = d.open_time
    left join minute_audit a on a.symbol = d.symbol and a.open_time = d.open_time
    cross join lateral (select coalesce(a.state = 'different' and x.source = 'stream', false) as it) rechecked
) due
where not wants_rest or is_recheck or due_at <= now() - interval '{REST_AFTER_S} seconds'
order by wants_rest, due_at, symbol limit %s
"""

#: Parameters: symbols, times, marks. What was marked again meanwhile stays. Locked in the order in which the roll-up
#: marks, so that the two never wait for each other.
TAKE_DUE: Final = """
with ready as (
    select d.symbol, d.open_time from audit_due d
    join unnest(%s::text[], %s::timestamptz[], %s::bigint[]) as read (symbol, open_time, marks)
        on d.symbol = read.symbol and d.open_time = read.open_time and d.marks = read.marks
    order by d.symbol, d.open_time for update of d
)
delete from audit_due d using ready r where d.symbol = r.symbol and d.open_time = r.open_time
returning d.symbol, d.open_time
"""
#: Parameters: seconds until REST is asked again; symbols, times, marks.
POSTPONE: Final = f"""
update audit_due d set due_at = now() + (%s - {REST_AFTER_S}) * interval '1 second'
from unnest(%s::text[], %s::timestamptz[], %s::bigint[]) as read (symbol, open_time, marks)
where d.symbol = read.symbol and d.open_time = read.open_time and d.marks = read.marks
"""

_VALUES: Final = ", ".join(VALUE_NAMES)
#: Ours, then where the exchange's comes from, the audit before this one, and the exchange's nine values.
READ_PAIRS: Final = f"""
select {AS_CANDLE}, x.source, k.open_time, coalesce(a.rechecks, 0), exists (
        select from suspect_range s where s.symbol = k.symbol and s.from_time = k.open_time
          and s.to_time = k.open_time + interval '1 minute' and s.reason = 'audit' and s.state = 'open'),
    {", ".join(f"x.{name}" for name in VALUE_NAMES)}
from unnest(%s::text[], %s::timestamptz[]) as taken (symbol, open_time)
join aggregated_kline k on k.symbol = taken.symbol and k.interval = '1m' and k.open_time = taken.open_time
left join exchange_minute x on x.symbol = k.symbol and x.open_time = k.open_time
left join minute_audit a on a.symbol = k.symbol and a.open_time = k.open_time
order by k.symbol, k.open_time
"""

#: What REST says of a closed minute outranks what the stream said.
STORE_EXCHANGE_MINUTES: Final = f"""
insert into exchange_minute (symbol, open_time, {_VALUES}, source, event_time, received_at)
select symbol, timestamptz 'epoch' + open_ms * interval '1 millisecond', {_VALUES}, 'rest',
       timestamptz 'epoch' + close_ms * interval '1 millisecond', clock_timestamp()
from unnest(%s::text[], %s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[],
            %s::numeric[], %s::bigint[], %s::numeric[], %s::numeric[], %s::bigint[])
    as fetched (symbol, open_ms, {_VALUES}, close_ms)
order by symbol, open_ms
on conflict (symbol, open_time) do update set {", ".join(f"{name} = excluded.{name}" for name in VALUE_NAMES)},
    first_trade_id = null, last_trade_id = null, source = 'rest', event_time = excluded.event_time,
    received_at = excluded.received_at
"""

STORE_RESULTS: Final = """
insert into minute_audit (symbol, open_time, state, reason, differences, tolerances, compared_with, revision, rechecks,
                          needs_person, audited_at)
select symbol, open_time, state, reason, differences::jsonb,
       coalesce(string_to_array(nullif(tolerances, ''), ','), '{}'), compared_with, revision, rechecks, needs_person,
       clock_timestamp()
from unnest(%s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::integer[],
            %s::integer[], %s::boolean[])
    as result (symbol, open_time, state, reason, differences, tolerances, compared_with, revision, rechecks,
               needs_person)
order by symbol, open_time
on conflict (symbol, open_time) do update set state = excluded.state, reason = excluded.reason,
    differences = excluded.differences, tolerances = excluded.tolerances, compared_with = excluded.compared_with,
    revision = excluded.revision, rechecks = excluded.rechecks, needs_person = excluded.needs_person,
    audited_at = excluded.audited_at
"""

#: The repair looks at them; one that it settled before is opened anew.
ADD_SUSPECTS: Final = """
insert into suspect_range as s (symbol, from_time, to_time, reason)
select symbol, open_time, open_time + interval '1 minute', 'audit'
from unnest(%s::text[], %s::timestamptz[]) as differing (symbol, open_time) order by symbol, open_time
on conflict (symbol, from_time, to_time, reason) do update set state = 'open', attempts = 0, next_attempt_at = null,
    last_error = null, found_at = now(), settled_at = null
"""

#: Figures for the metrics: minutes waiting, minutes for a person.
WAITING: Final = """
select (select count(*) from audit_due), (select count(*) from minute_audit where state <> 'equal' and needs_person)
"""
