"""The worst that readers and rooms have been through, from the week of samples in operator_sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runtime.retention_advice import DECLARED_OUTAGE_S, DECLARED_RESTART_S, Observed

#: A quiet hour proves nothing: until there is a day of samples the declared values count where they are worse.
ENOUGH_S: Final = 86_400.0

#: One row: seconds of history, worst lag of a reader, longest time that a room was not ready at a stretch. Samples that
#: say so and lie a minute or less apart are one stretch.
WORST: Final = """
with reader as (
    select extract(epoch from max(sampled_at) - min(sampled_at))::float8 as history_s,
           max((figures ->> 'lag_seconds')::float8) as lag_s
    from operator_sample where subject like 'reader:%' and sampled_at > now() - interval '7 days'
), unready as (
    select subject, sampled_at,
           sampled_at - lag(sampled_at) over (partition by subject order by sampled_at) > interval '1 minute' as is_new
    from operator_sample
    where subject like 'room:%' and figures ->> 'ready' = 'false' and sampled_at > now() - interval '7 days'
), stretch as (
    select subject, sampled_at, count(*) filter (where is_new) over (partition by subject order by sampled_at) as number
    from unready
), away as (
    select extract(epoch from max(sampled_at) - min(sampled_at))::float8 as seconds
    from stretch group by subject, number
)
select history_s, lag_s, (select max(seconds) from away) from reader
"""


def observed(row: Sequence[Any] | None) -> Observed:
    """The row of WORST, or the declared values where there is no history yet."""
    history_s, lag_s, away_s = row or (None, None, None)
    if history_s is None or lag_s is None:
        return Observed()
    if history_s < ENOUGH_S and lag_s < DECLARED_OUTAGE_S:
        return Observed(restart_s=max(DECLARED_RESTART_S, away_s or 0.0))
    return Observed(lag_s, max(DECLARED_RESTART_S, away_s or 0.0), "measured")
