"""The gap ledger of a batch: what market/ledger.py calculates, read from and written to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inserter.account import Found
from inserter.store import Store
from market.feed import FeedOutage, GapCause
from market.interval import HOUR_MS, SECOND_MS
from market.ledger import (
    BY_FEED,
    BY_LOG,
    BY_OPEN_TIMES,
    Gap,
    LedgerChange,
    Outage,
    apply_arrivals,
    apply_outages,
    cause_of,
    causes_by_symbol,
)
from market.stream import Stream

#: How much earlier than a gap an outage that explains it may have ended (slack of the ledger, generously).
EARLIER_MS = 10_000


def symbols_to_lock(found: Found, new_outages: Sequence[FeedOutage]) -> set[str]:
    """Symbols whose gaps the batch may change."""
    return {*found.missing, *found.late, *(outage.symbol for outage in _of_seconds(new_outages))}


async def apply(store: Store, found: Found, new_outages: Sequence[FeedOutage]) -> set[tuple[str, int]]:
    """Bring the ledger up to date within the caller's transaction, which holds the ledger's locks. Touches the store
    only when a row was missing or late, or the feed reported an outage.

    Returns (symbol, hour) of every gap that changed.
    """
    hours: set[tuple[str, int]] = set()
    outages: dict[str, list[Outage]] = {}
    if found.missing:
        earliest_ms = min(start for ranges, _ in found.missing.values() for start, _ in ranges)
        outages = dict(causes_by_symbol(await store.outages_of(found.missing.keys(), earliest_ms - EARLIER_MS)))
    for symbol in sorted(found.missing.keys() | found.late.keys()):
        ranges, fallback = found.missing.get(symbol, ([], GapCause.UNKNOWN))
        late = found.late.get(symbol, [])
        times = [*late, *(time for pair in ranges for time in pair)]
        stored = await store.gaps_touching(symbol, min(times), max(times) + SECOND_MS)
        explained = outages.get(symbol, [])
        new_gaps = [_new_gap(symbol, pair, explained, fallback, is_unheard=symbol in found.unheard) for pair in ranges]
        new_gaps = [_continued(gap, stored) for gap in new_gaps]
        if stored or new_gaps:
            hours |= await _write(store, apply_arrivals(stored, new_gaps, late))
    known = _of_seconds(new_outages)
    if known:
        unknown = await store.gaps_of_unknown_cause({outage.symbol for outage in known})
        reported = [Outage(o.symbol, o.from_time_ms, o.to_time_ms, o.cause) for o in known]
        hours |= await _write(store, apply_outages(unknown, reported))
    return hours


def _new_gap(
    symbol: str, range_ms: tuple[int, int], outages: Sequence[Outage], fallback: GapCause, *, is_unheard: bool
) -> Gap:
    cause = cause_of(*range_ms, outages, fallback)
    if fallback is not GapCause.UNKNOWN and cause is fallback:
        detector = BY_LOG
    else:
        detector = BY_FEED if is_unheard or cause is not GapCause.UNKNOWN else BY_OPEN_TIMES
    return Gap(symbol, *range_ms, cause, detector=detector)


def _continued(gap: Gap, stored: Sequence[Gap]) -> Gap:
    """A hole that goes on where the one before ends, no row between, has the cause that it began with."""
    for before in stored:
        is_one_hole = before.to_ms == gap.from_ms and before.resolved_by != "stream"
        if is_one_hole and before.cause is not GapCause.UNKNOWN and gap.detector != BY_LOG:
            return replace(gap, cause=before.cause, detector=before.detector)
    return gap


async def _write(store: Store, change: LedgerChange) -> set[tuple[str, int]]:
    if change.written or change.deleted_ids:
        await store.write_ledger(change)
    return {
        (gap.symbol, hour_ms)
        for gap in change.written
        for hour_ms in range(gap.from_ms - gap.from_ms % HOUR_MS, gap.to_ms, HOUR_MS)
    }


def _of_seconds(outages: Sequence[FeedOutage]) -> list[FeedOutage]:
    return [outage for outage in outages if outage.stream == Stream.KLINE_1S]
