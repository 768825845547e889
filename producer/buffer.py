"""What waits for the broker: one lane per topic, one bound in bytes over all of them. Pure.

A record stays here, in flight or waiting, until the broker has acknowledged it. Over the bound the oldest go:
state and chain first, then bad frames, then facts, then what we know about the feed. Each loss is counted; for
facts the lost time is remembered, so that it can be written down as an outage once the broker is back.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from market.topics import Topic

#: Memory of an entry beside its key and value: the object, its integers, two bytes headers.
ENTRY_OVERHEAD_BYTES = 300


#: Who is dropped first: lower ranks before higher ones.
RANK_REPLACEABLE = 0
RANK_BAD_FRAME = 1
RANK_FACT = 2
RANK_FEED = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One encoded record. `event_time_ms` to `event_time_ms + step_ms` is the time that is lost with it."""

    key: bytes
    value: bytes
    received_at_ms: int
    symbol: str
    event_time_ms: int
    step_ms: int
    sequence: int

    @property
    def size_bytes(self) -> int:
        """Memory that it holds."""
        return len(self.key) + len(self.value) + ENTRY_OVERHEAD_BYTES


def _nobody() -> None:
    """Nobody waits for records yet."""


@dataclass
class Lane:
    """The records of one topic, in order. `stream` is the name that outages carry, `rank` who is dropped first;
    `notify` is called with each new record."""

    topic: Topic
    stream: str
    rank: int
    waiting: deque[Entry] = field(default_factory=deque)
    in_flight: list[Entry] = field(default_factory=list)
    notify: Callable[[], None] = _nobody


@dataclass
class Loss:
    """Facts of one symbol and stream that were dropped: `from_ms` to `to_ms` (exclusive)."""

    symbol: str
    stream: str
    from_ms: int
    to_ms: int
    records: int


class Buffer:
    """Lanes under one bound. Not thread-safe: one event loop puts and takes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lanes: list[Lane] = []
        self._losses: dict[tuple[str, str], Loss] = {}
        self._sequence = 0
        self.size_bytes = 0
        self.dropped: Counter[str] = Counter()

    def add_lane(self, topic: Topic, stream: str, rank: int) -> Lane:
        """A lane for the topic; lower ranks are dropped first."""
        lane = Lane(topic, stream, rank)
        self._lanes.append(lane)
        self._lanes.sort(key=lambda one: one.rank)
        return lane

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """All lanes, those that are dropped first in front."""
        return tuple(self._lanes)

    def put(self, lane: Lane, symbol: str, value: bytes, *, times_ms: tuple[int, int, int]) -> None:
        """Append a record; `times_ms` = received at, event time, step. Drops older ones when over the bound."""
        received_at_ms, event_time_ms, step_ms = times_ms
        self._sequence += 1
        entry = Entry(symbol.encode(), value, received_at_ms, symbol, event_time_ms, step_ms, self._sequence)
        lane.waiting.append(entry)
        self.size_bytes += entry.size_bytes
        lane.notify()
        if self.size_bytes > self._max_bytes:
            self._make_room()

    def take(self, lane: Lane, max_bytes: int) -> list[Entry]:
        """The oldest waiting records up to `max_bytes` (at least one), now in flight.

        Nothing while others of this lane are in flight: order is kept by one hand-over at a time.
        """
        if lane.in_flight:
            return []
        taken_bytes = 0
        while lane.waiting and (not lane.in_flight or taken_bytes + lane.waiting[0].size_bytes <= max_bytes):
            entry = lane.waiting.popleft()
            taken_bytes += entry.size_bytes
            lane.in_flight.append(entry)
        return list(lane.in_flight)

    def settle(self, lane: Lane, unsent: Iterable[Entry]) -> int:
        """The hand-over is over: `unsent` go back to the front, the rest is done. Returns how many are done."""
        back = sorted(unsent, key=lambda entry: entry.sequence)
        done = len(lane.in_flight) - len(back)
        self.size_bytes -= sum(entry.size_bytes for entry in lane.in_flight)
        self.size_bytes += sum(entry.size_bytes for entry in back)
        lane.in_flight = []
        lane.waiting.extendleft(reversed(back))
        if self.size_bytes > self._max_bytes:
            self._make_room()
        return done

    def waiting_records(self) -> int:
        """Records that the broker has not acknowledged, in flight or not."""
        return sum(len(lane.waiting) + len(lane.in_flight) for lane in self._lanes)

    def take_losses(self) -> list[Loss]:
        """Facts lost since the last call, one entry a symbol and stream."""
        losses, self._losses = list(self._losses.values()), {}
        return losses

    def _make_room(self) -> None:
        while self.size_bytes > self._max_bytes:
            lane = self._oldest_of_lowest_rank()
            if lane is None:
                return
            entry = lane.waiting.popleft()
            self.size_bytes -= entry.size_bytes
            self.dropped[lane.topic.name] += 1
            if lane.rank == RANK_FACT:
                self._note_loss(lane, entry)

    def _oldest_of_lowest_rank(self) -> Lane | None:
        """The lane whose first record goes next; None when all that is left is in flight."""
        best: Lane | None = None
        for lane in self._lanes:
            if best is not None and lane.rank > best.rank:
                break
            if lane.waiting and (best is None or lane.waiting[0].sequence < best.waiting[0].sequence):
                best = lane
        return best

    def _note_loss(self, lane: Lane, entry: Entry) -> None:
        key = (entry.symbol, lane.stream)
        end_ms = entry.event_time_ms + entry.step_ms
        loss = self._losses.get(key)
        if loss is None:
            self._losses[key] = Loss(entry.symbol, lane.stream, entry.event_time_ms, end_ms, 1)
            return
        loss.from_ms = min(loss.from_ms, entry.event_time_ms)
        loss.to_ms = max(loss.to_ms, end_ms)
        loss.records += 1
