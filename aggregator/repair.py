"""Repair: gaps of the ledger are filled from the exchange, newest first, and suspect seconds are settled.

A step is one question to the exchange and one transaction. What came is taken or refused as a whole
(market/rest_rows.py); refused, the gap stays open and is tried again with back-off and a ceiling, and after
`max_attempts` it is `unrepairable` until somebody reopens it. What the exchange itself does not have is `absent`, and
asked for again after `absent_recheck_s`. The exchange being away or out of weight is nobody's failed attempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge

from aggregator import repair_sql as sql
from aggregator.exchange_seconds import ExchangeSeconds
from aggregator.repair_plan import Call, DueGap, next_call
from aggregator.repair_store import add_suspect, fill, lock_ledger, note_try, settle
from aggregator.settings import AggregatorSettings
from aggregator.suspects import settle_next_suspect
from market.errors import BadFrame
from market.interval import SECOND_MS
from market.ledger import OPEN
from market.rest_rows import BrokenChain, missing_seconds
from runtime.clock import Clock, new_random
from runtime.database import Connection, DatabaseError, TupleRow, UnusableData
from runtime.exchange_rest import ExchangeRest, RestRefused, RestUnavailable
from runtime.logs import get_logger
from runtime.retry import Backoff

#: The exchange's own code for a symbol that it does not list (any more).
BAD_SYMBOL: Final = -1121
MAX_DUE_GAPS: Final = 500
FIRST_DELAY_S: Final = 2.0
#: Absent ranges that may be asked for again are looked for this seldom while there are none.
ABSENT_LOOK_EVERY_S: Final = 60.0
#: Asked for again after up to so long: seconds that the exchange may have later, or a range it failed to answer.
SOON_S: Final = 10.0
#: A second between rows of the answer is absent at this age, any other at the second one (the exchange's database
#: lags, and fills up from behind).
SETTLED_MS: Final = 60_000
ABSENT_MS: Final = 600_000

SECONDS = Counter("repair_seconds", "Missing seconds by what became of them", ["outcome"])
REFUSED = Counter("repair_refused", "Answers of the exchange that were refused as a whole")
SUSPECTS = Counter("repair_suspects", "Suspect ranges that were settled", ["outcome"])
OPEN_SECONDS = Gauge("repair_open_seconds", "Seconds in open gaps, after the last look")

log = get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """When to give up a gap, the longest wait between two tries, when an absent range is asked for again, and how long
    a new gap is left alone: one that grows while a stream is out would take a question each time it grows."""

    max_attempts: int = 10
    max_delay_s: float = 600.0
    absent_recheck_s: float = 86_400.0
    settle_s: float = 5.0

    @classmethod
    def of(cls, settings: AggregatorSettings) -> Limits:
        """What the settings say."""
        return cls(settings.repair_max_attempts, settings.repair_max_delay_s, settings.repair_absent_recheck_h * 3600)


class Repair:
    """Repairs step by step. Used by one thread at a time."""

    def __init__(self, rest: ExchangeRest, clock: Clock, limits: Limits) -> None:
        self._exchange = ExchangeSeconds(rest, clock)
        self._clock = clock
        self._limits = limits
        self._random = new_random()
        self._absent_after_s = 0.0

    def run_until(self, connection: Connection[TupleRow], end_s: float) -> None:
        """Steps until nothing is due, the weight is used up, or the monotonic clock passes `end_s`; none while
        another process repairs. Raises RestUnavailable."""
        with alone(connection) as is_ours:
            while is_ours and self._clock.monotonic_s() < end_s and self.step(connection):
                pass

    def step(self, connection: Connection[TupleRow]) -> bool:
        """One question about gaps, else about a suspect; false when nothing is due or the weight is used up.

        Raises RestUnavailable; what was asked about then is left alone for a moment.
        """
        if not self._exchange.has_room():
            return False
        call = next_call(self._due(connection))
        if call is None:
            outcome = settle_next_suspect(connection, self._exchange, self._limits.max_attempts, self._delay_s)
            if outcome is not None:
                SUSPECTS.labels(outcome).inc()
            return outcome is not None
        try:
            self._ask(connection, call)
        except RestUnavailable as error:
            self._postpone(connection, call, call.gaps[0].attempts, self._soon_s(), str(error))
            raise
        except BadFrame as error:
            self._refuse(connection, call, str(error))
            if isinstance(error, BrokenChain):
                # The wrong seconds may be those of an earlier question about the same hole, or the neighbours.
                add_suspect(connection, call.symbol, error)
        except DatabaseError as error:
            if not isinstance(error, UnusableData):
                raise
            self._refuse(connection, call, f"the database refuses the rows: {error}")
        except RestRefused as error:
            if error.code == BAD_SYMBOL:
                self._give_up(connection, call, f"the exchange does not list the symbol: {error}", whole=True)
            else:
                self._refuse(connection, call, f"the exchange refuses to answer: {error}")
        return True

    def _due(self, connection: Connection[TupleRow]) -> list[DueGap]:
        rows = connection.execute(sql.DUE_GAPS, [self._limits.settle_s, MAX_DUE_GAPS]).fetchall()
        if not rows and self._clock.monotonic_s() >= self._absent_after_s:
            rows = connection.execute(sql.DUE_ABSENT, [MAX_DUE_GAPS]).fetchall()
            self._absent_after_s = 0.0 if rows else self._clock.monotonic_s() + ABSENT_LOOK_EVERY_S
        open_seconds = connection.execute(sql.OPEN_SECONDS).fetchone()
        connection.commit()
        OPEN_SECONDS.set(open_seconds[0] if open_seconds else 0)
        return [DueGap(*row) for row in rows]

    def _ask(self, connection: Connection[TupleRow], call: Call) -> None:
        """The rows of the call into the tables, and what did not come into the ledger."""
        answer = self._exchange.ask(call.symbol, call.from_ms - SECOND_MS, call.to_ms + SECOND_MS)
        wanted = set(call.wanted_ms)
        missing = missing_seconds(
            wanted, answer.klines, answer.exchange_now_ms, settled_ms=SETTLED_MS, absent_ms=ABSENT_MS
        )
        klines = [kline for kline in answer.klines if kline.open_time_ms in wanted]
        stored = fill(connection, call.symbol, klines, missing, answer.source)
        with connection.transaction():
            span = (call.from_ms, call.to_ms)
            note_try(connection, call.symbol, span, OPEN, attempts=0, next_in_s=None, error=None)
            if missing.later:
                later = (missing.later[0], missing.later[-1] + SECOND_MS)
                error = "the exchange does not have it yet"
                state, soon_s = call.gaps[0].state, self._soon_s()
                note_try(connection, call.symbol, later, state, attempts=0, next_in_s=soon_s, error=error)
            if missing.absent:
                absent = (missing.absent[0], missing.absent[-1] + SECOND_MS)
                error = "the exchange does not have it"
                recheck_s = self._limits.absent_recheck_s
                note_try(connection, call.symbol, absent, "absent", attempts=0, next_in_s=recheck_s, error=error)
        SECONDS.labels("filled").inc(len(klines))
        SECONDS.labels("absent").inc(len(missing.absent))
        log.info(
            "gap_repaired" if klines else "gap_not_repaired",
            symbol=call.symbol,
            from_ms=call.from_ms,
            to_ms=call.to_ms,
            seconds=stored,
            source=answer.source.value,
            absent=len(missing.absent),
            later=len(missing.later),
        )

    def _refuse(self, connection: Connection[TupleRow], call: Call, reason: str) -> None:
        """The answer is not taken: one more attempt is used up."""
        attempts = max(gap.attempts for gap in call.gaps) + 1
        REFUSED.inc()
        log.warning(
            "answer_refused", symbol=call.symbol, from_ms=call.from_ms, to_ms=call.to_ms, reason=reason,
            attempts=attempts,
        )  # fmt: skip
        if attempts < self._limits.max_attempts:
            self._postpone(connection, call, attempts, self._delay_s(attempts), reason)
        elif call.gaps[0].state == OPEN:
            self._give_up(connection, call, reason, whole=False)
        else:
            self._postpone(connection, call, 0, self._limits.absent_recheck_s, reason)

    def _give_up(self, connection: Connection[TupleRow], call: Call, reason: str, *, whole: bool) -> None:
        """The seconds of the call (or all of its gaps) are unrepairable until somebody reopens them."""
        spans = [(gap.from_ms, gap.to_ms) for gap in call.gaps]
        if not whole:
            spans = [(max(start, call.from_ms), min(end, call.to_ms)) for start, end in spans]
        with connection.transaction():
            lock_ledger(connection, call.symbol)
            for start, end in spans:
                settle(connection, call.symbol, range(start, end, SECOND_MS), "unrepairable", "rest")
                note_try(
                    connection, call.symbol, (start, end), "unrepairable", attempts=self._limits.max_attempts,
                    next_in_s=None, error=reason,
                )  # fmt: skip
                SECONDS.labels("unrepairable").inc((end - start) // SECOND_MS)
            rest = (min(gap.from_ms for gap in call.gaps), call.to_ms)
            note_try(connection, call.symbol, rest, OPEN, attempts=0, next_in_s=None, error=None)
        log.warning("gap_unrepairable", symbol=call.symbol, from_ms=spans[0][0], to_ms=spans[-1][1], reason=reason)

    def _postpone(
        self, connection: Connection[TupleRow], call: Call, attempts: int, next_in_s: float, error: str
    ) -> None:
        """The gaps of the call are left alone for so long."""
        span = (call.from_ms, call.to_ms)
        with connection.transaction():
            note_try(
                connection, call.symbol, span, call.gaps[0].state, attempts=attempts, next_in_s=next_in_s, error=error
            )

    def _delay_s(self, attempts: int) -> float:
        """Full jitter, the bound doubling with each attempt up to the ceiling."""
        backoff = Backoff(self._random, FIRST_DELAY_S, self._limits.max_delay_s)
        backoff.attempt = attempts
        return backoff.next_delay_s()

    def _soon_s(self) -> float:
        return self._random.uniform(1.0, SOON_S)


@contextmanager
def alone(connection: Connection[TupleRow]) -> Iterator[bool]:
    """True inside when no other session repairs; the session's lock ends with it, or with the connection."""
    row = connection.execute(sql.TRY_REPAIR_LOCK).fetchone()
    connection.commit()
    is_ours = bool(row and row[0])
    try:
        yield is_ours
    finally:
        if is_ours and not connection.closed:
            connection.rollback()
            connection.execute(sql.FREE_REPAIR_LOCK)
            connection.commit()
