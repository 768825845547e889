"""What rows that were asked for over REST must be before they count as seconds (binance.md 0.5 to 0.9, 7).

Pure. An answer is taken or refused as a whole: one row that cannot be makes the others doubtful too.
Times are ms UTC; ranges have exclusive ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from market.errors import BadFrame
from market.interval import SECOND_MS
from market.kline import Kline, require_sane_kline

#: The answer's last row may have begun while the exchange's clock was being asked.
CLOCK_SLACK_MS: Final = 2_000


@dataclass(frozen=True)
class Neighbour:
    """The nearest second with trades and known ids on one side of a run; its last id before the run, its first id
    after it."""

    open_time_ms: int
    trade_id: int


def closed_rows(klines: Sequence[Kline], from_ms: int, to_ms: int, exchange_now_ms: int) -> list[Kline]:
    """The closed 1 s rows of an answer to "[from, to)"; the row still forming is dropped.

    Raises BadFrame with the first thing wrong: off the grid, no sane kline, outside of what was asked, out of order,
    a double, from the future.
    """
    last_ms = -1
    for kline in klines:
        require_sane_kline(kline)
        open_ms = kline.open_time_ms
        if open_ms > exchange_now_ms + CLOCK_SLACK_MS:
            raise BadFrame(f"row {open_ms} is from the future (the exchange's clock: {exchange_now_ms})")
        if not from_ms <= open_ms < to_ms:
            raise BadFrame(f"row {open_ms} lies outside of what was asked: {from_ms} to {to_ms}")
        if open_ms == last_ms:
            raise BadFrame(f"row {open_ms} comes twice")
        if open_ms < last_ms:
            raise BadFrame(f"row {open_ms} is out of order, after {last_ms}")
        last_ms = open_ms
    return [kline for kline in klines if kline.close_time_ms < exchange_now_ms]


class BrokenChain(BadFrame):
    """The trades of stored seconds are not those that the ids around them say; `before` and `after` are the seconds
    with the ids."""

    def __init__(self, message: str, before: Neighbour, after: Neighbour) -> None:
        super().__init__(message)
        self.before, self.after = before, after


def require_chain(trade_count: int, before: Neighbour, after: Neighbour) -> None:
    """Raise BrokenChain unless the seconds between two neighbours, none missing, hold exactly the trades between them.

    Trade ids have no holes (binance.md 0.7), so the ids on both sides say how many trades there were.
    """
    expected = after.trade_id - before.trade_id - 1
    if trade_count != expected:
        raise BrokenChain(
            f"trade chain: {trade_count} trades in the rows, {expected} by the ids of the neighbours "
            f"{before.open_time_ms} ({before.trade_id}) and {after.open_time_ms} ({after.trade_id})",
            before,
            after,
        )


@dataclass(frozen=True)
class Missing:
    """Seconds that were asked for and did not come: `absent` the exchange does not have, `later` it may have yet."""

    absent: list[int]
    later: list[int]


def missing_seconds(
    wanted_ms: Collection[int], klines: Sequence[Kline], exchange_now_ms: int, *, settled_ms: int, absent_ms: int
) -> Missing:
    """What is to be thought of the wanted seconds that are not among the rows.

    The exchange answers from a database that lags (binance.md 0.9): a second is absent when it is older than
    `settled_ms` and lies between rows of the answer, or older than `absent_ms` whatever is around it.
    """
    have = {kline.open_time_ms for kline in klines}
    first, last = (min(have), max(have)) if have else (0, 0)
    missing = Missing([], [])
    for second_ms in sorted(wanted_ms):
        if second_ms in have:
            continue
        age_ms = exchange_now_ms - second_ms - SECOND_MS
        is_inside = first < second_ms < last and age_ms >= settled_ms
        (missing.absent if is_inside or age_ms >= absent_ms else missing.later).append(second_ms)
    return missing
