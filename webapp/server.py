"""One gunicorn worker with threads. The worker serves health and brings the schema up to date beside its requests,
so the port answers (503) while the database is still away."""

from __future__ import annotations

import threading
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger as GunicornLogger

from runtime import health as health_server
from runtime.clock import sleep_s
from runtime.health import Health
from runtime.logs import get_logger
from webapp.settings import WebappSettings

GRACEFUL_TIMEOUT_S = 3
WORKER_TIMEOUT_S = 30
KEEPALIVE_S = 75
DATABASE_CHECK_S = 2.0
MAX_REQUEST_LINE_BYTES = 8190

log = get_logger(__name__)


class Server(BaseApplication):
    """Gunicorn without its command line: all it is told stands here."""

    def __init__(self, settings: WebappSettings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """The options."""
        options: dict[str, Any] = {
            "bind": f"{self._settings.web_host}:{self._settings.port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._settings.web_threads,
            "graceful_timeout": GRACEFUL_TIMEOUT_S,
            "timeout": WORKER_TIMEOUT_S,
            "keepalive": KEEPALIVE_S,
            "limit_request_line": MAX_REQUEST_LINE_BYTES,
            "worker_tmp_dir": None,
            "logger_class": Logger,
            "post_worker_init": lambda _worker: _start_beside(self._settings),
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Runs in the worker alone: the master stays small."""
        from webapp.wsgi import application

        return application


class Logger(GunicornLogger):
    """Gunicorn's messages through the room's log; no access log."""

    def setup(self, cfg: Any) -> None:
        """Keep the handlers that the room has set up."""
        self.error_log.propagate = True
        self.access_log.disabled = True


def serve(settings: WebappSettings) -> None:
    """Serve until SIGTERM."""
    Server(settings).run()


def _start_beside(settings: WebappSettings) -> None:
    health = Health("webapp")
    health_server.serve(health, settings.health_port, settings.health_host)
    threading.Thread(target=_keep_database, args=(health,), name="database", daemon=True).start()


def _keep_database(health: Health) -> None:
    """Migrate once, then watch that requests can read."""
    from django.db import Error, connections

    from webapp import schema

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
    health.set_ready()
    log.info("ready")
    while True:
        reader = connections["reader"]
        try:
            with reader.cursor() as cursor:
                cursor.execute("select 1")
            health.clear_problem("database")
        except Error as error:
            health.set_problem("database", f"not answering: {str(error).strip().splitlines()[0]}")
            reader.close()
        sleep_s(DATABASE_CHECK_S)
