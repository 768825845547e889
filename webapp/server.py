"""gunicorn's threaded worker in this one process: no master, the supervisor restarts what dies, half the memory.

Health is served, and the schema brought up to date, beside the requests: the port answers (503) while the database
is still away.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import select
import socket
import struct
import sys
import threading
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.gthread import ThreadWorker

from runtime import health as health_server
from runtime.clock import sleep_s
from runtime.health import Health
from runtime.logs import get_logger
from webapp.settings import WebappSettings

GRACEFUL_TIMEOUT_S = 2
KEEPALIVE_S = 75
DATABASE_CHECK_S = 2.0
#: A thread waits at most so long for a client that reads nothing of its answer.
ANSWER_STALL_S = 30
#: A thread waits at most so long for the next bytes of a request; gunicorn itself would wait for ever.
REQUEST_READ_S = 3
#: A thread waits at most so long for its client's next request, and not at all while another client waits for a thread.
LINGER_MS = 5
MAX_REQUEST_LINE_BYTES = 8190
MAX_WAITING_CONNECTIONS = 512

log = get_logger(__name__)


class _Application(BaseApplication):
    """Gunicorn without its command line and files: all it is told stands here."""

    def __init__(self, settings: WebappSettings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """The options."""
        self.cfg.set("threads", self._settings.web_threads)
        self.cfg.set("graceful_timeout", GRACEFUL_TIMEOUT_S)
        self.cfg.set("keepalive", KEEPALIVE_S)
        self.cfg.set("limit_request_line", MAX_REQUEST_LINE_BYTES)

    def load(self) -> object:
        """Django."""
        from webapp.wsgi import application

        return application


class _Logger(GunicornLogger):
    """Gunicorn's messages through the room's log; no access log."""

    def setup(self, cfg: object) -> None:
        """Keep the handlers that the room has set up."""
        self.error_log.propagate = True
        self.access_log.disabled = True


class _Worker(ThreadWorker):
    """The worker that nobody watches: it does not end when whoever started it does."""

    def is_parent_alive(self) -> bool:
        """No master to follow."""
        return True

    def notify(self) -> None:
        """No master to tell: a file's time written at each turn of the loop would cost a tenth of a request."""

    def handle(self, conn: Any) -> object:
        """Requests that follow each other stay with their thread: to hand a connection to the loop and back costs a
        fifth of a page of klines."""
        is_kept = super().handle(conn)
        while is_kept is True and self._stays(conn):
            is_kept = super().handle(conn)
        return is_kept

    def _stays(self, conn: Any) -> bool:
        nobody_waits = self.tpool._work_queue.empty
        if not (self.alive and nobody_waits()):
            return False
        # What was read ahead does not make the socket readable; who has come during the wait goes first.
        return (bool(conn.parser.unreader.buf.getvalue()) or _speaks(conn.sock, LINGER_MS)) and nobody_waits()

    def load_wsgi(self) -> None:
        """Load Django, then start what runs beside the requests."""
        super().load_wsgi()
        from webapp.operations import collect

        threading.Thread(target=_keep_database, args=(self.health,), name="database", daemon=True).start()
        collect.start(self.settings)

    health: Health
    settings: WebappSettings


def serve(settings: WebappSettings) -> None:
    """Serve until SIGTERM; requests under way get GRACEFUL_TIMEOUT_S. A taken port: a message and exit code 2."""
    listener = _listen(settings.web_host, settings.port)
    health = Health("webapp")
    health_server.serve(health, settings.health_port, settings.health_host)
    application = _Application(settings)
    worker = _Worker(1, os.getpid(), [listener], application, None, application.cfg, _Logger(application.cfg))
    worker.health = health
    worker.settings = settings
    log.info("listening", host=settings.web_host, port=listener.getsockname()[1])
    worker.init_process()
    log.info("stopped")
    sys.stdout.flush()
    # A request that is still running is cut here: its thread would hold the process up beyond the deadline.
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=MAX_WAITING_CONNECTIONS)
    except OSError as error:
        why = "taken by another program" if error.errno == errno.EADDRINUSE else error.strerror
        sys.stderr.write(f"PORT: cannot listen on {host}:{port}: {why}\n")
        raise SystemExit(2) from None
    # Head and body of an answer are two writes: the second would wait 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Accepted sockets inherit them (Linux). A read or write that waits too long ends in BlockingIOError: its traceback
    # says nothing of use.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", REQUEST_READ_S, 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", ANSWER_STALL_S, 0))
    logging.getLogger("gunicorn.error").addFilter(_is_no_timeout)
    return listener


def _speaks(sock: socket.socket, wait_ms: int) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(wait_ms))


def _is_no_timeout(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


def _keep_database(health: Health) -> None:
    """Migrate once, then watch that requests can read."""
    from django.db import Error, connections

    from webapp import schema
    from webapp.export.encoders import preload
    from webapp.pages.views import load_pages

    # While the database comes up, not when it is asked: for a second nobody else's request would have a turn.
    preload()
    load_pages()
    while True:
        try:
            schema.migrate(health)
            break
        except Error as error:
            log.warning("migration_failed", error=str(error))
            health.set_problem("schema", f"migration failed: {error}")
            sleep_s(DATABASE_CHECK_S)
    health.clear_problem("schema")
    connections["default"].close()
    # All that is loaded stays: a collection that walks it would be a tenth of a request.
    gc.collect()
    gc.freeze()
    health.set_ready()
    log.info("ready")
    while True:
        reader: Any = connections["reader"]
        try:
            with reader.cursor() as cursor:
                cursor.execute("select 1")
            health.clear_problem("database")
        except Error as error:
            health.set_problem("database", f"not answering: {str(error).strip().splitlines()[0]}")
            reader.close()
        sleep_s(DATABASE_CHECK_S)
