"""What the rows of a batch mean: gaps, late rows, dirty minutes, watermarks, broken trade chains. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from inserter.batch import Row, WireKline
from inserter.store import Suspect
from market.feed import GapCause
from market.interval import MINUTE_MS, SECOND_MS
from market.ledger import account


@dataclass
class Found:
    """What the rows of a batch mean for ledger, watermarks and roll-up; all times ms, ends exclusive."""

    #: symbol -> ranges missing before new rows, and what the log's reader knows of the cause
    missing: dict[str, tuple[list[tuple[int, int]], GapCause]] = field(default_factory=dict)
    #: symbols of `missing` without a row after the hole: not the row told of it but feed or log
    unheard: set[str] = field(default_factory=set)
    late: dict[str, list[int]] = field(default_factory=dict)
    dirty: dict[str, set[int]] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    #: symbol -> newest second with trades: its last trade id and its open time; None after a hole
    chains: dict[str, tuple[int, int] | None] = field(default_factory=dict)


def account_symbol(
    found: Found, symbol: str, rows: dict[int, Row], watermark_ms: int | None, marked_minute_ms: int
) -> list[WireKline]:
    """Account for the rows of one symbol; returns those at or past the watermark, in order.

    `marked_minute_ms`: the minute that is marked dirty already and not rolled up before the watermark passes it.
    """
    times = sorted(rows)
    arrivals = account(watermark_ms, times)
    if arrivals.missing:
        found.missing[symbol] = (arrivals.missing, GapCause.UNKNOWN)
    if arrivals.late:
        found.late[symbol] = arrivals.late
    if arrivals.watermark_ms != watermark_ms:
        found.watermarks[symbol] = arrivals.watermark_ms
    if arrivals.late or arrivals.missing:
        minutes = {time_ms - time_ms % MINUTE_MS for time_ms in times}
    else:
        minutes = set(range(times[0] - times[0] % MINUTE_MS, times[-1] + 1, MINUTE_MS))
    late_minutes = {time_ms - time_ms % MINUTE_MS for time_ms in arrivals.late}
    found.dirty[symbol] = late_minutes | (minutes - {marked_minute_ms})
    return [rows[time_ms].kline for time_ms in times[len(arrivals.late) :]]


def account_unheard(found: Found, symbol: str, watermark_ms: int, until_ms: int) -> bool:
    """Seconds of a symbol that is out, from its watermark on; true when there are any.

    The minute in which they end is marked: the next rows fall into it and it must not count as marked by a row.
    """
    if until_ms <= watermark_ms:
        return False
    ranges, cause = found.missing.get(symbol, ([], GapCause.UNKNOWN))
    found.missing[symbol] = ([*ranges, (watermark_ms, until_ms)], cause)
    found.unheard.add(symbol)
    found.watermarks[symbol] = until_ms
    found.chains[symbol] = None
    last_ms = until_ms - SECOND_MS
    found.dirty.setdefault(symbol, set()).add(last_ms - last_ms % MINUTE_MS)
    return True


def follow_trades(
    chain: tuple[int, int] | None, klines: Iterable[WireKline], hole_ends_ms: Collection[int]
) -> tuple[tuple[int, int] | None, list[Suspect]]:
    """The newest (last trade id, open time) after these seconds, and where ids do not join.

    Consecutive seconds chain by trade id. Seconds without trades carry the chain on; a missing second cuts it
    (`hole_ends_ms`: open times of the rows after holes), and so does one whose ids are unknown.
    """
    suspects = []
    for kline in klines:
        if hole_ends_ms and kline.open_time_ms in hole_ends_ms:
            chain = None
        first_id = kline.first_trade_id
        if first_id < 0:
            if kline.trade_count:
                chain = None
            continue
        if chain is not None and first_id != chain[0] + 1:
            suspects.append(Suspect(kline.symbol, chain[1], kline.open_time_ms + SECOND_MS))
        chain = (kline.last_trade_id, kline.open_time_ms)
    return chain, suspects
