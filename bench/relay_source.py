"""The relay with a made-up feed in place of Kafka: `python -m bench.relay_source CLIENTS PER_SECOND SECONDS BYTES`.

Starts once CLIENTS listen to `trade:BENCHUSDT`; each message carries the monotonic time (ns) when it was due.
Everything behind the reader of Kafka is the product's own.
"""

from __future__ import annotations

import sys
import threading
import time

from flask import Flask

from flask_stream.channels import NO_TIMES, envelope, stamp
from flask_stream.fan_out import FanOut
from flask_stream.handshake import Admission, new_app
from flask_stream.hub import Hub, Record
from flask_stream.names import Content
from flask_stream.serve import RelayServer
from flask_stream.settings import StreamSettings
from runtime import health as health_server
from runtime.clock import SystemClock, sleep_s
from runtime.health import Health
from runtime.settings import load

SYMBOL = "BENCHUSDT"
CHANNEL = f"trade:{SYMBOL}"
POLL_S = 0.05
PAUSE_S = 1.0


def padding(message_bytes: int) -> int:
    """How much padding makes a whole message of this size."""
    now_ms = SystemClock().now_ms()
    data = value(0, 0)
    frame = envelope(b'"%b"' % CHANNEL.encode(), now_ms * 1000, b"update", stamp(NO_TIMES, now_ms, now_ms), data)
    header_bytes = 4
    return message_bytes - (len(frame) - header_bytes)


def value(due_ns: int, padding_bytes: int) -> bytes:
    """A record with the time when it was due."""
    return b'{"due":"@%020d","padding":"%b"}' % (due_ns, b"x" * padding_bytes)


class PacedRelay(RelayServer):
    """The relay's process, fed on schedule."""

    def __init__(self, settings: StreamSettings, clients: int, per_second: int, messages: int, size: int) -> None:
        self._clients, self._per_second, self._messages = clients, per_second, messages
        self._padding = padding(size)
        self._told = settings
        super().__init__(settings)

    def load(self) -> Flask:
        """As the product, with our feed."""
        settings, clock = self._told, SystemClock()
        health = Health("flask_stream")
        health_server.serve(health, settings.health_port)
        hub = Hub(settings.stream_linger_ms)
        admission = Admission(settings.stream_max_clients, settings.stream_max_per_address)
        fan_out = FanOut(hub, settings, clock, admission.release)
        fan_out.start()
        threading.Thread(target=self._feed, args=(hub, fan_out, clock), daemon=True).start()
        health.set_ready()
        return new_app(settings, hub, fan_out, admission, clock)

    def _feed(self, hub: Hub, fan_out: FanOut, clock: SystemClock) -> None:
        while self._listening(hub) < self._clients:
            sleep_s(POLL_S)
        start_ns = time.monotonic_ns() + int(PAUSE_S * 1e9)
        for number in range(self._messages):
            due_ns = start_ns + number * 1_000_000_000 // self._per_second
            sleep_s(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            fan_out.offer([Record(Content.TRADE, SYMBOL, value(due_ns, self._padding), clock.now_ms())])

    def _listening(self, hub: Hub) -> int:
        state = hub.symbols.get(SYMBOL)
        channel = state.live.get("trade") if state is not None else None
        return len(channel.subscribers) if channel is not None else 0


def main() -> None:
    """Entry point."""
    clients, per_second, seconds, size = (int(text) for text in sys.argv[1:5])
    PacedRelay(load(StreamSettings), clients, per_second, per_second * seconds, size).run()


if __name__ == "__main__":
    main()
