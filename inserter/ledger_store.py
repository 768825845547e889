"""The gap ledger in the database: what market/ledger.py calculates, read and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inserter import sql
from market.depth import MiniTicker
from market.feed import FeedOutage, GapCause
from market.interval import SECOND_MS
from market.ledger import Gap, LedgerChange, Outage, apply_arrivals, apply_outages, cause_of, causes_by_symbol
from market.stream import Stream
from runtime.database import AsyncConnection, TupleRow


@dataclass
class Found:
    """What the rows of a batch mean for ledger, watermarks and roll-up; all times ms, ends exclusive."""

    #: symbol -> ranges missing before new rows, and what the log's reader knows of the cause
    missing: dict[str, tuple[list[tuple[int, int]], GapCause]] = field(default_factory=dict)
    late: dict[str, list[int]] = field(default_factory=dict)
    dirty: dict[str, set[int]] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)


async def apply(connection: AsyncConnection[TupleRow], found: Found, new_outages: Sequence[FeedOutage]) -> None:
    """Bring the ledger up to date within the caller's transaction. Touches the database only when a row was
    missing or late, or the feed reported an outage."""
    outages = await _outages_of(connection, found)
    for symbol in sorted(found.missing.keys() | found.late.keys()):
        ranges, fallback = found.missing.get(symbol, ([], GapCause.UNKNOWN))
        new_gaps = [
            Gap(symbol, start, end, cause_of(start, end, outages.get(symbol, []), fallback)) for start, end in ranges
        ]
        late = found.late.get(symbol, [])
        times = [*late, *(time for pair in ranges for time in pair)]
        stored = await _gaps(connection, sql.GAPS_TOUCHING, [symbol, max(times) + SECOND_MS, min(times)])
        if stored or new_gaps:
            await _write(connection, apply_arrivals(stored, new_gaps, late))
    known = [
        Outage(o.symbol, o.from_time_ms, o.to_time_ms, o.cause) for o in new_outages if o.stream == Stream.KLINE_1S
    ]
    if known:
        symbols = sorted({outage.symbol for outage in known})
        await _write(connection, apply_outages(await _gaps(connection, sql.GAPS_UNKNOWN, [symbols]), known))


async def _outages_of(connection: AsyncConnection[TupleRow], found: Found) -> dict[str, list[Outage]]:
    if not found.missing:
        return {}
    earliest_ms = min(start for ranges, _ in found.missing.values() for start, _ in ranges)
    cursor = await connection.execute(sql.OUTAGES_OF, [sorted(found.missing), earliest_ms - EARLIER_MS])
    return dict(causes_by_symbol(Outage(s, a, b, GapCause(c)) for s, a, b, c in await cursor.fetchall()))


#: How much earlier than a gap an outage that explains it may have ended (slack of the ledger, generously).
EARLIER_MS = 10_000


async def _gaps(connection: AsyncConnection[TupleRow], statement: str, values: Sequence[object]) -> list[Gap]:
    cursor = await connection.execute(statement, values)
    return [
        Gap(symbol, from_ms, to_ms, GapCause(cause), state, resolved_by, gap_id, detected_ms)
        for gap_id, symbol, from_ms, to_ms, cause, state, resolved_by, detected_ms in await cursor.fetchall()
    ]


async def _write(connection: AsyncConnection[TupleRow], change: LedgerChange) -> None:
    async with connection.cursor() as cursor:
        if change.deleted_ids:
            await cursor.execute(sql.DELETE_GAPS, [list(change.deleted_ids)])
        if updated := [_gap_values(gap) for gap in change.written if gap.gap_id is not None]:
            await cursor.executemany(sql.UPDATE_GAP, updated)
        if inserted := [_gap_values(gap) for gap in change.written if gap.gap_id is None]:
            await cursor.executemany(sql.INSERT_GAP, inserted)


def _gap_values(gap: Gap) -> dict[str, Any]:
    return {
        "gap_id": gap.gap_id,
        "symbol": gap.symbol,
        "from_ms": gap.from_ms,
        "to_ms": gap.to_ms,
        "cause": gap.cause.value,
        "state": gap.state,
        "resolved_by": gap.resolved_by,
        "detected_at_ms": gap.detected_at_ms,
    }


def outage_values(outage: FeedOutage) -> dict[str, Any]:
    """Parameters of sql.UPSERT_OUTAGE."""
    return {
        "symbol": outage.symbol,
        "stream": outage.stream,
        "from_ms": outage.from_time_ms,
        "to_ms": outage.to_time_ms,
        "cause": outage.cause.value,
        "detail": outage.detail.replace("\x00", "\\0"),
    }


def ticker_values(ticker: MiniTicker) -> dict[str, Any]:
    """Parameters of sql.UPSERT_TICKER."""
    return {
        "symbol": ticker.symbol,
        "open": ticker.open,
        "high": ticker.high,
        "low": ticker.low,
        "close": ticker.close,
        "base_volume": ticker.base_volume,
        "quote_volume": ticker.quote_volume,
        "event_ms": ticker.event_time_ms,
        "received_ms": ticker.received_at_ms,
    }
