"""A producer process in a simulation: the product's Feed and Buffer, driven as its slots and its pump drive them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from market.stream import Stream
from market.topics import Topics
from producer.buffer import Buffer, Entry, Lane
from producer.connections import Handover, StreamKey
from producer.feed import BadShare, Feed, TooManyBadFrames
from runtime.kafka_client import KafkaError, TopicPartition
from tests.simulation.broker import MemoryBroker
from tests.simulation.clock import SimClock

OVERLAP_S = 5.0
REPLACE_SILENT_EVERY_S = 6.0
#: Of a lane in a second. What the longest outage holds back has to be through before the end is judged.
MAX_TAKE_BYTES = 12_000
BAD_WINDOW_FRAMES = 200


@dataclass(frozen=True)
class HandOver:
    """What becomes of one hand-over: `is_stored` in the log or not, `is_told` to the producer or not."""

    is_stored: bool
    is_told: bool


class SimProducer:
    """One life of a producer. `number` makes its connections' names its own."""

    def __init__(
        self,
        number: int,
        symbols: tuple[str, ...],
        streams: tuple[Stream, ...],
        parts: tuple[Topics, MemoryBroker, SimClock],
        buffer_bytes: int,
    ) -> None:
        topics, self._broker, self._clock = parts
        self.number = number
        keys = [StreamKey(symbol, stream) for symbol in symbols for stream in streams]
        self._names = tuple(key.name for key in keys)
        self.buffer_bytes = buffer_bytes
        self.buffer = Buffer(buffer_bytes)
        self.feed = Feed(keys, topics, self.buffer, self._clock, BadShare(BAD_WINDOW_FRAMES, max_share=0.5))
        self.feed.report_start()
        self._sessions = 0
        self.current: str | None = None
        self._new: str | None = None
        self._handover: Handover | None = None
        self._connect_at_s = 0.0
        self._silence_not_before_s = 0.0
        self.is_dead = False
        #: hand-overs that may have stored records without our knowing it: from then on a record may be there twice
        self.may_repeat = False

    @property
    def connections(self) -> list[str]:
        """Those over which frames come now."""
        return [name for name in (self.current, self._new) if name is not None]

    def on_frame(self, connection: str, frame: bytes) -> None:
        """A frame came over one of the connections; those of a connection that is gone were lost with it."""
        if self.is_dead or connection not in self.connections:
            return
        try:
            self.feed.on_frame(connection, frame)
        except TooManyBadFrames:
            self.is_dead = True

    def tick(self, *, is_reachable: bool) -> None:
        """What the slot does between frames: connect, notice silence, finish a hand-over of connections."""
        now_s = self._clock.monotonic_s()
        if self.current is None:
            if now_s < self._connect_at_s:
                return
            if not is_reachable:
                self.feed.on_unreachable(self._names, "exchange cannot be reached")
                self._connect_at_s = now_s + 2.0
                return
            self.current = self._open()
        elif self._handover is not None:
            if self._handover.is_over(now_s):
                self._end_handover("replaced")
        elif self.feed.silent_streams(self._names) and now_s >= self._silence_not_before_s:
            self._silence_not_before_s = now_s + REPLACE_SILENT_EVERY_S
            self.replace(is_reachable=is_reachable)

    def replace(self, *, is_reachable: bool) -> None:
        """Open a successor while the old connection goes on."""
        if self.current is None or self._handover is not None or not is_reachable:
            return
        deadline_s = self._clock.monotonic_s() + OVERLAP_S
        self._handover = Handover(self.feed.living_streams(self._names), deadline_s)
        self._new = self._open()
        self.feed.on_delivered[self._new] = self._handover.delivered

    def cut(self) -> None:
        """The connection breaks; a successor that is being opened lives on."""
        if self._new is not None:
            self._end_handover("cut")
        elif self.current is not None:
            self.feed.on_gone(self.current, self._names, "cut")
            self.current = None
            self._connect_at_s = self._clock.monotonic_s() + 1.0

    def _open(self) -> str:
        self._sessions += 1
        name = f"p{self.number}.{self._sessions}"
        self.feed.on_listening(name, self._names)
        return name

    def _end_handover(self, detail: str) -> None:
        old, self.current, self._new, self._handover = self.current, self._new, None, None
        assert old is not None
        assert self.current is not None
        self.feed.on_delivered.pop(self.current, None)
        self.feed.on_gone(old, self._names, detail)

    def pump(self, outcome: Callable[[], HandOver]) -> None:
        """One hand-over of each lane, as far as the broker takes it."""
        all_done = True
        for lane in self.buffer.lanes:
            if lane.waiting:
                all_done &= self._hand_over(lane, outcome())
        if all_done and not self._broker.is_away:
            self.feed.report_losses()

    def _hand_over(self, lane: Lane, outcome: HandOver) -> bool:
        entries = self.buffer.take(lane, MAX_TAKE_BYTES)
        unsent: list[Entry] = entries
        try:
            if outcome.is_stored:
                parts: dict[TopicPartition, list[Entry]] = {}
                for entry in entries:
                    parts.setdefault(self._broker.partition_of(lane.topic.name, entry.key), []).append(entry)
                for partition, part in parts.items():
                    self._broker.append(partition, part)
            if outcome.is_stored and outcome.is_told:
                unsent = []
            elif outcome.is_stored:
                self.may_repeat = True
        except KafkaError:
            pass
        self.buffer.settle(lane, unsent)
        return not unsent
