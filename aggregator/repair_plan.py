"""Which seconds to ask the exchange for next: pure choice. Times are ms UTC, ends exclusive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from market.interval import SECOND_MS
from runtime.exchange_rest import MAX_KLINE_ROWS

#: One row more on each side shows whether a hole lies between rows that the exchange has.
CALL_SECONDS: Final = MAX_KLINE_ROWS - 2


@dataclass(frozen=True)
class DueGap:
    """An unresolved gap whose time for a (further) try has come."""

    gap_id: int
    symbol: str
    from_ms: int
    to_ms: int
    state: str
    attempts: int


@dataclass(frozen=True)
class Call:
    """One question to the exchange: `wanted_ms` are the missing seconds within [from, to)."""

    symbol: str
    from_ms: int
    to_ms: int
    gaps: tuple[DueGap, ...]

    @property
    def wanted_ms(self) -> list[int]:
        """The missing seconds, oldest first."""
        return [
            second_ms
            for gap in self.gaps
            for second_ms in range(max(gap.from_ms, self.from_ms), min(gap.to_ms, self.to_ms), SECOND_MS)
        ]


def next_call(due: Sequence[DueGap]) -> Call | None:
    """The newest part of the newest gap, with other gaps of the symbol that the same call covers.

    A gap that has failed before goes alone, so that a bad neighbour cannot hold up the others.
    """
    if not due:
        return None
    newest = max(due, key=lambda gap: (gap.to_ms, gap.symbol))
    start_ms = newest.to_ms - CALL_SECONDS * SECOND_MS
    near = [
        gap
        for gap in due
        if gap.symbol == newest.symbol and gap.to_ms > start_ms and gap.attempts == 0 and gap.state == newest.state
    ]
    gaps = sorted(near if newest.attempts == 0 else [newest], key=lambda gap: gap.from_ms)
    return Call(newest.symbol, max(start_ms, gaps[0].from_ms), newest.to_ms, tuple(gaps))
