"""The gap ledger as pure calculation: which seconds are accounted for, which are missing and why.

Invariant: from a symbol's first second to its watermark (exclusive) every second is either a row or inside
exactly one unresolved gap, never both; gaps of a symbol never overlap. Times are ms UTC, ends exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from market.feed import GapCause
from market.interval import SECOND_MS

#: An outage and the seconds it cost need not meet to the millisecond: the feed notices late, the kline ends later.
OUTAGE_SLACK_MS: Final = 2_000
OPEN: Final = "open"
#: Who notices a gap: a row that is not the next second, the state of the log, what the producer reports.
BY_OPEN_TIMES: Final = "open_times"
BY_LOG: Final = "log"
BY_FEED: Final = "feed"
REPAIRED: Final = "repaired"
#: States in which a row that arrives after all takes its second out of the gap.
UNRESOLVED: Final = frozenset((OPEN, "absent", "unrepairable"))


@dataclass(frozen=True)
class Gap:
    """One row of `kline_gap`; `gap_id` None when it is not stored yet."""

    symbol: str
    from_ms: int
    to_ms: int
    cause: GapCause
    state: str = OPEN
    resolved_by: str | None = None
    gap_id: int | None = None
    #: when the hole was noticed; None = in this transaction
    detected_at_ms: int | None = None
    #: who noticed it (first): column `detector`
    detector: str = BY_OPEN_TIMES


@dataclass(frozen=True)
class Outage:
    """One row of `feed_outage` of the 1 s klines; `to_ms` None while it lasts."""

    symbol: str
    from_ms: int
    to_ms: int | None
    cause: GapCause

    def meets(self, from_ms: int, to_ms: int) -> bool:
        """True when it can have cost seconds in the range."""
        ends_before = self.to_ms is not None and self.to_ms + OUTAGE_SLACK_MS <= from_ms
        return not ends_before and self.from_ms - OUTAGE_SLACK_MS < to_ms


@dataclass
class Arrivals:
    """What a batch means for one symbol: seconds missing before a row, and rows below the watermark."""

    missing: list[tuple[int, int]] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    watermark_ms: int = 0


def account(watermark_ms: int | None, open_times_ms: Sequence[int]) -> Arrivals:
    """Account for rows of one symbol, `open_times_ms` sorted and without doubles.

    `watermark_ms` None: the symbol's first rows, nothing before them is missing.
    """
    first, last = open_times_ms[0], open_times_ms[-1]
    expected = first if watermark_ms is None else watermark_ms
    arrivals = Arrivals(watermark_ms=expected)
    if first == expected and last - first == (len(open_times_ms) - 1) * SECOND_MS:
        arrivals.watermark_ms = last + SECOND_MS
        return arrivals
    for open_time_ms in open_times_ms:
        if open_time_ms < expected:
            arrivals.late.append(open_time_ms)
            continue
        if open_time_ms > expected:
            arrivals.missing.append((expected, open_time_ms))
        expected = open_time_ms + SECOND_MS
    arrivals.watermark_ms = expected
    return arrivals


def cause_of(from_ms: int, to_ms: int, outages: Iterable[Outage], fallback: GapCause = GapCause.UNKNOWN) -> GapCause:
    """Why the range is missing. `fallback` is what the reader of the log knows: an expired log outranks the feed
    (the seconds were there), a jump of offsets does not."""
    if fallback is GapCause.LOG_EXPIRED:
        return fallback
    meeting = [outage for outage in outages if outage.meets(from_ms, to_ms)]
    # What began the hole, not what went on while it lasted: a producer that starts before its exchange reports a
    # disconnect too, after hours of downtime.
    return min(meeting, key=lambda outage: abs(outage.from_ms - from_ms)).cause if meeting else fallback


@dataclass(frozen=True)
class LedgerChange:
    """What has to be written: gaps with an id are updated, without one inserted; `deleted_ids` were merged away."""

    written: tuple[Gap, ...] = ()
    deleted_ids: tuple[int, ...] = ()


def apply_arrivals(
    stored: Sequence[Gap],
    new_gaps: Sequence[Gap],
    late_ms: Sequence[int],
    resolved_by: str | None = "stream",
    state: str = REPAIRED,
) -> LedgerChange:
    """The ledger of one symbol after new gaps were found and late rows have come (or after the late seconds were
    found to be of another `state`: absent, unrepairable, open again).

    `stored` must hold every gap that touches or adjoins the new gaps and the late rows. Late seconds shrink or
    split the unresolved gaps they fall into; each filled part stays as a repaired gap. Parts with the same cause
    and state that touch become one. Late rows outside any gap change nothing.
    """
    parts = sorted([*stored, *new_gaps], key=lambda gap: gap.from_ms)
    for from_ms, to_ms in runs(late_ms):
        parts = [piece for gap in parts for piece in _cut(gap, from_ms, to_ms, resolved_by, state)]
    merged = _merge(parts)
    known = {gap.gap_id: gap for gap in stored}
    kept_ids: set[int] = set()
    written = []
    for gap in merged:
        if gap.gap_id is not None and gap.gap_id in kept_ids:
            written.append(replace(gap, gap_id=None))
            continue
        if gap.gap_id is not None:
            kept_ids.add(gap.gap_id)
        if gap.gap_id is None or known[gap.gap_id] != gap:
            written.append(gap)
    deleted = tuple(gap_id for gap_id in known if gap_id is not None and gap_id not in kept_ids)
    return LedgerChange(tuple(written), deleted)


def apply_outages(stored: Iterable[Gap], outages: Sequence[Outage]) -> LedgerChange:
    """Open gaps of unknown cause that an outage explains get its cause."""
    written = []
    by_symbol = causes_by_symbol(outages)
    for gap in stored:
        if gap.state == OPEN and gap.cause is GapCause.UNKNOWN:
            cause = cause_of(gap.from_ms, gap.to_ms, by_symbol.get(gap.symbol, ()))
            if cause is not GapCause.UNKNOWN:
                written.append(replace(gap, cause=cause))
    return LedgerChange(tuple(written))


def runs(times_ms: Iterable[int]) -> list[tuple[int, int]]:
    """Single seconds as ranges of touching ones, ends exclusive."""
    found: list[tuple[int, int]] = []
    for time_ms in sorted(set(times_ms)):
        if found and found[-1][1] == time_ms:
            found[-1] = (found[-1][0], time_ms + SECOND_MS)
        else:
            found.append((time_ms, time_ms + SECOND_MS))
    return found


def _cut(gap: Gap, from_ms: int, to_ms: int, resolved_by: str | None, state: str) -> list[Gap]:
    """The gap with [from, to) taken out: what is left on both sides, and the part that is now settled."""
    start, end = max(gap.from_ms, from_ms), min(gap.to_ms, to_ms)
    if gap.state not in UNRESOLVED or start >= end:
        return [gap]
    filled = replace(gap, from_ms=start, to_ms=end, state=state, resolved_by=resolved_by)
    left = [replace(gap, to_ms=start)] if gap.from_ms < start else []
    right = [replace(gap, from_ms=end)] if end < gap.to_ms else []
    # The row keeps the id of the part that is still missing, so that links to an open gap stay good.
    if left or right:
        filled = replace(filled, gap_id=None)
    if left and right:
        right = [replace(right[0], gap_id=None)]
    return [*left, filled, *right]


def _merge(parts: Iterable[Gap]) -> list[Gap]:
    """Touching parts of one cause, state and resolver become one; the oldest id and detection stay."""
    merged: list[Gap] = []
    for gap in sorted(parts, key=lambda part: part.from_ms):
        last = merged[-1] if merged else None
        if last is not None and last.to_ms == gap.from_ms and _kind(last) == _kind(gap):
            merged[-1] = replace(
                last,
                to_ms=gap.to_ms,
                gap_id=last.gap_id if last.gap_id is not None else gap.gap_id,
                detected_at_ms=_earliest(last.detected_at_ms, gap.detected_at_ms),
            )
        else:
            merged.append(gap)
    return merged


def _kind(gap: Gap) -> tuple[GapCause, str, str | None]:
    return gap.cause, gap.state, gap.resolved_by


def _earliest(left: int | None, right: int | None) -> int | None:
    return min((value for value in (left, right) if value is not None), default=None)


def causes_by_symbol(outages: Iterable[Outage]) -> Mapping[str, list[Outage]]:
    """The outages of each symbol, in their order."""
    by_symbol: dict[str, list[Outage]] = {}
    for outage in outages:
        by_symbol.setdefault(outage.symbol, []).append(outage)
    return by_symbol
