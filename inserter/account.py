"""What the rows of a batch mean: gaps, late rows, dirty minutes, watermarks, broken trade chains. Pure."""

from __future__ import annotations

from collections.abc import Iterable
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
    late: dict[str, list[int]] = field(default_factory=dict)
    dirty: dict[str, set[int]] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    #: symbol -> newest second with trades: its last trade id and its open time
    chains: dict[str, tuple[int, int]] = field(default_factory=dict)


def account_symbol(
    found: Found, symbol: str, rows: dict[int, Row], watermark_ms: int | None, marked_minute_ms: int
) -> bool:
    """Account for the rows of one symbol; true when seconds are missing before one of them.

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
    return bool(arrivals.missing)


def follow_trades(
    chain: tuple[int, int] | None, klines: Iterable[WireKline]
) -> tuple[tuple[int, int] | None, list[Suspect]]:
    """The newest (last trade id, open time) after these consecutive seconds, and where ids do not join.

    Seconds without trades carry the chain on.
    """
    suspects = []
    for kline in klines:
        if kline.first_trade_id < 0:
            continue
        if chain is not None and kline.first_trade_id != chain[0] + 1:
            suspects.append(Suspect(kline.symbol, chain[1], kline.open_time_ms + SECOND_MS))
        chain = (kline.last_trade_id, kline.open_time_ms)
    return chain, suspects
