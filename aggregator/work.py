"""What the tasks work with, one set for each worker process, and what happens when a step cannot be done now."""

from __future__ import annotations

import threading
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from aggregator.audit_minutes import audit_due, waiting
from aggregator.completeness import mark_running, mark_uncounted, recount
from aggregator.first_seconds import FirstSeconds
from aggregator.history import History
from aggregator.operate import operate
from aggregator.publish import BrokerAway, Publisher, publish
from aggregator.repair import Limits, Repair
from aggregator.retention import apply_retention
from aggregator.roll_up import lateness_s, roll_up
from aggregator.settings import AggregatorSettings
from aggregator.symbols import refresh_symbols
from market.errors import MarketError
from runtime.clock import Clock, new_random
from runtime.database import (
    Connection,
    DatabaseError,
    SchemaMissing,
    TupleRow,
    connect,
    is_retryable,
    require_schema,
)
from runtime.errors import Retryable
from runtime.exchange_rest import ExchangeRest, RestRefused
from runtime.health import Health
from runtime.logs import get_logger
from runtime.operations.room_control import RoomControl
from runtime.retry import ENGINE_MAX_DELAY_S, STARTING_TRIES, Backoff
from runtime.symbol_choice import SymbolChoice

HISTORY_SLICE_S = 0.8
REPAIR_SLICE_S = 1.8
EXCHANGE_MAX_DELAY_S = 10.0
#: Hours that were never counted are looked for this seldom; recounts of one run, in transactions of their own.
UNCOUNTED_EVERY_S = 60.0
MAX_RECOUNTS = 10

#: The one step that a pause does not stop.
OPERATE = "operate"
#: What a step lacks when its connection fails, whatever else it needs.
DATABASE = "database"

WINDOWS = Counter("aggregate_windows", "Minutes rolled up, by outcome", ["outcome"])
LATENESS_S = Gauge("aggregate_lateness_seconds", "How far the oldest dirty minute lies behind the watermark")
ROLL_UP_S = Histogram(
    "aggregate_roll_up_seconds", "Time of one roll-up", buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
)
AUDITED = Counter("audit_minutes", "Minutes compared with the exchange's own, by result", ["state"])
AUDIT_DUE = Gauge("audit_due_minutes", "Minutes waiting to be compared")
AUDIT_NEEDS_PERSON = Gauge("audit_needs_person_minutes", "Minutes that differ even after the recheck")
COMPLETENESS = Gauge(
    "data_completeness_ratio", "Share of the last day's seconds that are not missing", ["table", "symbol"]
)
PUBLISHED = Counter("aggregate_candles_published", "Candles sent to the candle topic")

log = get_logger(__name__)
_current: list[Work] = []


def current() -> Work:
    """The set of this process. Raises RuntimeError before `install`."""
    if not _current:
        raise RuntimeError("the worker process has not been set up")
    return _current[0]


class Work:
    """Connections of each thread, the exchange, the publisher, health. Every step waits its turn after a failure."""

    def __init__(self, settings: AggregatorSettings, health: Health, clock: Clock) -> None:
        self._settings = settings
        self._health = health
        self._clock = clock
        self._local = threading.local()
        self._backoffs: dict[str, Backoff] = {}
        self._not_before_s: dict[str, float] = {}
        self._running = {
            name: threading.Lock()
            for name in ("history", "repair", "symbols", "retention", "audit", "completeness", "operate")
        }
        self._rest = ExchangeRest(settings.rest_urls(), clock, settings.history_weight_per_minute)
        self._publisher = Publisher(settings.kafka_bootstrap_servers)
        self._symbols = SymbolChoice(settings.symbols, settings.source, settings.exchange_rest_url, settings.data_dir)
        self._history = History(self._rest, clock, settings.history_bars)
        self._first_seconds = FirstSeconds(self._rest, clock, settings.history_seconds)
        self._repair = Repair(self._rest, clock, Limits.of(settings))
        self._control = RoomControl(settings.database_url, "aggregator", settings.data_dir, health)

    def install(self) -> None:
        """Make this the set that the tasks of the process use, and listen to operators."""
        _current[:] = [self]
        self._control.start()

    def close(self) -> None:
        """Before the process ends."""
        self._control.stop()
        self._publisher.close()

    def roll_up(self) -> None:
        """All dirty minutes, then the changed candles to Kafka."""
        self._step(DATABASE, self._roll_up)
        self._step("kafka", self._publish)

    def _roll_up(self) -> None:
        LATENESS_S.set(lateness_s(self._connection()))
        more = True
        while more:
            started_s = self._clock.monotonic_s()
            done = roll_up(self._connection())
            more = done.more
            if done.minutes:
                WINDOWS.labels("rolled_up").inc(done.minutes)
                ROLL_UP_S.observe(self._clock.monotonic_s() - started_s)
                log.info("rolled_up", minutes=done.minutes, seconds=round(self._clock.monotonic_s() - started_s, 3))

    def _publish(self) -> None:
        PUBLISHED.inc(publish(self._connection(), self._publisher))

    def refresh_symbols(self) -> None:
        """market_symbol as the exchange has it now."""
        self._alone("symbols", "exchange", self._refresh)

    def _refresh(self) -> None:
        refresh_symbols(self._connection(), self._rest, self._symbols)
        self._symbols_known = True

    _symbols_known = False

    def history(self) -> None:
        """A slice of history; the symbols first if they have not been asked for since the start."""
        if not self._symbols_known:
            self.refresh_symbols()
        else:
            end_s = self._clock.monotonic_s() + HISTORY_SLICE_S
            self._alone("history", "exchange", lambda: self._load_until(end_s))

    def _load_until(self, end_s: float) -> None:
        self._history.load_until(self._connection(), end_s)
        self._first_seconds.load_until(self._connection(), end_s)

    def repair(self) -> None:
        """A slice of the repair of gaps and suspects."""
        end_s = self._clock.monotonic_s() + REPAIR_SLICE_S
        self._alone("repair", "exchange", lambda: self._repair.run_until(self._connection(), end_s))

    def top_up(self) -> None:
        """First minutes that our own seconds cover only partly."""
        self._alone("history", "exchange", lambda: self._history.top_up(self._connection()))

    def audit(self) -> None:
        """Minutes that are due, against the exchange's own."""
        self._alone("audit", "audit", self._audit)

    def _audit(self) -> None:
        due, needs_person = waiting(self._connection())
        AUDIT_DUE.set(due)
        AUDIT_NEEDS_PERSON.set(needs_person)
        for counts in audit_due(self._connection(), self._rest):
            for state, minutes in counts.items():
                AUDITED.labels(state).inc(minutes)

    def completeness(self) -> None:
        """Hours whose rows or gaps changed, counted anew."""
        self._alone("completeness", DATABASE, self._count)

    def _count(self) -> None:
        if self._clock.monotonic_s() >= self._uncounted_at_s:
            mark_uncounted(self._connection())
            self._uncounted_at_s = self._clock.monotonic_s() + UNCOUNTED_EVERY_S
        mark_running(self._connection())
        for _ in range(MAX_RECOUNTS):
            done = recount(self._connection())
            for symbol, ratio in done.ratios.items():
                COMPLETENESS.labels("kline_1s", symbol).set(ratio)
            if not done.more:
                break

    _uncounted_at_s = 0.0

    def operate(self) -> None:
        """What operators have asked for, also while the room is paused."""
        self._alone("operate", OPERATE, lambda: operate(self._connection(), self._rest, self._symbols))

    def retention(self) -> None:
        """Drop old partitions and prune."""
        self._alone("retention", "retention", self._retain)

    def _retain(self) -> None:
        kept = self._settings
        apply_retention(
            self._connection(), kept.retention_1s_hours, kept.retention_letters_days, kept.retention_proof_days
        )

    def _alone(self, name: str, needs: str, step: Callable[[], object]) -> None:
        """The step unless it is running in another thread of this worker."""
        lock = self._running[name]
        if lock.acquire(blocking=False):
            try:
                self._step(needs, step)
            finally:
                lock.release()

    def _step(self, needs: str, step: Callable[[], object]) -> None:
        """Do it; when something is away, say so in health and leave it alone for a while (full jitter)."""
        is_paused = self._control.told.is_paused
        self._control.applied(is_paused=is_paused)
        if is_paused and needs != OPERATE:
            return
        if self._clock.monotonic_s() < self._not_before_s.get(needs, 0.0):
            return
        backoff = self._backoffs.setdefault(needs, _new_backoff(needs))
        try:
            step()
        except (Retryable, BrokerAway, DatabaseError, RestRefused, MarketError) as error:
            if isinstance(error, DatabaseError):
                self._drop_connection()
                if not is_retryable(error):
                    raise
            delay_s = max(backoff.next_delay_s(), getattr(error, "retry_after_s", 0.0))
            self._not_before_s[needs] = self._clock.monotonic_s() + delay_s
            away = DATABASE if isinstance(error, DatabaseError | SchemaMissing) else needs
            self._health.set_problem(away, f"{type(error).__name__}: {error}".splitlines()[0])
            # A first start waits for the schema: no error that operators should see as the room's last.
            tell = log.info if isinstance(error, SchemaMissing) else log.warning
            tell("step_failed", needs=needs, error=str(error), retry_in_s=round(delay_s, 1))
        else:
            backoff.reset()
            self._health.clear_problem(needs)
            self._health.clear_problem(DATABASE)

    def _connection(self) -> Connection[TupleRow]:
        """This thread's connection, opened when there is none."""
        connection: Connection[TupleRow] | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = connect(self._settings.database_url, "aggregator")
            connection.execute("set jit = off")
            require_schema(connection)
            connection.commit()
            self._local.connection = connection
        return connection

    def _drop_connection(self) -> None:
        connection: Connection[TupleRow] | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


def _new_backoff(needs: str) -> Backoff:
    if needs == "exchange":
        return Backoff(new_random(), max_delay_s=EXCHANGE_MAX_DELAY_S, quick_tries=STARTING_TRIES)
    return Backoff(new_random(), max_delay_s=ENGINE_MAX_DELAY_S)
