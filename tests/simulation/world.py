"""One simulated life of the whole line: exchange, producer, broker, inserter, tasks, relay, clients, faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from market.record_codec import encode_record
from market.stream import Stream
from market.topics import Topics
from runtime.database import OperationalError
from runtime.kafka_client import KafkaError, load_topics
from tests.simulation.broker import MemoryBroker
from tests.simulation.checks import Checker
from tests.simulation.clock import BASE_MS, SimClock
from tests.simulation.depth import SimDepth
from tests.simulation.exchange import SECOND_MS, event_time_ms, make_truth
from tests.simulation.feeding import HandOver, SimProducer
from tests.simulation.inserting import SimInserter
from tests.simulation.plan import Fault, Kind, Plan, rng_of
from tests.simulation.store import StoreFaults
from tests.simulation.tables import Database
from tests.simulation.upkeep import Upkeep
from tests.simulation.violations import Anomaly, Violation
from tests.simulation.watching import SimRelay, Viewer

ROLL_UP_EVERY_S, REPAIR_EVERY_S = 5, 3
RESTART_AFTER_S = 2
LATE_MAX_S = 3
MAX_KILL_STEP = 40
ENTRY_MAX_BYTES = 2_000
CLOCK_WRONG_MAX_MS = 3_600_000


@lru_cache(1)
def topics() -> Topics:
    """The declared topics."""
    return load_topics()


class Classes:
    """The parts that a planted bug may replace."""

    producer: type[SimProducer] = SimProducer
    inserter: type[SimInserter] = SimInserter
    upkeep: type[Upkeep] = Upkeep
    depth: type[SimDepth] = SimDepth


@dataclass(frozen=True)
class _Entry:
    """A candle on its way to the log."""

    key: bytes
    value: bytes
    received_at_ms: int


class _StoreTrouble(StoreFaults):
    """The store's share of the plan."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = rng_of(world.plan.seed, "store")

    def before(self, operation: str) -> None:
        world = self._world
        share = world.level(Kind.STORE_ERRORS) * 0.1
        if world.is_on(Kind.STORE_AWAY) or (share and self._rng.random() < share):
            world.fault_count += 1
            raise OperationalError(f"simulated: {operation}")

    def commit(self) -> bool | None:
        share = self._world.level(Kind.COMMIT_LOST) * 0.3
        if share and self._rng.random() < share:
            self._world.fault_count += 1
            return self._rng.random() < 0.5
        return None


class World:
    """Everything of one seed. `run` raises Violation."""

    def __init__(self, plan: Plan, classes: type[Classes] = Classes) -> None:
        self.plan, self._classes = plan, classes
        self.fault_count = 0
        self.now_s = 0
        self._topics = topics()
        self._active: dict[Kind, Fault] = {}
        self._clock = SimClock()
        self._broker = MemoryBroker(self._topics, self._clock, plan.retention, rng_of(plan.seed, "broker"))
        self._database = Database(self._clock)
        self._truths = {
            symbol: make_truth(
                symbol,
                plan.total_s + 1,
                rng_of(plan.seed, symbol),
                with_trades=plan.with_trades,
                absent_share=plan.absent_share,
                absent_until_s=plan.length_s,
            )
            for symbol in plan.symbols
        }
        self._checker = Checker(self._topics, self._truths, self._database, self._broker)
        self._network = rng_of(plan.seed, "network")
        self._luck = {kind: rng_of(plan.seed, kind.name) for kind in {fault.kind for fault in plan.faults}}
        self._streams = (Stream.KLINE_1S, Stream.TRADE) if plan.with_trades else (Stream.KLINE_1S,)
        self._late: defaultdict[int, list[Callable[[], None]]] = defaultdict(list)
        self._producers: list[SimProducer] = []
        self._producer_count = 0
        self._producer_start_s = 0
        self._store_trouble = _StoreTrouble(self)
        self._inserters: list[SimInserter] = []
        self._inserter_start_s = 0
        self._orders: list[tuple[SimInserter, str, int]] = []
        self._upkeep = classes.upkeep(self._database, self._truths, rng_of(plan.seed, "upkeep"))
        #: in every second life: thousands are lived, and their time is limited
        self._depth = None if plan.seed % 2 else classes.depth(plan.symbols[0], rng_of(plan.seed, "depth"), self.level)
        self._outbox: list[_Entry] = []
        self._relay = SimRelay(self._topics, self._broker, self._clock)
        self._viewers = [Viewer(channels, self._relay.hub, self._clock) for channels in self._channels()]

    def _channels(self) -> list[list[str]]:
        first = self.plan.symbols[0]
        fast = [f"kline:{first}:1s", f"trade:{first}"] if self.plan.with_trades else [f"kline:{first}:1s"]
        return [fast, [f"kline:{first}:1m", f"kline:{first}:5m", f"feed:{first}"]]

    def is_on(self, kind: Kind) -> bool:
        """Whether such a fault lasts now."""
        return kind in self._active

    def level(self, kind: Kind) -> float:
        """How bad it is now; 0 = not at all."""
        fault = self._active.get(kind)
        return fault.level if fault is not None else 0.0

    def run(self) -> None:
        """From the first second to the last, then demand that everything has come right."""
        for now_s in range(self.plan.total_s):
            self.now_s = now_s
            self._second()
        self._check_end()

    def _second(self) -> None:
        clock = self._clock
        clock.advance(SECOND_MS)
        self._active = {f.kind: f for f in self.plan.faults if f.start_s <= self.now_s < f.end_s}
        self._broker.is_away = self.is_on(Kind.BROKER_AWAY)
        self._set_clock()
        for fault in self._active.values():
            if fault.start_s == self.now_s:
                self.fault_count += 1
                self._begin(fault)
        self._start_processes()
        self._send_frames()
        for deliver in self._late.pop(self.now_s, ()):
            deliver()
        self._run_producers()
        self._broker.tick()
        self._run_inserters()
        self._run_tasks()
        self._run_relay()
        if self._depth is not None:
            self._depth.tick(self.now_s)

    def _set_clock(self) -> None:
        fault = self._active.get(Kind.CLOCK)
        if fault is None:
            self._clock.wrong_by_ms = 0
            return
        sign = -1 if fault.start_s % 2 else 1
        self._clock.wrong_by_ms = sign * int(CLOCK_WRONG_MAX_MS * fault.level)

    def _begin(self, fault: Fault) -> None:
        """What happens at once when a fault begins."""
        luck = self._luck[fault.kind]
        is_reachable = not self.is_on(Kind.UNREACHABLE)
        if fault.kind in (Kind.CUT, Kind.UNREACHABLE):
            if self._depth is not None:
                self._depth.cut(self.now_s)
            for producer in self._producers:
                producer.cut()
        elif fault.kind is Kind.SILENCE and fault.level > 0.5 and self._depth is not None:
            self._depth.restart()
        elif fault.kind is Kind.ROTATE:
            for producer in self._producers:
                producer.replace(is_reachable=is_reachable)
        elif fault.kind is Kind.PRODUCER_KILL and self._producers:
            self._producers.pop(0)
            self._producer_start_s = self.now_s + int(fault.level * 10)
        elif fault.kind is Kind.PRODUCER_OVERLAP:
            self._start_producer()
        elif fault.kind is Kind.BROKER_TAIL:
            for partition, log in self._broker.logs.items():
                end = log.end
                if self._broker.lose_tail(partition, luck.randrange(1, 21)):
                    self._checker.on_tail_lost(partition, end)
        elif fault.kind is Kind.TOPIC_RECREATED:
            topic = luck.choice((self._topics.kline_1s, self._topics.kline_1s, self._topics.feed_outage))
            self._broker.make_topic(topic.name, topic.partitions)
        elif fault.kind in (Kind.INSERTER_KILL, Kind.INSERTER_ZOMBIE) and self._inserters:
            order = "kill" if fault.kind is Kind.INSERTER_KILL else "pause"
            self._orders.append((self._inserters[-1], order, luck.randrange(MAX_KILL_STEP)))
            if order == "pause":
                self._inserters[-1].paused_until_s = self._clock.monotonic_s() + fault.end_s - self.now_s
                self._inserters.append(self._new_inserter())
        elif fault.kind is Kind.INSERTER_STOP:
            for inserter in self._inserters:
                inserter.kill()
        elif fault.kind is Kind.SLOW_CLIENTS and fault.level > 0.5:
            for viewer in self._viewers:
                viewer.drop()

    # --- processes -----------------------------------------------------------------------------------------------

    def _start_processes(self) -> None:
        self._producers = [producer for producer in self._producers if not producer.is_dead]
        if not self._producers and self.now_s >= self._producer_start_s:
            self._start_producer()
        elif len(self._producers) > 1 and not self.is_on(Kind.PRODUCER_OVERLAP):
            self._producers.pop(0)
        alive = [inserter for inserter in self._inserters if not inserter.is_dead]
        if len(alive) < len(self._inserters):
            self._inserter_start_s = self.now_s + RESTART_AFTER_S
        self._inserters = alive
        if not alive and not self.is_on(Kind.INSERTER_STOP) and self.now_s >= self._inserter_start_s:
            self._inserters.append(self._new_inserter())

    def _start_producer(self) -> None:
        self._producer_count += 1
        parts = (self._topics, self._broker, self._clock)
        self._producers.append(
            self._classes.producer(
                self._producer_count, self.plan.symbols, self._streams, parts, self.plan.buffer_bytes
            )
        )

    def _new_inserter(self) -> SimInserter:
        parts = (self._broker, self._database, self._clock)
        return self._classes.inserter(self._topics, parts, self._store_trouble, self.plan.batch_rows)

    # --- the line ------------------------------------------------------------------------------------------------

    def _send_frames(self) -> None:
        """What the exchange says of the second that has just ended, to every connection."""
        if self.is_on(Kind.SILENCE) or self.is_on(Kind.UNREACHABLE):
            return
        for truth in self._truths.values():
            second = truth.seconds[self.now_s]
            if second.open_ms in truth.absent:
                continue
            frames = [(truth.frame(second), event_time_ms(second))]
            if self.now_s % 7 == 0:
                frames.insert(0, (truth.frame(second, is_closed=False), -1))
            if self.plan.with_trades:
                frames.extend((truth.trade_frame(trade), -1) for trade in truth.trades.get(second.open_ms, ()))
            for producer in self._producers:
                for connection in producer.connections:
                    for frame, event_ms in frames:
                        self._carry(producer, connection, frame, (truth.symbol, event_ms))

    def _carry(self, producer: SimProducer, connection: str, frame: bytes, what: tuple[str, int]) -> None:
        """The network between exchange and producer."""
        active = self._active
        if not active:
            self._deliver(producer, connection, frame, what)
            return
        draw = self._network.random
        if Kind.DROP in active and draw() < self.level(Kind.DROP) * 0.3:
            self.fault_count += 1
            return
        if Kind.BAD_FRAME in active and draw() < self.level(Kind.BAD_FRAME) * 0.2:
            self.fault_count += 1
            producer.on_frame(connection, frame[: int(draw() * len(frame))] if draw() < 0.7 else b"\xff\x00nonsense")
        copies = 1
        if Kind.DUPLICATE in active and draw() < self.level(Kind.DUPLICATE) * 0.3:
            self.fault_count += 1
            copies = 2
        for _ in range(copies):
            if Kind.REORDER in active and draw() < self.level(Kind.REORDER) * 0.3:
                self.fault_count += 1
                at_s = self.now_s + 1 + int(draw() * LATE_MAX_S)
                self._late[at_s].append(lambda: self._deliver(producer, connection, frame, what))
            else:
                self._deliver(producer, connection, frame, what)

    def _deliver(self, producer: SimProducer, connection: str, frame: bytes, what: tuple[str, int]) -> None:
        if connection in producer.connections:
            producer.on_frame(connection, frame)
            if what[1] >= 0 and not producer.is_dead:
                self._checker.on_delivered(producer.number, *what)

    def _run_producers(self) -> None:
        for producer in self._producers:
            producer.tick(is_reachable=not self.is_on(Kind.UNREACHABLE))
            self._checker.producer, self._checker.may_repeat = producer.number, producer.may_repeat
            producer.pump(self._hand_over_outcome)
            if producer.buffer.size_bytes > self.plan.buffer_bytes + ENTRY_MAX_BYTES:
                raise Violation(Anomaly.MEMORY, f"{producer.buffer.size_bytes} bytes in the producer's buffer")

    def _hand_over_outcome(self) -> HandOver:
        share = self.level(Kind.BROKER_FLAKY) * 0.3
        if share and (luck := self._luck[Kind.BROKER_FLAKY]).random() < share:
            self.fault_count += 1
            return HandOver(is_stored=luck.random() < 0.5, is_told=False)
        return HandOver(is_stored=True, is_told=True)

    def _run_inserters(self) -> None:
        for inserter in list(self._inserters):
            orders = [(what, step) for of, what, step in self._orders if of is inserter]
            self._orders = [order for order in self._orders if order[0] is not inserter]
            kill_at = next((step for what, step in orders if what == "kill"), -1)
            pause_at = next((step for what, step in orders if what == "pause"), -1)
            if pause_at >= 0:
                # It still runs up to that step of this turn.
                until_s, inserter.paused_until_s = inserter.paused_until_s, 0.0
            inserter.tick({kill_at: "kill", pause_at: "pause"})
            if pause_at >= 0:
                inserter.paused_until_s = until_s
            if kill_at >= 0 and not inserter.is_dead:
                inserter.kill()

    def _run_tasks(self) -> None:
        upkeep, is_away = self._upkeep, self.is_on(Kind.STORE_AWAY)
        modes = {Kind.REST_ERRORS: "errors", Kind.REST_PARTIAL: "partial", Kind.REST_BAD: "bad"}
        upkeep.rest_mode = next((mode for kind, mode in modes.items() if self.is_on(kind)), "ok")
        if not is_away and self.now_s % ROLL_UP_EVERY_S == 0:
            for is_killed in self._deliveries():
                for candle in upkeep.roll_up_dirty(is_killed=is_killed):
                    entry = _Entry(candle.symbol.encode(), encode_record(candle), self._clock.now_ms())
                    self._outbox.append(entry)
        if not is_away and self.now_s % REPAIR_EVERY_S == 0:
            upkeep.repair(self._clock.monotonic_s(), self._clock.true_ms)
        try:
            while self._outbox:
                partition = self._broker.partition_of(self._topics.candle.name, self._outbox[0].key)
                self._broker.append(partition, self._outbox[:1])
                del self._outbox[0]
        except KafkaError:
            return

    def _deliveries(self) -> list[bool]:
        """How often the task runs now, and whether each run is killed before its commit."""
        if not self.is_on(Kind.TASKS):
            return [False]
        luck = self._luck[Kind.TASKS]
        self.fault_count += 1
        return [luck.random() < 0.3 for _ in range(luck.randrange(4))]

    def _run_relay(self) -> None:
        self._relay.tick()
        for viewer in self._viewers:
            room_bytes: int | None = None
            if self.is_on(Kind.SLOW_CLIENTS):
                self.fault_count += 1
                room_bytes = self._luck[Kind.SLOW_CLIENTS].choice((0, 0, 200, 2_000))
            viewer.tick(room_bytes)

    # --- the end -------------------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        # The minute that ended last, if it is not rolled up yet.
        if self._depth is not None:
            self._depth.check_end(self.now_s)
            self.fault_count += self._depth.fault_count
        self._active, self.now_s = {}, self.now_s - self.now_s % ROLL_UP_EVERY_S
        self._run_tasks()
        self._run_relay()
        producer = self._producers[-1]
        self._checker.check_converged(
            BASE_MS + (self.plan.total_s - 2) * SECOND_MS,
            producer=None if producer.buffer.dropped else producer.number,
        )
        for viewer in self._viewers:
            viewer.require_current()
