"""The one thread that reads from and writes to every client (decision record 0006).

Kafka records come in batches, one wake-up a batch. Each event is encoded once and sent raw and non-blocking;
what a client does not take waits in its own bounded buffer, so nobody waits for anybody.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from prometheus_client import Counter, Gauge, Histogram

from flask_stream.client import CLOSE_DEADLINE_S, Client, Session
from flask_stream.frames import CloseCode
from flask_stream.hub import Hub, Record
from flask_stream.inbound import Closing, Inbound, Message, PingReceived
from flask_stream.settings import StreamSettings
from market.errors import MarketError
from runtime.clock import Clock
from runtime.logs import get_logger

TICK_S: Final = 0.25
RECEIVE_BYTES: Final = 16_384
MAX_EVENTS: Final = 1_024
STOP_DEADLINE_S: Final = 1.0

CONNECTIONS = Gauge("relay_connections", "clients connected")
DISCONNECTS = Counter("relay_disconnects", "clients gone, by reason", ["reason"])
QUEUE_BYTES = Gauge("relay_queue_bytes", "bytes waiting for slow clients")
RECORDS = Counter("relay_records", "Kafka records passed on", ["content"])
BAD_RECORDS = Counter("relay_bad_records", "Kafka records that could not be used", ["content"])
DELIVERY = Histogram(
    "relay_delivery_seconds",
    "from the broker's time of a record to its last send",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

log = get_logger(__name__)

#: Makes the session of a new client.
SessionMaker = Callable[[Client], Session]


class FanOut:
    """Owns the clients. `adopt`, `offer`, `call` and `stop` may be called from other threads."""

    def __init__(self, hub: Hub, settings: StreamSettings, clock: Clock, on_gone: Callable[[str], None]) -> None:
        self._hub = hub
        self._settings = settings
        self._clock = clock
        self._on_gone = on_gone
        self._epoll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._calls: deque[Callable[[], None]] = deque()
        self._clients: dict[int, Client] = {}
        self._watched: dict[Client, None] = {}
        self._blocked: dict[Client, None] = {}
        self._queued_records = 0
        self._count_lock = threading.Lock()
        self._is_stopping = False
        self._next_tick_s = 0.0
        self._next_second_s = 0.0
        self._bad_contents: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="fan-out", daemon=True)

    @property
    def queued_records(self) -> int:
        """Records offered and not yet passed on: the reader waits while there are many."""
        return self._queued_records

    @property
    def is_alive(self) -> bool:
        """False before the start and after the end."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def adopt(self, sock: socket.socket, address: str, make_session: SessionMaker) -> None:
        """Take over a socket whose handshake is done."""
        self.call(lambda: self._add(sock, address, make_session))

    def offer(self, batch: Sequence[Record]) -> None:
        """Pass these records on, in order."""
        with self._count_lock:
            self._queued_records += len(batch)
        self.call(lambda: self._publish(batch))

    def call(self, action: Callable[[], None]) -> None:
        """Run `action` in the fan-out thread."""
        self._calls.append(action)
        os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        """Close every client with 1001 and end the thread; returns within STOP_DEADLINE_S or a little later."""
        self.call(self._begin_stop)
        self._thread.join(STOP_DEADLINE_S + TICK_S)

    # --- the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._is_stopping and (not self._clients or self._clock.monotonic_s() > self._stop_by_s)):
                self._turn()
        except Exception:
            # Without this thread the process is of no use: end it, the supervisor starts a new one.
            log.exception("fan_out_failed")
            os._exit(1)

    def _turn(self) -> None:
        wait_s = max(0.0, min(TICK_S, self._next_tick_s - self._clock.monotonic_s()))
        for fd, mask in self._epoll.poll(0 if self._calls else wait_s, MAX_EVENTS):
            if fd == self._wake_fd:
                os.eventfd_read(self._wake_fd)
                continue
            client = self._clients.get(fd)
            if client is not None:
                self._serve(client, mask)
        if self._calls:
            self._calls.popleft()()
        if self._watched:
            self._look_at_watched()
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + TICK_S
            self._on_tick(now_s)

    def _serve(self, client: Client, mask: int) -> None:
        if mask & select.EPOLLOUT:
            client.flush(self._clock.monotonic_s())
        if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and not client.is_finished:
            try:
                data = client.sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                client.finish("gone")
                return
            if not data:
                client.finish("gone")
            elif not client.is_closing:
                self._on_data(client, data)

    def _on_data(self, client: Client, data: bytes) -> None:
        now_s = self._clock.monotonic_s()
        client.heard_s = now_s
        for event in client.inbound.receive(data, now_s):
            if isinstance(event, Message):
                if client.session is not None:
                    client.session.on_text(event.text)
            elif isinstance(event, PingReceived):
                client.pong(event.payload)
            else:
                self._on_closing(client, event)
            if client.is_closing or client.is_finished:
                return

    def _on_closing(self, client: Client, event: Closing) -> None:
        if event.by_client:
            code = event.code if event.code not in (1005, 1006) else CloseCode.NORMAL
            client.close(code, "", "by_client")
        else:
            client.close(event.code, event.reason, CloseCode(event.code).name.lower())

    def _publish(self, batch: Sequence[Record]) -> None:
        now_ms = self._clock.now_ms()
        for record in batch:
            try:
                self._hub.on_record(record, now_ms)
            except (MarketError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                BAD_RECORDS.labels(record.content).inc()
                if record.content not in self._bad_contents:
                    self._bad_contents.add(record.content)
                    log.warning("bad_record", content=record.content, symbol=record.symbol, error=str(error)[:200])
        with self._count_lock:
            self._queued_records -= len(batch)
        if batch:
            RECORDS.labels(batch[-1].content).inc(len(batch))
            DELIVERY.observe(max(0, self._clock.now_ms() - batch[-1].appended_ms) / 1000)

    # --- clients ---------------------------------------------------------------------------------------------

    def _add(self, sock: socket.socket, address: str, make_session: SessionMaker) -> None:
        now_s = self._clock.monotonic_s()
        inbound = Inbound(self._settings.stream_max_frame_bytes, now_s)
        client = Client(sock, address, self._settings.stream_buffer_bytes, inbound, self._watch)
        client.heard_s = client.progress_s = now_s
        client.ping_at_s = now_s + self._settings.stream_ping_interval_ms / 1000
        self._clients[sock.fileno()] = client
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        CONNECTIONS.set(len(self._clients))
        client.session = make_session(client)
        if self._is_stopping:
            client.close(CloseCode.GOING_AWAY, "the relay stops", "stop")

    def _watch(self, client: Client) -> None:
        self._watched[client] = None

    def _look_at_watched(self) -> None:
        """Clients that have got blocked, are free again, or have ended."""
        watched, self._watched = self._watched, {}
        now_s = self._clock.monotonic_s()
        for client in watched:
            if client.is_finished:
                self._remove(client)
                continue
            if client.is_closing and not client.deadline_s:
                client.deadline_s = now_s + CLOSE_DEADLINE_S
                if client.session is not None:
                    client.session.on_gone()
                    client.session = None
            if client.is_blocked and client not in self._blocked:
                client.progress_s = now_s
                self._blocked[client] = None
                self._epoll.modify(client.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
            elif not client.is_blocked and client in self._blocked:
                del self._blocked[client]
                self._epoll.modify(client.sock.fileno(), select.EPOLLIN)

    def _remove(self, client: Client) -> None:
        fd = client.sock.fileno()
        if self._clients.pop(fd, None) is None:
            return
        self._epoll.unregister(fd)
        self._blocked.pop(client, None)
        client.sock.close()
        if client.session is not None:
            client.session.on_gone()
            client.session = None
        DISCONNECTS.labels(client.close_reason or "gone").inc()
        CONNECTIONS.set(len(self._clients))
        self._on_gone(client.address)

    # --- time ------------------------------------------------------------------------------------------------

    def _on_tick(self, now_s: float) -> None:
        write_deadline_s = self._settings.stream_write_deadline_ms / 1000
        for client in list(self._blocked):
            if not client.is_closing and now_s - client.progress_s > write_deadline_s:
                client.close(CloseCode.TOO_SLOW, "too slow", "too_slow")
                if client.is_blocked:
                    client.finish("too_slow")
        QUEUE_BYTES.set(sum(client.waiting_bytes for client in self._blocked))
        ping_s = self._settings.stream_ping_interval_ms / 1000
        dead_s = self._settings.stream_dead_after_ms / 1000
        for client in self._clients.values():
            if client.is_closing:
                if now_s > client.deadline_s > 0:
                    client.finish(client.close_reason)
            elif now_s - client.heard_s > dead_s:
                client.finish("dead")
            elif now_s >= client.ping_at_s:
                client.ping_at_s = now_s + ping_s
                client.ping()
        if now_s >= self._next_second_s:
            self._next_second_s = now_s + 1.0
            self._hub.on_second_tick(self._clock.now_ms())
        if self._watched:
            self._look_at_watched()

    def _begin_stop(self) -> None:
        self._is_stopping = True
        self._stop_by_s = self._clock.monotonic_s() + STOP_DEADLINE_S
        for client in list(self._clients.values()):
            client.close(CloseCode.GOING_AWAY, "the relay stops", "stop")
