"""What proves the candles: the account of every hour, the audit of every minute, revisions, and what was known when."""

from __future__ import annotations

from typing import Any, Final

from market.interval import HOUR_MS, Interval
from market.kline import VALUE_COLUMNS
from webapp.kline_selectors import Page, native_columns
from webapp.selectors import Rows, fetch, ms, to_time

MAX_AUDITED: Final = 2_000
MAX_REVISIONS: Final = 2_000
#: Symbol-hours of one answer: 31 days of some 65 symbols.
MAX_HOURS: Final = 50_000
AUDIT_STATES: Final = ("equal", "different", "not_comparable")

_HOUR_SECONDS: Final = ("expected", "stream", "rest", "trades", "absent", "open")
_COMPLETENESS: Final = f"""
    select symbol, {ms("hour")}, {", ".join(_HOUR_SECONDS)}, {ms("updated_at")}
    from completeness_hour where (%s::text is null or symbol = %s) and hour >= %s and hour < %s order by symbol, hour
    limit {MAX_HOURS + 1}
"""


def completeness(symbol: str | None, from_ms: int, to_ms: int) -> list[dict[str, object]]:
    """Seconds by whole hour that overlaps the range, as counted at `updated_at_ms`. `expected`: those of the hour from
    the symbol's first to its watermark; `rest` includes archive files; `open` includes what cannot be repaired.

    At most MAX_HOURS + 1 rows: so many mean that there are more than MAX_HOURS."""
    span = [symbol, symbol, to_time(from_ms - from_ms % HOUR_MS), to_time(to_ms)]
    names = ("symbol", "hour", *_HOUR_SECONDS, "updated_at_ms")
    return [dict(zip(names, row, strict=True)) for row in fetch(_COMPLETENESS, span)]


_AUDIT_COUNTS: Final = """
    select count(*) filter (where state = 'equal'), count(*) filter (where state = 'different'),
        count(*) filter (where state = 'not_comparable'), count(*) filter (where needs_person)
    from minute_audit where (%s::text is null or symbol = %s) and open_time >= %s and open_time < %s
"""
_AUDIT_NAMES: Final = (
    "symbol", "open_time_ms", "state", "reason", "differences", "tolerances", "compared_with", "revision", "rechecks",
    "needs_person", "audited_at_ms",
)  # fmt: skip
_AUDITED: Final = f"""
    select symbol, {ms("open_time")}, state, reason, differences::text, tolerances, compared_with, revision, rechecks,
        needs_person, {ms("audited_at")}
    from minute_audit where (%s::text is null or symbol = %s) and open_time >= %s and open_time < %s
        and (%s::text is null or state = %s)
    order by open_time desc, symbol limit {MAX_AUDITED}
"""


def audited(
    symbol: str | None, from_ms: int, to_ms: int, state: str | None
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Counts by state of the whole range, and the newest MAX_AUDITED minutes of `state` (None = any), newest first.

    `differences`: JSON text, per column [ours, the exchange's]."""
    span = [symbol, symbol, to_time(from_ms), to_time(to_ms)]
    counts = dict(zip((*AUDIT_STATES, "needs_person"), fetch(_AUDIT_COUNTS, span)[0], strict=True))
    rows = fetch(_AUDITED, [*span, state, state])
    return counts, [dict(zip(_AUDIT_NAMES, row, strict=True)) for row in rows]


REVISION_COLUMNS: Final = (
    "open_time_ms",
    "revision",
    *VALUE_COLUMNS,
    "row_count",
    "expected_count",
    "rest_count",
    "trades_count",
    "is_complete",
    "source",
    "updated_at_ms",
    "replaced_at_ms",
)
_REVISION: Final = ", ".join(
    [
        f"{ms('open_time')}, revision",
        *(name if name == "trade_count" else f"{name}::text" for name in VALUE_COLUMNS),
        f"row_count, expected_count, rest_count, trades_count, is_complete, source, {ms('updated_at')}",
    ]
)


def revisions(symbol: str, interval: Interval, from_ms: int, to_ms: int) -> Rows:
    """Rows of REVISION_COLUMNS: every revision of the candles that were revised, the present one last (its
    `replaced_at_ms` is null); the newest MAX_REVISIONS, oldest first."""
    span = [symbol, interval.value, to_time(from_ms), to_time(to_ms)]
    query = f"""
        select * from (
            select {_REVISION}, {ms("replaced_at")} from candle_revision
            where symbol = %s and interval = %s and open_time >= %s and open_time < %s
            union all
            select {_REVISION}, null from aggregated_kline
            where symbol = %s and interval = %s and open_time >= %s and open_time < %s and revision > 0
            order by 1 desc, 2 desc limit {MAX_REVISIONS}
        ) newest order by 1, 2
    """
    return fetch(query, [*span, *span])


def klines_known_at(symbol: str, interval: Interval, page: Page, known_at_ms: int) -> Rows:
    """Rows of NATIVE_COLUMNS as they stood at that moment: closed candles only, each in the newest revision that had
    been written by then; what was written later is not there.

    Each half of the union is as long as the page at the most, and nothing that begins a day after that moment is read:
    the cost does not grow with the history."""
    where, bounds = page.bounds()
    moment = to_time(known_at_ms)
    values = [symbol, interval.value, moment, moment, *bounds, page.limit]
    direction = "asc" if page.oldest_first else "desc"
    begun = "open_time < %s::timestamptz + interval '1 day'"
    shared = (
        "open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count, "
        "taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, row_count, expected_count, "
        "is_complete, source, revision, event_time, updated_at"
    )
    query = f"""
        select {native_columns(interval)} from (
            select distinct on (open_time) *, close_time + interval '1 millisecond' as covered_until, true as is_closed
            from (
                (select {shared} from aggregated_kline
                 where symbol = %s and interval = %s and updated_at <= %s and {begun} and is_closed{where}
                 order by open_time {direction} limit %s)
                union all
                (select distinct on (open_time) {shared} from candle_revision
                 where symbol = %s and interval = %s and updated_at <= %s and {begun}{where}
                 order by open_time {direction}, revision desc limit %s)
            ) known order by open_time {direction}, revision desc limit %s
        ) page order by open_time
    """
    return fetch(query, [*values, *values, page.limit])
