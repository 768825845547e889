"""The figures of operators, collected beside the requests: one thread, one loop, everything bounded.

The newest snapshot lives in memory as ready JSON, so that pages and API answer at once, whatever is away.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec
from prometheus_client import Counter, Histogram

from runtime.broker_watch import BrokerFigures, BrokerWatch
from runtime.clock import Clock, SystemClock
from runtime.kafka_client import KafkaConnectionError, KafkaError, load_topics
from runtime.logs import get_logger
from runtime.settings import load, split_list
from runtime.topic_admin import TopicSettings
from runtime.topic_logs import BrokerLogs
from webapp.operations import assemble, engines, log_book, scrape
from webapp.operations.alerts import AlertBook, Key, Limits, judge
from webapp.operations.database_side import Away, DatabaseSide, Written
from webapp.operations.notify import Notifier
from webapp.operations.snapshot import AlertRow, EngineRow, Snapshot
from webapp.operations.stored import Stored
from webapp.operations.verdict import with_alerts
from webapp.settings import WebappSettings

BROKER_DEADLINE_S: Final = 4.0
SCRAPE_DEADLINE_S: Final = 4.0
SCRAPE_THREADS: Final = 4
PAUSE_MIN_S: Final = 0.5
TOPICS_EVERY_ROUNDS: Final = 12
#: A process that has just started, and whose first answer of the database is late, does not alert beside another.
UNTOLD_ROUNDS: Final = 3
#: Changes of alerts that wait for the database; when there are more, the oldest are not written down.
MAX_UNWRITTEN: Final = 500

ROUND_SECONDS: Final = Histogram(
    "operations_round_seconds",
    "Time of one collection of the operators' figures",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
FAILED: Final = Counter("operations_failed_rounds", "Rounds that ended in an error of ours")
SKIPPED: Final = Counter(
    "operations_samples_skipped", "Samples that were not written: database away, or its answer late"
)

log = get_logger(__name__)


class Newest(NamedTuple):
    """A snapshot, and the same as JSON."""

    snapshot: Snapshot
    json: bytes


class SeenLogs(NamedTuple):
    """The broker's topics as they were at `at_ms`."""

    at_ms: int
    logs: BrokerLogs


class Collector:
    """Collects until the process ends. `newest` may be called from every thread."""

    def __init__(self, settings: WebappSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._newest: Newest | None = None
        self.newest_logs: SeenLogs | None = None
        self._first = threading.Event()
        self._bounds = assemble.Bounds(
            source=settings.source,
            has_seconds="kline_1s" in split_list(settings.streams),
            headroom_s=settings.operator_headroom_s,
            data_dir=settings.data_dir,
            disk_free_share=settings.operator_disk_free_share,
        )
        self._limits = Limits(
            headroom_s=settings.operator_headroom_s,
            stale_s=settings.operator_stale_s,
            dead_letter_share=settings.operator_dead_letter_share,
        )
        self._memory = assemble.Memory()
        self._book = AlertBook()
        self._is_writer: bool | None = None
        self._unwritten: deque[AlertRow] = deque(maxlen=MAX_UNWRITTEN)
        self._checkpoints: list[dict[str, Any]] = []
        self._sampled_at_s: float | None = None
        self._rounds = 0
        self._away: dict[str, str | None] = {}

    def start(self) -> None:
        """Begin, in a daemon thread."""
        threading.Thread(target=lambda: asyncio.run(self.run()), name="operations", daemon=True).start()

    def newest(self, wait_s: float) -> Newest | None:
        """The newest snapshot; waits for the first one. None = there is none yet."""
        self._first.wait(wait_s)
        return self._newest

    async def run(self) -> None:
        """Round after round. A round that fails for a reason of ours is logged and counted: the pages go on."""
        self._broker = BrokerWatch(self._settings.kafka_bootstrap_servers, "webapp_operations", self._clock)
        self._database = DatabaseSide(self._settings, self._clock)
        self._notifier = Notifier(self._settings, self._clock)
        self._threads = ThreadPoolExecutor(SCRAPE_THREADS, "operations-scrape")
        self._topic_settings = load(TopicSettings)
        posting = asyncio.create_task(self._notifier.run_webhook())
        while not posting.cancelled():
            started_s = self._clock.monotonic_s()
            try:
                await self._round()
            except Exception:
                FAILED.inc()
                log.exception("operations_round_failed")
            took_s = self._clock.monotonic_s() - started_s
            ROUND_SECONDS.observe(took_s)
            await asyncio.sleep(max(PAUSE_MIN_S, self._settings.operator_refresh_ms / 1000 - took_s))

    async def _round(self) -> None:
        if self._rounds % TOPICS_EVERY_ROUNDS == 0:
            self._topics = load_topics().all()
        self._rounds += 1
        # The database first: offsets of the broker are newer than the checkpoints then, never older.
        stored, database_error = await self._ask_database()
        if stored is not None:
            self._checkpoints = stored.checkpoints
        (broker, broker_error), scrapes, valkey = await asyncio.gather(
            self._ask_broker(), self._ask_rooms(), engines.ask_valkey(self._settings.celery_broker_url)
        )
        now_ms = self._clock.now_ms()
        if broker is not None:
            self.newest_logs = SeenLogs(now_ms, broker.logs)
        found: list[EngineRow] = [
            assemble.broker_row(broker_error),
            assemble.database_row(database_error),
            valkey,
            engines.exchange_row(scrapes, now_ms, self._settings.operator_stale_s),
        ]
        self._log_away(found)
        answers = assemble.Answers(
            now_ms=now_ms,
            now_s=self._clock.monotonic_s(),
            broker=broker,
            stored=stored,
            checkpoints=self._checkpoints,
            scrapes=scrapes,
            engines=found,
        )
        snapshot = assemble.assemble(answers, self._memory, self._topics, self._topic_settings, self._bounds)
        self._alert(snapshot, stored)
        snapshot = self._publish(snapshot)
        await self._write(snapshot, stored is not None)
        if self._alerts():
            await self._notifier.send_live(self._book.standing.values())

    def _log_away(self, found: list[EngineRow]) -> None:
        """Say once that an engine is away, with the error, and once that it is back."""
        for engine in found:
            error = engine.error if engine.state == "down" else None
            if error is not None and self._away.get(engine.name) is None:
                log.warning("engine_away", engine=engine.name, error=error)
            elif error is None and self._away.get(engine.name) is not None:
                log.info("engine_back", engine=engine.name)
            self._away[engine.name] = error

    def _publish(self, snapshot: Snapshot) -> Snapshot:
        shown = with_alerts(snapshot, self._book.rows())
        self._newest = Newest(shown, msgspec.json.encode(shown))
        self._first.set()
        return shown

    def _alert(self, snapshot: Snapshot, stored: Stored | None) -> None:
        """Raise and recover; the one writer does it for all."""
        if not self._alerts():
            return
        feed_age_s = stored.feed["seconds_since_progress"] if stored is not None else None
        stale = stored.stale_symbols if stored is not None and self._bounds.has_seconds else None
        changes = self._book.take(judge(snapshot, stale, feed_age_s, self._limits), snapshot.taken_at_ms)
        self._notifier.tell(changes)
        self._unwritten.extend(change.alert for change in changes)

    def _alerts(self) -> bool:
        """Whether this is the writer, or the database has not told who is for so many rounds: it is away."""
        return self._rounds > UNTOLD_ROUNDS if self._is_writer is None else self._is_writer

    async def _write(self, snapshot: Snapshot, is_database_up: bool) -> None:
        now_s = self._clock.monotonic_s()
        # Until it is told who the writer is, each round asks.
        sampled_at_s = None if self._is_writer is None else self._sampled_at_s
        is_due = sampled_at_s is None or now_s - sampled_at_s >= self._settings.operator_sample_ms / 1000
        if not is_due and not self._unwritten:
            return
        if is_due:
            self._sampled_at_s = now_s
        waiting = list(self._unwritten)
        try:
            if not is_database_up:
                raise TimeoutError("the database is away")
            samples = log_book.samples_of(snapshot) if is_due else None
            written = await self._database.write(snapshot.taken_at_ms, samples, waiting)
        except Away:
            SKIPPED.inc(is_due)
            return
        self._take_in(written, waiting)

    def _take_in(self, written: Written, waiting: list[AlertRow]) -> None:
        self._is_writer = written.is_writer
        if not written.is_writer:
            self._book = AlertBook()
            self._unwritten.clear()
        for _ in waiting[: len(self._unwritten)]:
            self._unwritten.popleft()
        if written.rooms is not None:
            self._memory.rooms.restore(written.rooms)
        if written.alerts is not None:
            self._book.restore(written.alerts)
        for (condition, subject), number in written.numbers.items():
            self._book.number(Key(condition, subject), number)

    async def _ask_database(self) -> tuple[Stored | None, str | None]:
        try:
            return await self._database.read(), None
        except Away as error:
            return None, engines.one_line(error)

    async def _ask_broker(self) -> tuple[BrokerFigures | None, str | None]:
        offsets = {(row["topic"], row["partition"]): row["next_offset"] for row in self._checkpoints}
        try:
            return await self._broker.read([topic.name for topic in self._topics], offsets, BROKER_DEADLINE_S), None
        except KafkaConnectionError:
            return None, f"no connection to {self._settings.kafka_bootstrap_servers}"
        except (KafkaError, OSError, TimeoutError) as error:
            return None, engines.one_line(error)

    async def _ask_rooms(self) -> dict[str, scrape.Scrape]:
        loop = asyncio.get_running_loop()
        urls = self._settings.room_urls()
        asked = {room: loop.run_in_executor(self._threads, scrape.ask, room, url) for room, url in urls.items()}
        if asked:
            await asyncio.wait(asked.values(), timeout=SCRAPE_DEADLINE_S)
        return {
            room: future.result() if future.done() else scrape.Scrape(room, error="no answer in time")
            for room, future in asked.items()
        }


_running: list[Collector] = []


def start(settings: WebappSettings) -> None:
    """Start the collector of this process."""
    collector = Collector(settings, SystemClock())
    _running[:] = [collector]
    collector.start()


def newest(wait_s: float) -> Newest | None:
    """The newest snapshot of this process; None when there is none yet."""
    return _running[0].newest(wait_s) if _running else None


def newest_logs(wait_s: float) -> SeenLogs | None:
    """The broker's topics when it answered last; None when it has not yet. Waits for the first snapshot."""
    if not _running:
        return None
    _running[0].newest(wait_s)
    return _running[0].newest_logs
