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
    outages: dict[str, list[Outage]] = {}
    if found.missing:
        earliest_ms = min(start for ranges, _ in found.missing.values() for start, _ in ranges)
        outages = dict(causes_by_symbol(await store.outages_of(found.missing.keys(), earliest_ms - EARLIER_MS)))
    changes: list[LedgerChange] = []
    spans_ms = {symbol: _span_ms(found, symbol) for symbol in sorted(found.missing.keys() | found.late.keys())}
    stored_of: dict[str, list[Gap]] = {symbol: [] for symbol in spans_ms}
    if spans_ms:
        for gap in await store.gaps_touching(spans_ms):
            stored_of[gap.symbol].append(gap)
    for symbol, stored in stored_of.items():
        ranges, fallback = found.missing.get(symbol, ([], GapCause.UNKNOWN))
        explained = outages.get(symbol, [])
        new_gaps = [
            _continued(_new_gap(symbol, pair, explained, cause, is_unheard=symbol in found.unheard), stored)
            for pair, cause in zip(ranges, _fallbacks(fallback, len(ranges)), strict=True)
        ]
        if stored or new_gaps:
            changes.append(apply_arrivals(stored, new_gaps, found.late.get(symbol, [])))
    hours = await _write(store, changes)
    known = _of_seconds(new_outages)
    if known:
        unknown = await store.gaps_of_unknown_cause({outage.symbol for outage in known})
        reported = [Outage(o.symbol, o.from_time_ms, o.to_time_ms, o.cause) for o in known]
        hours |= await _write(store, [apply_outages(unknown, reported)])
    return hours


def _fallbacks(cause: GapCause, count: int) -> list[GapCause]:
    """Of each hole of a batch: what had expired lies before the first row, what is missing after it does not."""
    later = GapCause.UNKNOWN if cause is GapCause.LOG_EXPIRED else cause
    return [cause, *[later] * (count - 1)][:count]


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


async def _write(store: Store, changes: Sequence[LedgerChange]) -> set[tuple[str, int]]:
    """All changes at once; the (symbol, hour) pairs that they concern."""
    written = tuple(gap for change in changes for gap in change.written)
    deleted_ids = tuple(gap_id for change in changes for gap_id in change.deleted_ids)
    if written or deleted_ids:
        await store.write_ledger(LedgerChange(written, deleted_ids))
    return {
        (gap.symbol, hour_ms)
        for gap in written
        for hour_ms in range(gap.from_ms - gap.from_ms % HOUR_MS, gap.to_ms, HOUR_MS)
    }


def _span_ms(found: Found, symbol: str) -> tuple[int, int]:
    """What the batch changes of the symbol's ledger lies in it."""
    ranges, _ = found.missing.get(symbol, ([], GapCause.UNKNOWN))
    times = [*found.late.get(symbol, ()), *(time for pair in ranges for time in pair)]
    return min(times), max(times) + SECOND_MS


def _of_seconds(outages: Sequence[FeedOutage]) -> list[FeedOutage]:
    return [outage for outage in outages if outage.stream == Stream.KLINE_1S]
