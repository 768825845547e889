"""The relay in a simulation: the product's Hub, LiveSession and Client with sockets that take what they are told to.

The client's side parses the bytes by itself and knows docs/LIVE.md: numbers rise by one for facts, never go back for
state, and may only be skipped there while updates wait for a slow reader.
"""

from __future__ import annotations

import json
import socket
from typing import cast

import msgspec

from flask_stream.client import MAX_ASKED_BYTES, SEND_CHUNK_BYTES, Client
from flask_stream.frames import CloseCode
from flask_stream.hub import Hub, Record
from flask_stream.inbound import Inbound
from flask_stream.live_dialect import LiveSession
from flask_stream.names import Content, parse_channel
from market.topics import Topics
from runtime.kafka_client import KafkaError, OffsetOutOfRangeError, TopicPartition
from tests.simulation.broker import MemoryBroker
from tests.simulation.clock import SimClock
from tests.simulation.violations import Anomaly, Violation
from tests.slow_line import ALL_BYTES, SlowLine

BUFFER_BYTES = 12_000
WRITE_DEADLINE_S = 2.0
LINGER_MS = 30_000
READ_RECORDS = 500
MAX_HELD_BYTES = BUFFER_BYTES + MAX_ASKED_BYTES + 2 * SEND_CHUNK_BYTES


class _Message(msgspec.Struct):
    ch: str = ""
    seq: int = -1
    kind: str = ""


_message = msgspec.json.Decoder(_Message)


class Viewer:
    """A browser: subscribes, checks every number, comes back with `since` when it was cut off."""

    def __init__(self, channels: list[str], hub: Hub, clock: SimClock) -> None:
        self._channels, self._hub, self._clock = channels, hub, clock
        self.last: dict[str, int] = {}
        self._was_slow = False
        self.is_slow = False
        self._connect()

    def _connect(self) -> None:
        self._parsed = 0
        self._socket = SlowLine()
        inbound = Inbound(4096, self._clock.monotonic_s())
        self.client = Client(cast(socket.socket, self._socket), "a", BUFFER_BYTES, inbound, lambda _: None)
        self._session = LiveSession(self.client, self._hub, self._clock)
        self._session.on_text(json.dumps({"op": "subscribe", "ch": self._channels, "since": self.last}))

    def tick(self, room_bytes: int | None) -> None:
        """The network takes `room_bytes` now (None: all); the loop's duties towards a blocked client."""
        self._socket.room_bytes = ALL_BYTES if room_bytes is None else room_bytes
        client, now_s = self.client, self._clock.monotonic_s()
        if client.is_blocked:
            self._was_slow = True
            client.flush(now_s)
        if client.waiting_bytes > MAX_HELD_BYTES:
            raise Violation(Anomaly.MEMORY, f"{client.waiting_bytes} bytes wait for one client")
        if client.is_blocked and now_s - client.progress_s > WRITE_DEADLINE_S:
            client.close(CloseCode.TOO_SLOW, "too slow", "too_slow")
            client.finish("too_slow")
        self._parse()
        if client.is_closing or client.is_finished:
            self._session.on_gone()
            self._connect()

    def require_current(self) -> None:
        """After healing: the newest number of every channel has come."""
        for name in self._channels:
            parsed = parse_channel(name)
            newest = self._hub.symbols[parsed.symbol].live[parsed.within_symbol].seq
            if self.last.get(name) != newest:
                raise Violation(Anomaly.RELAY, f"{name}: the client has {self.last.get(name)} of {newest}")

    def drop(self) -> None:
        """The connection breaks: what was under way is lost."""
        self.client.finish("gone")

    def _parse(self) -> None:
        wire = self._socket.taken
        at = self._parsed
        while at + 2 <= len(wire):
            size, header = wire[at + 1], 2
            if size == 126:
                size, header = int.from_bytes(wire[at + 2 : at + 4]), 4
            elif size == 127:
                size, header = int.from_bytes(wire[at + 2 : at + 10]), 10
            if at + header + size > len(wire):
                break
            if wire[at] & 0x0F == 1:
                self._on_message(_message.decode(memoryview(wire)[at + header : at + header + size]))
            at += header + size
        self._parsed = at

    def _on_message(self, message: _Message) -> None:
        last = self.last.get(message.ch)
        if message.kind in ("snapshot", "reset"):
            self.last[message.ch] = message.seq
        elif message.kind == "update":
            is_next = last is not None and message.seq == last + 1
            may_skip = self._was_slow and not message.ch.startswith("trade:")
            if not is_next and not (may_skip and last is not None and message.seq > last):
                raise Violation(Anomaly.RELAY, f"{message.ch}: update {message.seq} follows {last} without a reset")
            self.last[message.ch] = message.seq


class SimRelay:
    """The reader's side: from the log into the hub."""

    def __init__(self, topics: Topics, broker: MemoryBroker, clock: SimClock) -> None:
        self._broker, self._clock = broker, clock
        self.hub = Hub(LINGER_MS)
        self._contents = {
            topics.kline_1s.name: Content.SECOND,
            topics.trade.name: Content.TRADE,
            topics.candle.name: Content.CANDLE,
            topics.feed_outage.name: Content.FEED,
        }
        self._offsets: dict[TopicPartition, int] = {
            partition: 0 for name in self._contents for partition in broker.partitions(name)
        }

    def tick(self) -> None:
        """Pass on what is new."""
        now_ms = self._clock.now_ms()
        for partition, offset in self._offsets.items():
            content = self._contents[partition.topic]
            try:
                records = self._broker.fetch(partition, offset, READ_RECORDS)
            except OffsetOutOfRangeError:
                self._offsets[partition] = self._broker.logs[partition].start
                self.hub.on_lost(content, now_ms)
                continue
            except KafkaError:
                return
            for record in records:
                self.hub.on_record(Record(content, record.key.decode(), record.value, record.timestamp), now_ms)
            if records:
                self._offsets[partition] = records[-1].offset + 1
        self.hub.on_second_tick(now_ms)
