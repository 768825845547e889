"""The handshake, by Flask and flask-sock; then the socket is handed over (decision record 0006).

Origin and limits are judged before the upgrade: 403 and 429 are plain HTTP answers.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

import simple_websocket
from flask import Flask, Response, g, jsonify, request
from flask_sock import Sock
from prometheus_client import Counter as Metric

from flask_stream.binance_dialect import BinanceSession
from flask_stream.client import Client, Session
from flask_stream.fan_out import FanOut, SessionMaker
from flask_stream.hub import Hub
from flask_stream.live_dialect import LiveSession
from flask_stream.settings import StreamSettings
from runtime.clock import Clock

REFUSED: Final = Metric("relay_refused", "handshakes refused, by reason", ["reason"])
PATHS: Final = ("/live", "/ws", "/ws/STREAM", "/stream?streams=A/B")


class Admission:
    """Counts connections in all and by address. Thread-safe."""

    def __init__(self, max_clients: int, max_per_address: int) -> None:
        self._max_clients = max_clients
        self._max_per_address = max_per_address
        self._lock = threading.Lock()
        self._by_address: Counter[str] = Counter()
        self._clients = 0

    def admit(self, address: str) -> str | None:
        """Count a new connection, or say why it may not be."""
        with self._lock:
            if self._clients >= self._max_clients:
                return f"{self._max_clients} clients are connected, which is the limit"
            if self._by_address[address] >= self._max_per_address:
                return f"{self._max_per_address} connections from {address}, which is the limit of one address"
            self._clients += 1
            self._by_address[address] += 1
            return None

    def release(self, address: str) -> None:
        """The connection has ended."""
        with self._lock:
            self._clients -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


class NoReader:
    """Stands where simple-websocket would start a reading thread for each connection."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        """The target is never run: our fan-out thread reads."""

    def start(self) -> None:
        """Nothing to start."""


def take_socket(ws: simple_websocket.Server) -> socket.socket:
    """The connection's socket, taken out of the hands of simple-websocket and gunicorn.

    Both would end the connection when the handler returns: the one with a close frame, the other with a
    shutdown, which reaches every duplicate. So the descriptor they hold is pointed at one end of a socket pair
    whose other end is closed; what they do to it ends there.
    """
    sock: socket.socket = ws.sock
    ours = sock.dup()
    ours.setblocking(False)
    dummy, other_end = socket.socketpair()
    os.dup2(dummy.fileno(), sock.fileno())
    dummy.close()
    other_end.close()
    ws.connected = False
    return ours


def new_app(settings: StreamSettings, hub: Hub, fan_out: FanOut, admission: Admission, clock: Clock) -> Flask:
    """The WSGI application."""
    app = Flask(__name__, static_folder=None)
    app.config["SOCK_SERVER_OPTIONS"] = {"thread_class": NoReader}
    sock = Sock(app)
    origins = settings.origins()

    def hand_over(ws: simple_websocket.Server, make_session: SessionMaker) -> None:
        taken = take_socket(ws)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.stream_socket_buffer_bytes)
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fan_out.adopt(taken, g.address, make_session)
        g.is_handed_over = True

    @app.before_request
    def judge() -> tuple[Response, int] | None:
        if request.environ.get("HTTP_UPGRADE", "").lower() != "websocket":
            return jsonify(error="this port speaks WebSocket", allowed=PATHS), 426 if request.url_rule else 404
        origin = request.headers.get("Origin")
        if origin not in origins if origin is not None else not settings.stream_allow_no_origin:
            REFUSED.labels("origin").inc()
            return jsonify(error=f"Origin {origin!r} may not connect", allowed=sorted(origins)), 403
        g.address = request.remote_addr or ""
        reason = admission.admit(g.address)
        if reason is not None:
            REFUSED.labels("limit").inc()
            return jsonify(error=f"too many connections: {reason}"), 429
        g.is_admitted = True
        # permessage-deflate costs a compression a client a frame (0006): what is not offered is not accepted.
        request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        return None

    @app.teardown_request
    def release(_error: BaseException | None) -> None:
        if g.get("is_admitted") and not g.get("is_handed_over"):
            admission.release(g.address)

    @sock.route("/live")
    def live(ws: simple_websocket.Server) -> None:
        hand_over(ws, lambda client: LiveSession(client, hub, clock))

    def binance(ws: simple_websocket.Server, streams: list[str], *, combined: bool) -> None:
        def make_session(client: Client) -> Session:
            return BinanceSession(client, hub, streams, combined=combined)

        hand_over(ws, make_session)

    @sock.route("/ws")
    def raw(ws: simple_websocket.Server) -> None:
        binance(ws, [], combined=False)

    @sock.route("/ws/<path:streams>")
    def raw_streams(ws: simple_websocket.Server, streams: str) -> None:
        binance(ws, [name for name in streams.split("/") if name], combined=False)

    @sock.route("/stream")
    def combined(ws: simple_websocket.Server) -> None:
        query = parse_qs(request.query_string.decode("utf-8", "replace"))
        binance(ws, [name for name in query.get("streams", [""])[0].split("/") if name], combined=True)

    return app
