"""One WebSocket connection: pings, limits, control messages, and a bounded buffer towards a slow reader."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, Final, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from exchange_sim.limits import MessageRate
from exchange_sim.settings import SimSettings
from exchange_sim.streams import Hub, encode_text
from runtime.clock import Clock
from runtime.logs import get_logger

MAX_STREAMS: Final = 1_024
MAX_INCOMING_BYTES: Final = 131_072
MAX_ID_CHARS: Final = 36
METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

log = get_logger(__name__)


class Follower(Protocol):
    """What a connection tells the source of data about new interest."""

    async def followed(self, streams: list[str]) -> None:
        """Called before these streams begin; may compute what they need first."""
        ...


class ControlError(Exception):
    """A control message that gets an error reply."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Connection:
    """Serves one client until either side ends it."""

    def __init__(self, hub: Hub, follower: Follower, settings: SimSettings, clock: Clock) -> None:
        self._hub, self._follower, self._settings, self._clock = hub, follower, settings, clock
        self._rate = MessageRate()
        self._streams: dict[str, None] = {}
        self._unanswered: deque[tuple[float, bytes]] = deque()
        self._socket: web.WebSocketResponse | None = None
        self._transport: asyncio.Transport | None = None
        self.combined = False
        self.unit = 1

    def push(self, frame: bytes) -> None:
        """Hand a frame to the socket; a reader that lets the buffer fill up is cut."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > self._settings.sim_send_buffer_bytes:
            log.warning("slow_reader_cut", unsent_bytes=transport.get_write_buffer_size())
            transport.abort()
            return
        transport.write(frame)

    def buffered_bytes(self) -> int:
        """Bytes not yet taken by the reader; 0 once the connection is gone."""
        transport = self._transport
        return 0 if transport is None or transport.is_closing() else transport.get_write_buffer_size()

    def cut(self) -> None:
        """End the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    def send_shutdown_notice(self, event_ms: int) -> None:
        """The serverShutdown event, in the connection's dialect."""
        payload = f'{{"e":"serverShutdown","E":{event_ms * self.unit}}}'
        if self.combined:
            payload = f'{{"stream":"!serverShutdown","data":{payload}}}'
        self.push(encode_text(payload.encode()))

    async def serve(self, request: web.Request, streams: list[str]) -> web.WebSocketResponse:
        """The whole life of the connection."""
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=MAX_INCOMING_BYTES)
        await socket.prepare(request)
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return socket
        self._socket, self._transport = socket, transport
        keeper = asyncio.create_task(self._keep(socket))
        try:
            await self._follow(streams)
            await self._receive(socket)
        finally:
            keeper.cancel()
            self._transport = None
            for name in self._streams:
                self._hub.remove(self, name)
        return socket

    async def close(self, code: int, reason: str) -> None:
        """Close with a close frame."""
        if self._socket is not None:
            await self._socket.close(code=code, message=reason.encode())

    async def _keep(self, socket: web.WebSocketResponse) -> None:
        """Pings with payload; cuts when one is not echoed in time, or at the end of the connection's life."""
        settings, clock = self._settings, self._clock
        born_s = clock.monotonic_s()
        next_ping_s = born_s + settings.sim_ping_interval_ms / 1000
        step_s = min(1.0, settings.sim_ping_interval_ms / 2000, settings.sim_pong_timeout_ms / 2000)
        while not socket.closed:
            await asyncio.sleep(step_s)
            now_s = clock.monotonic_s()
            if (now_s - born_s) * 1000 >= settings.sim_connection_lifetime_ms:
                await self.close(WSCloseCode.GOING_AWAY, "connection lifetime reached")
                return
            if self._unanswered and (now_s - self._unanswered[0][0]) * 1000 > settings.sim_pong_timeout_ms:
                log.info("pong_missing")
                await self.close(WSCloseCode.POLICY_VIOLATION, "Pong timeout")
                return
            if now_s >= next_ping_s:
                payload = str(clock.now_ms()).encode()
                self._unanswered.append((now_s, payload))
                next_ping_s = now_s + settings.sim_ping_interval_ms / 1000
                await socket.ping(payload)

    async def _receive(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if self._settings.sim_limits and not self._rate.allows(self._clock.monotonic_s()):
                await self.close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
                return
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._pong(bytes(message.data))
            elif message.type is WSMsgType.TEXT:
                reply = await self._control(message.data)
                self.push(encode_text(json.dumps(reply, separators=(",", ":")).encode()))
            elif message.type is WSMsgType.BINARY:
                self.push(encode_text(b'{"code":3,"msg":"Invalid JSON: binary frame","id":null}'))

    def _pong(self, payload: bytes) -> None:
        """Only an echo of a ping that is still open counts."""
        if any(payload == sent for _, sent in self._unanswered):
            while self._unanswered and self._unanswered.popleft()[1] != payload:
                pass

    async def _control(self, text: str) -> dict[str, object]:
        request_id: object = None
        try:
            try:
                request = json.loads(text)
            except ValueError as error:
                raise ControlError(3, f"Invalid JSON: {error}") from None
            if not isinstance(request, dict):
                raise ControlError(2, "Invalid request: request must be an object")
            request_id = _checked_id(request)
            return {"result": await self._perform(request), "id": request_id}
        except ControlError as error:
            reply = {"code": error.code, "msg": error.message}
            if self._hub.faults.use("nested_error"):
                return {"error": reply, "id": request_id}
            return {**reply, "id": request_id}

    async def _perform(self, request: dict[str, Any]) -> object:
        method = request.get("method")
        if method is None:
            raise ControlError(2, "Invalid request: missing field `method`")
        if method not in METHODS:
            raise ControlError(2, f"Invalid request: unknown variant `{method}`, expected one of {', '.join(METHODS)}")
        params = request.get("params", [])
        if not isinstance(params, list):
            raise ControlError(2, "Invalid request: params must be a list")
        if method == "LIST_SUBSCRIPTIONS":
            if params:
                raise ControlError(2, "Invalid request: too many parameters")
            return list(self._streams)
        if method.endswith("_PROPERTY"):
            return self._property(method, params)
        names = [name for name in params if isinstance(name, str)]
        if not params or len(names) != len(params):
            raise ControlError(2, "Invalid request: params must be a list of stream names")
        if method == "SUBSCRIBE":
            await self._follow(names)
        else:
            for name in names:
                if name in self._streams:
                    del self._streams[name]
                    self._hub.remove(self, name)
        return None

    def _property(self, method: str, params: list[Any]) -> object:
        wanted = 2 if method == "SET_PROPERTY" else 1
        if len(params) > wanted:
            raise ControlError(2, "Invalid request: too many parameters")
        if not params or not isinstance(params[0], str):
            raise ControlError(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise ControlError(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self.combined
        if len(params) < wanted or not isinstance(params[1], bool):
            raise ControlError(1, "Invalid value type: expected Boolean")
        self.combined = params[1]
        return None

    async def _follow(self, names: list[str]) -> None:
        new = [name for name in dict.fromkeys(names) if name not in self._streams]
        if len(self._streams) + len(new) > MAX_STREAMS:
            await self.close(WSCloseCode.POLICY_VIOLATION, f"More than {MAX_STREAMS} streams")
            return
        await self._follower.followed(new)
        for name in new:
            self._streams[name] = None
            self._hub.add(self, name)


def _checked_id(request: dict[str, Any]) -> object:
    """The request's id: signed 64-bit integer, alphanumeric text up to 36 characters, or null."""
    value = request.get("id")
    is_number = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    is_text = (
        isinstance(value, str) and len(value) <= MAX_ID_CHARS and value.replace("-", "").replace("_", "").isalnum()
    )
    if value is None or is_number or is_text:
        return value
    raise ControlError(2, "Invalid request: request ID must be an unsigned integer, text or null")
