"""What is stored, what is missing and why: gaps, minutes, checkpoints."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Q

from market.interval import Interval
from webapp.models import FeedOutage, KlineCheckpoint, KlineGap
from webapp.selectors import EPOCH, fetch, ms, to_time

MAX_GAPS: Final = 5_000
MINUTE_COLUMNS: Final = (
    "open_time_ms",
    "state",
    "row_count",
    "expected_count",
    "source",
    "revision",
    "rest_count",
    "trades_count",
)


def _since_ms(moment: Any) -> int | None:
    return None if moment is None else (moment - EPOCH) // (to_time(1) - EPOCH)


def gaps(symbol: str | None, from_ms: int, to_ms: int) -> tuple[list[dict[str, Any]], bool]:
    """Gap rows that overlap the range, oldest first, at most MAX_GAPS; and whether there are more."""
    found = KlineGap.objects.filter(from_time__lt=to_time(to_ms), to_time__gt=to_time(from_ms))
    if symbol is not None:
        found = found.filter(symbol=symbol)
    rows = [_gap_row(gap) for gap in found.order_by("from_time", "id")[: MAX_GAPS + 1]]
    return rows[:MAX_GAPS], len(rows) > MAX_GAPS


def newest_open_gaps(limit: int) -> list[dict[str, object]]:
    """Gap rows that wait for their repair, the newest first."""
    return [_gap_row(gap) for gap in KlineGap.objects.filter(state="open").order_by("-detected_at", "-id")[:limit]]


def _gap_row(gap: KlineGap) -> dict[str, Any]:
    return {
        "id": gap.id,
        "symbol": gap.symbol,
        "interval": gap.interval,
        "from_time_ms": _since_ms(gap.from_time),
        "to_time_ms": _since_ms(gap.to_time),
        "cause": gap.cause,
        "state": gap.state,
        "detected_at_ms": _since_ms(gap.detected_at),
        "resolved_at_ms": _since_ms(gap.resolved_at),
        "resolved_by": gap.resolved_by,
        "detector": gap.detector,
        "attempts": gap.attempts,
        "next_attempt_at_ms": _since_ms(gap.next_attempt_at),
        "last_error": gap.last_error,
    }


def minutes(
    symbol: str, interval: Interval, from_ms: int, to_ms: int
) -> tuple[list[list[object]], list[dict[str, Any]]]:
    """Rows of MINUTE_COLUMNS for the bars that are stored or known to be missing, and the gaps of the range.

    state: `complete`; `repaired` (complete in spite of a gap in it, or revised with seconds fetched later); `gap`
    (seconds missing); `forming` (not over yet). `source` tells a bar that came from the exchange's history (rest)
    from one of our own seconds; of those `rest_count` and `trades_count` came from REST or single trades.
    """
    query = f"""
        select {ms("open_time")}, is_complete, is_closed, row_count, expected_count, source, revision, rest_count,
            trades_count
        from aggregated_kline where symbol = %s and interval = %s and open_time >= %s and open_time < %s
        order by open_time
    """
    stored = fetch(query, [symbol, interval.value, to_time(interval.floor(from_ms)), to_time(to_ms)])
    found, _ = gaps(symbol, from_ms, to_ms)
    touched: dict[int, set[str]] = {}
    for gap in found:
        first_ms = interval.floor(max(gap["from_time_ms"], from_ms))
        for open_ms in range(first_ms, min(gap["to_time_ms"], to_ms), interval.length_ms):
            touched.setdefault(open_ms, set()).add(gap["state"])
    rows = {row[0]: _minute(row, touched.get(row[0], set())) for row in stored}
    for open_ms, states in touched.items():
        if open_ms not in rows and states != {"repaired"}:
            rows[open_ms] = [open_ms, "gap", 0, interval.seconds, None, 0, 0, 0]
    return [rows[open_ms] for open_ms in sorted(rows)], found


def _minute(row: tuple[Any, ...], states: set[str]) -> list[object]:
    open_ms, is_complete, is_closed, row_count, expected_count, source, revision, rest_count, trades_count = row
    if is_complete:
        state = "repaired" if states or (revision and rest_count + trades_count) else "complete"
    else:
        state = "gap" if is_closed or states - {"repaired"} else "forming"
    return [open_ms, state, row_count, expected_count, source, revision, rest_count, trades_count]


_COMPLETE_SINCE: Final = f"""
    select {ms("greatest(known.first_time, unsettled.to_time)")}
    from (select min(open_time) as first_time from kline_1s where symbol = %s) known
    cross join (
        select max(to_time) as to_time from kline_gap
        where symbol = %s and interval = '1s' and state in ('open', 'unrepairable')
    ) unsettled
"""


def complete_since_ms(symbol: str) -> int | None:
    """The moment since which no second of the symbol is missing here: the end of its newest gap that is neither
    repaired nor absent at the exchange, else its first second that is kept. None before the first row."""
    since: int | None = fetch(_COMPLETE_SINCE, [symbol] * 2)[0][0]
    return since


def newest_ms(symbol: str | None) -> int | None:
    """The newest watermark: the end of a range that does not name one. None before the first."""
    query = f"select {ms('max(event_time)')} from symbol_watermark where (%s::text is null or symbol = %s)"
    newest: int | None = fetch(query, [symbol, symbol])[0][0]
    return newest


def checkpoints() -> list[dict[str, Any]]:
    """How far each partition and each symbol is."""
    return [
        {
            "topic": row.topic,
            "topic_id": str(row.topic_id),
            "partition": row.partition,
            "next_offset": row.next_offset,
            "epoch": row.epoch,
            "updated_at_ms": _since_ms(row.updated_at),
        }
        for row in KlineCheckpoint.objects.order_by("topic", "partition")
    ]


def watermarks() -> list[dict[str, object]]:
    """How far each symbol is in event time."""
    query = f"select symbol, stream, {ms('event_time')}, {ms('updated_at')} from symbol_watermark order by 1, 2"
    names = ("symbol", "stream", "event_time_ms", "updated_at_ms")
    return [dict(zip(names, row, strict=True)) for row in fetch(query)]


def feed_state() -> dict[str, Any]:
    """What the verdict needs: seconds since the newest watermark moved (None = never), outages that last,
    gaps of the last ten minutes by cause."""
    age = fetch("select extract(epoch from now() - max(updated_at))::float8 from symbol_watermark")[0][0]
    outages = FeedOutage.objects.filter(Q(to_time__isnull=True)).order_by("from_time")[:100]
    recent = fetch(
        "select cause, count(*) from kline_gap where state = 'open' and detected_at > now() - interval '10 minutes' "
        "group by cause order by cause"
    )
    return {
        "seconds_since_progress": age,
        "outages": [f"{outage.symbol} {outage.stream}: {outage.cause}" for outage in outages],
        "recent_gaps": dict(recent),
    }
