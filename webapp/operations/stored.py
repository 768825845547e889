"""What the database says to operators: one bounded read a round, the costly counts more seldom.

Runs in one thread of its own with connections of its own; raises what the driver raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.db import connections

from runtime.clock import Clock
from runtime.database import Connection, TupleRow
from webapp.ledger_selectors import checkpoints, feed_state, newest_open_gaps
from webapp.operations.snapshot import MAX_NEEDS_PERSON, Audit, DeadLetters, OpenGaps
from webapp.selectors import fetch, ms

#: Counts over whole tables are taken this seldom.
COUNTS_EVERY_S: Final = 30.0
MAX_NEWEST: Final = 20
MAX_STALE: Final = 50
PREVIEW_BYTES: Final = 200

_OPEN_GAPS: Final = """
    select count(*), coalesce(sum(extract(epoch from to_time - from_time)), 0)::float8 from kline_gap
    where state = 'open'
"""
#: A symbol's newest minute is the last that was rolled up. Looked for in its last day alone: where only REST gives
#: candles there is none, in however many years of them.
_LAST_ROLL_UP: Final = f"""
    select {ms("max(newest.updated_at)")} from symbol_watermark known
    cross join lateral (
        select updated_at from aggregated_kline candle
        where candle.symbol = known.symbol and interval = '1m' and source = 'seconds'
            and open_time >= known.event_time - interval '1 day'
        order by open_time desc limit 1
    ) newest
    where known.stream = 'kline_1s'
"""
_STALE: Final = f"""
    select symbol from symbol_watermark join market_symbol using (symbol)
    where stream = 'kline_1s' and is_followed and status = 'TRADING'
        and symbol_watermark.updated_at < now() - make_interval(secs => %s)
    order by symbol limit {MAX_STALE}
"""
_AUDIT_COUNTS: Final = """
    select count(*) filter (where state = 'equal'), count(*) filter (where state = 'different'),
        count(*) filter (where state = 'not_comparable')
    from minute_audit where open_time >= now() - interval '1 day'
"""
_NEEDS_PERSON: Final = f"""
    select symbol, {ms("open_time")}, reason, differences::text, {ms("audited_at")} from minute_audit
    where state <> 'equal' and needs_person order by open_time desc limit {MAX_NEEDS_PERSON}
"""
_NEEDS_PERSON_NAMES: Final = ("symbol", "open_time_ms", "reason", "differences", "audited_at_ms")
_LETTER_COUNTS: Final = """
    select count(*), count(*) filter (where received_at >= now() - interval '1 hour') from dead_letter
"""
_LETTERS: Final = f"""
    select id, topic, partition, record_offset, reason, {ms("received_at")},
        substring(payload from 1 for {PREVIEW_BYTES})
    from dead_letter order by id desc limit {MAX_NEWEST}
"""
_LETTER_NAMES: Final = ("id", "topic", "partition", "record_offset", "reason", "received_at_ms", "payload_preview")


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One round's answer of the database."""

    checkpoints: list[dict[str, Any]]
    feed: Mapping[str, Any]
    stale_symbols: list[str]
    paused: dict[str, bool]
    open_gaps: OpenGaps
    audit: Audit
    dead_letters: DeadLetters
    last_roll_up_at_ms: int | None


class StoredReader:
    """Reads on the connections of the thread that calls it."""

    def __init__(self, clock: Clock, stale_after_s: float) -> None:
        self._clock, self._stale_after_s = clock, stale_after_s
        self._counted_at_s: float | None = None
        self._audit, self._letters = Audit(), DeadLetters()

    def read(self, owner: Connection[TupleRow]) -> Stored:
        """Everything. `owner`: a connection that sees the operators' own tables, in autocommit."""
        now_s = self._clock.monotonic_s()
        if self._counted_at_s is None or now_s - self._counted_at_s >= COUNTS_EVERY_S:
            self._audit, self._letters = _audit(), _letters()
            self._counted_at_s = now_s
        ((gaps, seconds),) = fetch(_OPEN_GAPS)
        paused = owner.execute("select room, is_paused from room_control limit 1000").fetchall()
        return Stored(
            checkpoints=checkpoints(),
            feed=feed_state(),
            stale_symbols=[symbol for (symbol,) in fetch(_STALE, [self._stale_after_s])],
            paused={room: bool(is_paused) for room, is_paused in paused},
            open_gaps=OpenGaps(count=gaps, seconds=seconds, newest=newest_open_gaps(MAX_NEWEST) if gaps else []),
            audit=self._audit,
            dead_letters=self._letters,
            last_roll_up_at_ms=fetch(_LAST_ROLL_UP)[0][0],
        )

    def forget(self) -> None:
        """After a failure: the next read begins with a connection of its own and counts anew."""
        connections["reader"].close()
        self._counted_at_s = None


def _audit() -> Audit:
    ((equal, different, not_comparable),) = fetch(_AUDIT_COUNTS)
    waiting = [dict(zip(_NEEDS_PERSON_NAMES, row, strict=True)) for row in fetch(_NEEDS_PERSON)]
    return Audit(equal=equal, different=different, not_comparable=not_comparable, needs_person=waiting)


def _letters() -> DeadLetters:
    ((count, last_hour),) = fetch(_LETTER_COUNTS)
    newest = [dict(zip(_LETTER_NAMES, row, strict=True)) for row in fetch(_LETTERS)]
    for letter in newest:
        letter["payload_preview"] = bytes(letter["payload_preview"]).decode("utf-8", "replace")
    return DeadLetters(count=count, last_hour=last_hour, newest=newest)
