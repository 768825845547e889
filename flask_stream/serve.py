"""The process of the relay: gunicorn with one worker, whose threads do handshakes only.

More replicas are more processes on other ports or machines: each reads every partition.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import struct
import threading
from typing import Any, Protocol

from flask import Flask
from gunicorn.app.base import BaseApplication

from flask_stream.fan_out import FanOut
from flask_stream.handshake import Admission, new_app
from flask_stream.hub import Hub
from flask_stream.relay import Relay
from flask_stream.settings import StreamSettings
from runtime import health as health_server
from runtime import logs
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.lifecycle import Stop

log = logs.get_logger(__name__)

#: A thread waits at most HANDSHAKE_READ_S for the next bytes of a request; gunicorn itself would wait for ever.
HANDSHAKE_THREADS = 32
HANDSHAKE_READ_S = 2
HANDSHAKE_BACKLOG = 2048
#: Seconds that an answered HTTP connection is kept; a stop waits for these, too.
KEEP_ALIVE_S = 1
GRACEFUL_S = 1
#: Records are made and dropped by the thousand and hardly any is part of a circle. A search for circles stops every
#: thread, so it is made seldom.
GC_THRESHOLDS = (20_000, 50, 100)


class _Listener(Protocol):
    sock: socket.socket


class _Arbiter(Protocol):
    LISTENERS: list[_Listener]


def bound_handshakes(arbiter: _Arbiter) -> None:
    """No thread for who sends nothing, and none for long for who sends half a request.

    Accepted sockets inherit both options (Linux). A read that takes too long ends in BlockingIOError, whose
    traceback says nothing that an operator could use.
    """
    for listener in arbiter.LISTENERS:
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, HANDSHAKE_READ_S)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", HANDSHAKE_READ_S, 0))
    logging.getLogger("gunicorn.error").addFilter(_is_no_timeout)


def _is_no_timeout(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


class RelayThread:
    """The reader of Kafka in a thread of its own."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Stop | None = None
        self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask the reader to end and wait at most `timeout_s`."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:
            # A relay that reads nothing is of no use: end it, a new one starts.
            log.exception("reader_failed")
            os._exit(1)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), Stop()
        await self._relay.run(self._stop)


class RelayServer(BaseApplication):
    """gunicorn, configured here alone: no file, no command line, no GUNICORN_CMD_ARGS."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._fan_out: FanOut | None = None
        self._relay_thread: RelayThread | None = None
        super().__init__()

    def load_config(self) -> None:
        """Settings of gunicorn."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.stream_host}:{self._settings.stream_port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": HANDSHAKE_THREADS,
            "backlog": HANDSHAKE_BACKLOG,
            "keepalive": KEEP_ALIVE_S,
            "graceful_timeout": GRACEFUL_S,
            "loglevel": "warning",
            "proc_name": "flask_stream",
            "when_ready": bound_handshakes,
            "worker_exit": self._on_worker_exit,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Runs in the worker: connects the parts and starts the threads."""
        settings, clock = self._settings, SystemClock()
        gc.set_threshold(*GC_THRESHOLDS)
        logs.configure("flask_stream", settings.log_level, as_json=settings.log_json)
        health = Health("flask_stream")
        health_server.serve(health, settings.health_port, settings.health_host)
        hub = Hub(settings.stream_linger_ms)
        admission = Admission(settings.stream_max_clients, settings.stream_max_per_address)
        self._fan_out = FanOut(hub, settings, clock, admission.release)
        self._fan_out.start()
        self._relay_thread = RelayThread(Relay(settings, self._fan_out, hub, health, clock))
        self._relay_thread.start()
        return new_app(settings, hub, self._fan_out, admission, clock)

    def _on_worker_exit(self, _server: object, _worker: object) -> None:
        """SIGTERM: every client gets 1001."""
        if self._fan_out is not None and self._fan_out.is_alive:
            self._fan_out.stop()
        if self._relay_thread is not None:
            self._relay_thread.stop(0.5)
