"""The gap ledger of a batch: what market/ledger.py calculates, read from and written to the store."""

from __future__ import annotations

from collections.abc import Sequence

from inserter.account import Found
from inserter.store import Store
from market.feed import FeedOutage, GapCause
from market.interval import SECOND_MS
from market.ledger import Gap, Outage, apply_arrivals, apply_outages, cause_of, causes_by_symbol
from market.stream import Stream

#: How much earlier than a gap an outage that explains it may have ended (slack of the ledger, generously).
EARLIER_MS = 10_000


def symbols_to_lock(found: Found, new_outages: Sequence[FeedOutage]) -> set[str]:
    """Symbols whose gaps the batch may change."""
    return {*found.missing, *found.late, *(outage.symbol for outage in _of_seconds(new_outages))}


async def apply(store: Store, found: Found, new_outages: Sequence[FeedOutage]) -> None:
    """Bring the ledger up to date within the caller's transaction, which holds the ledger's locks. Touches the store
    only when a row was missing or late, or the feed reported an outage."""
    outages: dict[str, list[Outage]] = {}
    if found.missing:
        earliest_ms = min(start for ranges, _ in found.missing.values() for start, _ in ranges)
        outages = dict(causes_by_symbol(await store.outages_of(found.missing.keys(), earliest_ms - EARLIER_MS)))
    for symbol in sorted(found.missing.keys() | found.late.keys()):
        ranges, fallback = found.missing.get(symbol, ([], GapCause.UNKNOWN))
        new_gaps = [
            Gap(symbol, start, end, cause_of(start, end, outages.get(symbol, []), fallback)) for start, end in ranges
        ]
        late = found.late.get(symbol, [])
        times = [*late, *(time for pair in ranges for time in pair)]
        stored = await store.gaps_touching(symbol, min(times), max(times) + SECOND_MS)
        if stored or new_gaps:
            await store.write_ledger(apply_arrivals(stored, new_gaps, late))
    known = _of_seconds(new_outages)
    if known:
        unknown = await store.gaps_of_unknown_cause({outage.symbol for outage in known})
        await store.write_ledger(
            apply_outages(unknown, [Outage(o.symbol, o.from_time_ms, o.to_time_ms, o.cause) for o in known])
        )


def _of_seconds(outages: Sequence[FeedOutage]) -> list[FeedOutage]:
    return [outage for outage in outages if outage.stream == Stream.KLINE_1S]
