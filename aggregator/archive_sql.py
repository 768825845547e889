"""Every statement of the import of archives. Times go in and out as ms since the epoch, UTC."""

from __future__ import annotations

from typing import Final

from aggregator.repair_sql import at, ms
from aggregator.sql import SQL_INTERVAL
from market.interval import CHILD_INTERVAL, Interval
from market.kline import VALUE_COLUMNS

CREATE_STAGE: Final = f"""
create temp table archive_stage (
    open_time timestamptz primary key, {", ".join(f"{name} numeric not null" for name in VALUE_COLUMNS)}
)
"""
COPY_STAGE: Final = "copy archive_stage from stdin"
DROP_STAGE: Final = "drop table if exists archive_stage"

_SHARED: Final = ", ".join(VALUE_COLUMNS)


def compare(table: str, where: str) -> tuple[str, str]:
    """How many stored rows equal theirs in the file, and those that do not, with both values of each column.

    Parameters: symbol (and interval); for the second a limit too."""
    join = f"from archive_stage s join {table} k on k.open_time = s.open_time and {where}"
    span = (
        " where k.open_time >= (select min(open_time) from archive_stage)"
        " and k.open_time <= (select max(open_time) from archive_stage)"
    )
    ours, theirs = (", ".join(f"{row}.{name}" for name in VALUE_COLUMNS) for row in ("k", "s"))
    pairs = ", ".join(f"k.{name}::text, s.{name}::text" for name in VALUE_COLUMNS)
    is_equal = f"({ours}) = ({theirs})"
    return (
        f"select count(*) filter (where {is_equal}), count(*) filter (where not {is_equal}) {join}{span}",
        f"select {ms('k.open_time')}, {pairs} {join}{span} and not {is_equal} order by k.open_time limit %s",
    )


SECONDS_WHERE: Final = "k.symbol = %s"
CANDLES_WHERE: Final = "k.symbol = %s and k.interval = %s"

#: Days of the file whose partitions are needed.
DAYS: Final = """
select ensure_kline_1s_day(day) from (
    select distinct (open_time at time zone 'UTC')::date as day from archive_stage order by 1) days
"""
#: First and last open time of the file, and its rows.
SPAN: Final = f"select {ms('min(open_time)')}, {ms('max(open_time)')}, count(*) from archive_stage"

#: Never over a row that is there. Trade ids are unknown, but for quiet seconds. Parameter: symbol.
INSERT_SECONDS: Final = f"""
insert into kline_1s (symbol, open_time, close_time, {_SHARED}, first_trade_id, last_trade_id, event_time,
                      received_at, source)
select %s, open_time, open_time + interval '999 milliseconds', {_SHARED},
       case when trade_count = 0 then -1 end, case when trade_count = 0 then -1 end,
       open_time + interval '999 milliseconds', now(), 'archive'
from archive_stage order by open_time
on conflict (symbol, open_time) do nothing
"""
#: Parameters: symbol, interval, its seconds.
INSERT_CANDLES: Final = f"""
insert into aggregated_kline (symbol, interval, open_time, close_time, {_SHARED}, row_count, expected_count,
                              covered_until, is_complete, is_closed, source, event_time)
select symbol, interval, open_time, open_time + length - interval '1 millisecond', {_SHARED}, seconds, seconds,
       open_time + length, true, true, 'archive', open_time + length - interval '1 millisecond'
from archive_stage cross join (select %s as symbol, %s as interval, %s::integer as seconds) asked
cross join lateral (select make_interval(secs => seconds) as length) bar
order by open_time
on conflict (symbol, interval, open_time) do nothing
"""


def whole_bars(interval: Interval) -> str:
    """Open times of the bars of `interval` around the file's rows of which every part of the interval below is stored,
    but they themselves are not, or have less.

    Parameter: symbol, twice."""
    length = f"interval '{SQL_INTERVAL[interval]}'"
    return f"""
select bar.open_time
from (select distinct date_bin({length}, open_time, timestamptz 'epoch') as open_time from archive_stage) bar
left join aggregated_kline k on k.symbol = %s and k.interval = '{interval}' and k.open_time = bar.open_time
where coalesce(k.row_count, 0) < {interval.seconds} and {interval.seconds} = (
    select sum(part.row_count) from aggregated_kline part
    where part.symbol = %s and part.interval = '{CHILD_INTERVAL[interval]}' and part.open_time >= bar.open_time
      and part.open_time < bar.open_time + {length})
order by 1
"""


#: Seconds of the file inside of gaps that are not repaired: those that the file settles. Parameter: symbol.
IN_GAPS: Final = f"""
select {ms("s.open_time")} from kline_gap g join archive_stage s
    on s.open_time >= g.from_time and s.open_time < g.to_time
where g.interval = '1s' and g.symbol = %s and g.state <> 'repaired' order by 1
"""
#: Where the account of the symbol begins, and its watermark; null without one. Parameter: symbol, three times.
ACCOUNT: Final = f"""
select {
    ms('''least((select min(open_time) from kline_1s where symbol = %s),
                    (select min(from_time) from kline_gap where symbol = %s and interval = '1s'))''')
},
    (select {ms("event_time")} from symbol_watermark where symbol = %s and stream = 'kline_1s')
"""
#: Ranges between rows of the file that it does not have, up to a time. Parameter: that time.
HOLES: Final = f"""
select {ms("until")}, {ms("next")} from (
    select part.open_time + interval '1 second' as until,
        least(lead(part.open_time) over (order by part.open_time), {at("%s::bigint")}) as next
    from archive_stage part
) hole where next > until order by 1
"""
MINUTES: Final = "select distinct date_trunc('minute', open_time) from archive_stage order by 1"
#: Parameter: symbol. In order of time, as everybody marks.
MARK_MINUTES: Final = """
insert into dirty_minute (symbol, open_time)
select %s, minute from (select distinct date_trunc('minute', open_time) as minute from archive_stage) minutes
order by minute
on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1
"""
#: Parameter: symbol.
MARK_HOURS: Final = """
insert into dirty_hour (symbol, hour)
select %s, hour from (select distinct date_trunc('hour', open_time) as hour from archive_stage) hours order by hour
on conflict (symbol, hour) do update set marks = dirty_hour.marks + 1
"""
