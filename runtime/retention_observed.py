"""The worst that readers and rooms have been through, from the week of samples in operator_sample.

A week is more than a million rows, so it is read day by day; a day that is over is asked for once.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Final, NamedTuple

from market.interval import DAY_MS
from runtime.database import Connection, TupleRow
from runtime.retention_advice import DECLARED_OUTAGE_S, DECLARED_RESTART_S, Observed

DAYS: Final = 7
#: A quiet hour proves nothing: until there is a day of samples the declared values count where they are worse.
ENOUGH_MS: Final = DAY_MS

#: Samples that say not ready and lie a minute or less apart are one stretch.
DAY: Final = """
with sample as not materialized (
    select sampled_at, subject, figures from operator_sample
    where sampled_at >= timestamptz 'epoch' + %(from_ms)s::bigint * interval '1 millisecond'
      and sampled_at < timestamptz 'epoch' + (%(from_ms)s::bigint + 86400000) * interval '1 millisecond'
), unready as (
    select subject, sampled_at,
           sampled_at - lag(sampled_at) over (partition by subject order by sampled_at) > interval '1 minute' as is_new
    from sample where subject like 'room:%%' and figures ->> 'ready' = 'false'
), stretch as (
    select subject, sampled_at, count(*) filter (where is_new) over (partition by subject order by sampled_at) as number
    from unready
), away as (
    select extract(epoch from max(sampled_at) - min(sampled_at))::float8 as seconds
    from stretch group by subject, number
)
select (extract(epoch from min(sampled_at)) * 1000)::bigint, (extract(epoch from max(sampled_at)) * 1000)::bigint,
       max((figures ->> 'lag_seconds')::float8), (select max(seconds) from away)
from sample where subject like 'reader:%%'
"""


class Day(NamedTuple):
    """One day: its first and last sample, the worst lag of a reader, the longest time that a room was not ready at a
    stretch; None = nothing of the kind."""

    first_ms: int | None
    last_ms: int | None
    lag_s: float | None
    away_s: float | None


def worst(connection: Connection[TupleRow], now_ms: int, known: MutableMapping[int, Day]) -> Observed:
    """From the last week; `known` keeps the days that are over between calls. Raises DatabaseError."""
    today_ms = now_ms - now_ms % DAY_MS
    wanted = [today_ms - back * DAY_MS for back in range(DAYS)]
    for day_ms in [day_ms for day_ms in known if day_ms not in wanted]:
        del known[day_ms]
    days = []
    for day_ms in wanted:
        day = known.get(day_ms) or _read(connection, day_ms)
        days.append(day)
        if day_ms < today_ms:
            known[day_ms] = day
    return observed(days)


def _read(connection: Connection[TupleRow], day_ms: int) -> Day:
    row = connection.execute(DAY, {"from_ms": day_ms}).fetchone()
    connection.commit()
    return Day(*row) if row else Day(None, None, None, None)


def observed(days: Iterable[Day]) -> Observed:
    """The worst of the days, or the declared values where there is too little history."""
    seen = [day for day in days if day.first_ms is not None and day.last_ms is not None]
    lag_s = max((day.lag_s for day in seen if day.lag_s is not None), default=None)
    away_s = max((day.away_s for day in seen if day.away_s is not None), default=0.0)
    restart_s = max(DECLARED_RESTART_S, away_s)
    if lag_s is None:
        return Observed(restart_s=restart_s)
    history_ms = max(day.last_ms or 0 for day in seen) - min(day.first_ms or 0 for day in seen)
    if history_ms < ENOUGH_MS and lag_s < DECLARED_OUTAGE_S:
        return Observed(restart_s=restart_s)
    return Observed(lag_s, restart_s, "measured")
