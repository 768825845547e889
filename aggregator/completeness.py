"""The account of every second by symbol and hour, kept up to date so that nobody has to count when asked.

`dirty_hour` names the hours to be counted anew: the roll-up marks those of its minutes, whoever changes the gap
ledger those of the gap. An hour that has come to rest is never counted again; the running hour of a symbol is counted
every few seconds, a bounded number of symbols at a time. What an imported archive has before the line's own seconds is
not part of the account, which begins at the end of the gap that the import has listed in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.database import Connection, TupleRow

#: Symbol-hours of one transaction: some 60 index look-ups each.
MAX_HOURS: Final = 500
#: How old the count of a running hour may get, and of how many symbols it is renewed at once.
RUNNING_HOUR_AGE_S: Final = 5
MAX_RUNNING: Final = 100
#: Hours of a symbol that were never counted (a database from before this table) are taken up so many at once.
MAX_UNCOUNTED: Final = 500

MARK_RUNNING: Final = f"""
insert into dirty_hour (symbol, hour)
select symbol, hour from (
    select w.symbol, date_trunc('hour', w.event_time - interval '1 microsecond') as hour, c.updated_at
    from symbol_watermark w
    left join completeness_hour c
        on c.symbol = w.symbol and c.hour = date_trunc('hour', w.event_time - interval '1 microsecond')
    where w.stream = 'kline_1s'
      and (c.updated_at is null or c.updated_at < least(now() - interval '{RUNNING_HOUR_AGE_S} seconds', w.updated_at))
    order by c.updated_at nulls first limit {MAX_RUNNING}
) running order by symbol
on conflict (symbol, hour) do nothing
"""

#: Hours whose first second came from an archive are marked when it is imported; before the account there may be years
#: without a row, which nobody has to count.
BEGINS_OURS: Final = """coalesce((
    select r.source from kline_1s r where r.symbol = w.symbol and r.open_time >= hour.hour
        and r.open_time < hour.hour + interval '1 hour' order by r.open_time limit 1
), (
    select coalesce(g.resolved_by, 'gap') from kline_gap g where g.symbol = w.symbol and g.interval = '1s'
        and g.from_time < hour.hour + interval '1 hour' and g.to_time > hour.hour order by g.from_time desc limit 1
)) <> 'archive'"""
MARK_UNCOUNTED: Final = f"""
insert into dirty_hour (symbol, hour)
select symbol, hour from (
    select w.symbol, hour
    from symbol_watermark w
    cross join lateral (select open_time from kline_1s where symbol = w.symbol order by open_time limit 1) first
    cross join lateral generate_series(date_trunc('hour', first.open_time), w.event_time - interval '1 microsecond',
                                       interval '1 hour') hour
    where w.stream = 'kline_1s'
      and not exists (select from completeness_hour c where c.symbol = w.symbol and c.hour = hour.hour)
      and {BEGINS_OURS}
    limit {MAX_UNCOUNTED}
) uncounted order by symbol, hour
on conflict (symbol, hour) do nothing
"""

#: Taken before anything is counted, in a statement of its own: who marks an hour meanwhile waits for our commit and
#: marks it anew.
TAKE: Final = """
with ready as (
    select symbol, hour from dirty_hour order by hour desc, symbol limit %s for update skip locked
)
delete from dirty_hour d using ready r where d.symbol = r.symbol and d.hour = r.hour returning d.symbol, d.hour
"""

#: A complete candle of our own seconds tells of all its 60; every other minute is counted row by row. Rows leave by
#: retention alone: an hour that lost some keeps its last count.
COUNT: Final = """
with work as (
    select symbol, hour from unnest(%s::text[], %s::timestamptz[]) as work (symbol, hour)
), bound as (
    select s.symbol, w.event_time as watermark, least(row.open_time, gap.from_time) as first
    from (select distinct symbol from work) s
    join symbol_watermark w on w.symbol = s.symbol and w.stream = 'kline_1s'
    cross join lateral (select coalesce(max(to_time), '-infinity') as end_time from kline_gap
                        where symbol = s.symbol and interval = '1s' and state = 'unrepairable'
                          and resolved_by = 'archive') archive
    left join lateral (select open_time from kline_1s where symbol = s.symbol and open_time >= archive.end_time
                       order by open_time limit 1) row on true
    cross join lateral (select min(from_time) as from_time from kline_gap
                        where symbol = s.symbol and interval = '1s' and from_time >= archive.end_time) gap
), part as (
    select work.symbol, work.hour, greatest(work.hour, bound.first) as from_time,
           least(work.hour + interval '1 hour', bound.watermark) as to_time
    from work join bound on bound.symbol = work.symbol
    where bound.first is not null
      and greatest(work.hour, bound.first) < least(work.hour + interval '1 hour', bound.watermark)
), stored as (
    select part.symbol, part.hour,
           sum(coalesce(k.row_count - k.rest_count - k.trades_count, counted.stream)) as stream,
           sum(coalesce(k.rest_count, counted.rest)) as rest,
           sum(coalesce(k.trades_count, counted.trades)) as trades
    from part
    cross join lateral generate_series(date_trunc('minute', part.from_time), part.to_time - interval '1 microsecond',
                                       interval '1 minute') minute
    left join aggregated_kline k on k.symbol = part.symbol and k.interval = '1m' and k.open_time = minute
        and k.is_complete and k.source = 'seconds'
        and minute >= part.from_time and minute + interval '1 minute' <= part.to_time
    cross join lateral (
        select count(*) filter (where r.source = 'stream') as stream,
               count(*) filter (where r.source in ('rest', 'archive')) as rest,
               count(*) filter (where r.source = 'trades') as trades
        from kline_1s r
        where k.symbol is null and r.symbol = part.symbol and r.open_time >= greatest(minute, part.from_time)
          and r.open_time < least(minute + interval '1 minute', part.to_time)
    ) counted
    group by part.symbol, part.hour
), missing as (
    select part.symbol, part.hour, count(*) filter (where g.state = 'absent') as absent,
           count(*) filter (where g.state <> 'absent') as open
    from part
    join kline_gap g on g.symbol = part.symbol and g.interval = '1s' and g.state <> 'repaired'
        and g.from_time < part.to_time and g.to_time > part.from_time
    cross join lateral generate_series(greatest(g.from_time, part.from_time),
        least(g.to_time, part.to_time) - interval '1 second', interval '1 second') second
    where not exists (select from kline_1s r where r.symbol = part.symbol and r.open_time = second)
    group by part.symbol, part.hour
)
insert into completeness_hour as c (symbol, hour, expected, stream, rest, trades, absent, open)
select part.symbol, part.hour, ceil(extract(epoch from part.to_time - part.from_time))::integer, stored.stream,
       stored.rest, stored.trades, coalesce(missing.absent, 0), coalesce(missing.open, 0)
from part join stored using (symbol, hour) left join missing using (symbol, hour) order by 1, 2
on conflict (symbol, hour) do update set expected = excluded.expected, stream = excluded.stream,
    rest = excluded.rest, trades = excluded.trades, absent = excluded.absent, open = excluded.open,
    updated_at = clock_timestamp()
    where excluded.stream + excluded.rest + excluded.trades >= c.stream + c.rest + c.trades
"""

#: Share of the expected seconds of the last day that are not missing here; what the exchange itself lacks is not.
RATIOS: Final = """
select c.symbol, (sum(c.expected - c.open)::float8 / nullif(sum(c.expected), 0))::float8
from symbol_watermark w join completeness_hour c on c.symbol = w.symbol and c.hour > w.event_time - interval '1 day'
where w.stream = 'kline_1s' and w.symbol = any(%s) group by c.symbol
"""


@dataclass(frozen=True)
class Recount:
    """How many symbol-hours were counted, and the completeness (0 to 1) of the last day of their symbols. `more`
    means that hours may be left."""

    hours: int
    ratios: dict[str, float]
    more: bool


def recount(connection: Connection[TupleRow], max_hours: int = MAX_HOURS) -> Recount:
    """One transaction of at most `max_hours` dirty hours, newest first. Raises what the driver raises."""
    with connection.transaction():
        hours = connection.execute(TAKE, [max_hours]).fetchall()
        if not hours:
            return Recount(0, {}, False)
        symbols, times = [symbol for symbol, _ in hours], [hour for _, hour in hours]
        connection.execute(COUNT, [symbols, times])
        ratios = _ratios(connection, sorted(set(symbols)))
    return Recount(len(hours), ratios, len(hours) == max_hours)


def mark_running(connection: Connection[TupleRow]) -> None:
    """Mark the running hours whose count is getting old."""
    with connection.transaction():
        connection.execute(MARK_RUNNING)


def mark_uncounted(connection: Connection[TupleRow]) -> None:
    """Mark hours that have rows and were never counted."""
    with connection.transaction():
        connection.execute(MARK_UNCOUNTED)


def _ratios(connection: Connection[TupleRow], symbols: Sequence[str]) -> dict[str, float]:
    rows = connection.execute(RATIOS, [symbols]).fetchall()
    return {symbol: ratio for symbol, ratio in rows if ratio is not None}
