"""F8: the depth topic through market/depth_sync.py, level by level against the exchange's own book, while it lies.

The producer writes the topic; here it is read, snapshots come over REST, and each book that calls itself exact is
compared with the exchange's own at the same update id.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from market.depth import DepthUpdate, Level, PartialDepth
from market.depth_sync import DepthSync, ResyncReason, SyncState
from market.errors import MarketError
from market.record_codec import RecordDecoder
from runtime.clock import SystemClock, new_random
from runtime.kafka_client import KafkaError, TopicPartition, load_topics, new_consumer
from tests.chaos.rig import Rig
from tests.chaos.scenario import Kind, Scenario, Violation

SYMBOLS = 3
SNAPSHOT_LIMIT = 1000
COMPARED_LEVELS = 400
ASK_TRUTH_EVERY_S = 0.2
WAITING_TRUTHS = 20
POLL_MS = 50
RESYNC_MAX_S = 3.0
START_DEADLINE_S = 30.0
#: A rounded Retry-After and the time of a request.
RETRY_SLACK_S = 0.05
JOIN_TIMEOUT_S = 10.0
REFUSED_MS = 1_500

Order = Callable[[Rig, str], None]


@dataclass
class Figures:
    """What was seen of all symbols."""

    compared: int = 0
    wrong: list[str] = field(default_factory=list)
    too_early: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class DepthCheck:
    """A thread with its own loop: topic, snapshots and truth of the symbols."""

    def __init__(self, rig: Rig, symbols: list[str]) -> None:
        self.figures = Figures()
        self._rig, self._clock = rig, SystemClock()
        rng = new_random(rig.rng.getrandbits(32))
        self.syncs = {s: DepthSync(s, rng.uniform, self._clock.now_ms(), SNAPSHOT_LIMIT) for s in symbols}
        self._truths: dict[str, dict[int, PartialDepth]] = defaultdict(dict)
        self._not_before_s: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True, name="depth")

    def __enter__(self) -> DepthCheck:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(JOIN_TIMEOUT_S)

    def exact(self) -> bool:
        """Every book is in step."""
        return all(sync.state is SyncState.SYNCED for sync in self.syncs.values())

    async def _run(self) -> None:
        topic = load_topics().depth
        consumer = new_consumer(f"127.0.0.1:{self._rig.broker.target_port}", "chaos-depth", group_id=None)
        async with httpx.AsyncClient(base_url=self._rig.sim_url, timeout=10) as client:
            await consumer.start()
            try:
                partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
                consumer.assign(partitions)
                await consumer.seek_to_end(*partitions)
                async with asyncio.TaskGroup() as group:
                    for symbol, sync in self.syncs.items():
                        group.create_task(self._snapshots(client, symbol, sync))
                        group.create_task(self._ask_truth(client, symbol))
                    group.create_task(self._follow(consumer))
            except (KafkaError, MarketError, httpx.HTTPError) as error:
                self.figures.failed.append(repr(error))
            finally:
                await consumer.stop()

    async def _follow(self, consumer: Any) -> None:
        decoder = RecordDecoder(DepthUpdate)
        while not self._stop.is_set():
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    update = decoder.decode(record.value)
                    if (sync := self.syncs.get(update.symbol)) is not None:
                        sync.on_update(update, self._clock.now_ms())
                        self._compare(update.symbol, sync)

    async def _snapshots(self, client: httpx.AsyncClient, symbol: str, sync: DepthSync) -> None:
        """What the owner of a sync has to do: fetch when asked, hand on the answer or the refusal."""
        while not self._stop.is_set():
            await asyncio.sleep(POLL_MS / 1000)
            if not sync.wants_snapshot(self._clock.now_ms()):
                continue
            asked_s = self._clock.monotonic_s()
            if asked_s < self._not_before_s.get(symbol, 0.0) - RETRY_SLACK_S:
                self.figures.too_early.append(f"{symbol}: asked {self._not_before_s[symbol] - asked_s:.1f} s too early")
            query = {"symbol": symbol, "limit": str(SNAPSHOT_LIMIT)}
            answer = await client.get("/api/v3/depth", params=query)
            if answer.status_code == 200:
                sync.on_snapshot(to_snapshot(symbol, answer.content), self._clock.now_ms())
                continue
            wait_s = float(answer.headers.get("Retry-After", "0"))
            self._not_before_s[symbol] = self._clock.monotonic_s() + wait_s
            sync.snapshot_failed(self._clock.now_ms(), wait_s)

    async def _ask_truth(self, client: httpx.AsyncClient, symbol: str) -> None:
        """The exchange's own book now and then; it is compared when ours has come to the same id."""
        while not self._stop.is_set():
            await asyncio.sleep(ASK_TRUTH_EVERY_S)
            query = {"symbol": symbol, "limit": str(SNAPSHOT_LIMIT - 1)}
            answer = await client.get("/api/v3/depth", params=query)
            if answer.status_code != 200:
                continue
            truth = to_snapshot(symbol, answer.content)
            kept = self._truths[symbol]
            kept[truth.last_update_id] = truth
            while len(kept) > WAITING_TRUTHS:
                del kept[next(iter(kept))]
            self._compare(symbol, self.syncs[symbol])

    def _compare(self, symbol: str, sync: DepthSync) -> None:
        book = sync.book
        truth = None if book is None else self._truths[symbol].pop(book.last_update_id, None)
        if book is None or truth is None:
            return
        self.figures.compared += 1
        for side, ours, theirs in (("bids", book.bids, truth.bids), ("asks", book.asks, truth.asks)):
            levels = ours.top(COMPARED_LEVELS)
            if differing := _differing(levels, theirs[: len(levels)]):
                self.figures.wrong.append(f"{symbol} {side} at {book.last_update_id}: {differing[:2]}")


def _differing(ours: list[Level], theirs: list[Level]) -> list[tuple[Level, Level]]:
    return [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]


def to_snapshot(symbol: str, body: bytes) -> PartialDepth:
    """A REST answer of depth."""
    found = json.loads(body)
    sides = [[(Decimal(price), Decimal(quantity)) for price, quantity in found[name]] for name in ("bids", "asks")]
    return PartialDepth(symbol=symbol, last_update_id=found["lastUpdateId"], bids=sides[0], asks=sides[1])


class Checked:
    """The check of a run, begun with its first dose."""

    def __init__(self) -> None:
        self.check: DepthCheck | None = None

    def get(self, rig: Rig) -> DepthCheck:
        """The running check; the rig ends it."""
        if self.check is None:
            query = "select distinct symbol from symbol_watermark order by symbol limit %s"
            self.check = rig.enter(DepthCheck(rig, [symbol for (symbol,) in rig.rows(query, SYMBOLS)]))
            rig.seconds_until("the first books", self.check.exact, START_DEADLINE_S)
        return self.check

    def judge(self, rig: Rig) -> list[str]:
        """No book that called itself exact was wrong; Retry-After was obeyed; something was compared."""
        check = self.get(rig)
        figures = check.figures
        entries = [entry for sync in check.syncs.values() for entry in sync.ledger]
        count = sum(entry.reason is not ResyncReason.START for entry in entries)
        print(f"  {figures.compared} books compared, {len(figures.wrong)} wrong, {count} resyncs", flush=True)
        found = [*figures.wrong[:5], *figures.too_early[:5], *figures.failed]
        return found if figures.compared else [*found, "no book was compared"]


def holes(checked: Checked, name: str, doses: int, order: Order, limit_s: float = RESYNC_MAX_S) -> Kind:
    """Order something that breaks the chain; flagged, and exact again in time."""

    def apply(rig: Rig) -> float:
        check = checked.get(rig)
        symbol = rig.rng.choice(sorted(check.syncs))
        sync, before = check.syncs[symbol], len(check.syncs[symbol].ledger)
        order(rig, symbol.lower())
        rig.seconds_until("the hole to be flagged", lambda: len(sync.ledger) > before, 5.0)
        if len(sync.ledger) == before:
            raise Violation(f"{symbol}: nothing was flagged")
        rig.seconds_until("the book", lambda: sync.state is SyncState.SYNCED, 30.0)
        return max(0, *(entry.duration_ms or 30_000 for entry in list(sync.ledger)[before:])) / 1000

    return Kind(name, doses, apply, limit_s, 3.0)


def _hole(rig: Rig, symbol: str) -> None:
    rig.sim_fault("depth_hole", count=1, stream=f"{symbol}@depth@100ms")


def _hole_and_refusal(status: int) -> Order:
    def order(rig: Rig, symbol: str) -> None:
        rig.sim_fault("rest_status", duration_ms=REFUSED_MS, status=status)
        _hole(rig, symbol)

    return order


def _crossed(rig: Rig, symbol: str) -> None:
    rig.sim_fault("crossed_depth", count=1, stream=f"{symbol}@depth@100ms")


def _stale_snapshot(rig: Rig, symbol: str) -> None:
    rig.sim_fault("stale_depth", count=1, stream=f"{symbol}@depth{SNAPSHOT_LIMIT}")
    _hole(rig, symbol)


def f8() -> Scenario:
    """100 holes."""
    checked = Checked()
    kinds = (
        holes(checked, "sequence hole", 60, _hole),
        holes(checked, "crossed book", 15, _crossed),
        holes(checked, "stale snapshot", 15, _stale_snapshot, 5.0),
        holes(checked, "hole and 429", 5, _hole_and_refusal(429), 8.0),
        holes(checked, "hole and 418", 5, _hole_and_refusal(418), 8.0),
    )
    return Scenario("F8", "holes in the depth", kinds, finally_=(checked.judge,))
