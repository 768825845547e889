"""/healthz, /readyz and /metrics of a room, on loopback, from a thread of its own.

healthz: 200 while nothing is known to be wrong, else 503 with the reasons.
readyz: 200 once the room has said that it is ready and nothing is wrong, else 503.
Both tell the newest warning or error that was logged.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest

from runtime.logs import newest_error

REQUEST_TIMEOUT_S = 5
BUILD = Gauge("chart_build_info", "Which version of which room this is; always 1", ["room", "version"])


class Health:
    """What a room knows of its own state. Thread-safe: set from the loop, read by the health server."""

    def __init__(self, room: str) -> None:
        self.room = room
        self._lock = threading.Lock()
        self._problems: dict[str, str] = {}
        self._waiting: str | None = "starting"
        self._paused: str | None = None

    def set_ready(self) -> None:
        """The room does its work now."""
        with self._lock:
            self._waiting = None

    def set_waiting(self, reason: str) -> None:
        """The room waits for something it needs (`reason`, for people)."""
        with self._lock:
            self._waiting = reason

    def set_problem(self, name: str, reason: str) -> None:
        """Something is wrong; stays until clear_problem(name)."""
        with self._lock:
            self._problems[name] = reason

    def clear_problem(self, name: str) -> None:
        """What was wrong under this name is right again."""
        with self._lock:
            self._problems.pop(name, None)

    def set_paused(self, reason: str | None) -> None:
        """An operator has told the room to pause (`reason`, for people), or to go on (None): nothing is wrong, but it
        is not ready."""
        with self._lock:
            self._paused = reason

    def report(self, *, readiness: bool) -> tuple[int, dict[str, object]]:
        """HTTP status and body of /readyz (readiness true) or /healthz."""
        with self._lock:
            reasons = [f"{name}: {reason}" for name, reason in sorted(self._problems.items())]
            if readiness and self._waiting is not None:
                reasons.append(self._waiting)
            if readiness and self._paused is not None:
                reasons.append(self._paused)
            status = 503 if reasons else 200
            body: dict[str, object] = {"room": self.room, "ok": status == 200, "reasons": reasons}
            return status, body | ({"is_paused": True} if self._paused is not None else {})


def serve(health: Health, port: int, host: str = "127.0.0.1") -> int:
    """Start the health server in a daemon thread; returns the port it listens on."""

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
            elif self.path in ("/healthz", "/readyz"):
                status, body = health.report(readiness=self.path == "/readyz")
                self._answer(status, json.dumps(body | {"last_error": newest_error()}).encode(), "application/json")
            else:
                self._answer(404, b'{"allowed": ["/healthz", "/readyz", "/metrics"]}', "application/json")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes every second would drown the log."""

    BUILD.labels(health.room, version("candlewire")).set(1)
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return int(server.server_address[1])
