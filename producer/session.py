"""One WebSocket connection to the exchange: opens, asks for its streams, reads until it ends.

The library answers the exchange's pings with a copy of their payload. Our own pings are rare, because they
count in the exchange's 5 messages a second; they only find a peer that is gone while all its streams are quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from producer.subscriptions import ControlFrame, SubscriptionFailed, Subscriptions, unsubscribe_message
from runtime.clock import Clock
from runtime.crash import crash_point
from runtime.lifecycle import end

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5
OWN_PING_INTERVAL_S = 60.0
OWN_PING_TIMEOUT_S = 20.0
#: Received frames that wait for us before the library stops reading the socket.
RECEIVE_QUEUE_FRAMES = 256
SHUTDOWN_EVENT = "serverShutdown"


class CannotConnect(Exception):
    """The exchange did not accept the connection; the text says why."""


@dataclass(frozen=True)
class Listener:
    """Who a session tells: of frames (gets control frames back), of being listed, and of its end with the reason."""

    on_frame: Callable[[str, bytes], ControlFrame | None]
    on_listening: Callable[[str, Sequence[str]], None]
    on_shutdown: Callable[[str], None]


class Session:
    """A connection with a life of its own; `ended` resolves to the reason, once."""

    def __init__(self, name: str, names: Sequence[str], listener: Listener, clock: Clock) -> None:
        self.name, self.names = name, tuple(names)
        self._listener, self._clock = listener, clock
        self._subscriptions = Subscriptions(self.names)
        self._wake_writer = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def open(self, base_url: str, max_frame_bytes: int) -> None:
        """Connect and start asking and reading. Raises CannotConnect."""
        # A proxy of the environment is for the internet; a stand-in exchange on this machine is reached directly.
        is_local = urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")
        try:
            self._socket = await connect(
                f"{base_url}/stream",
                compression=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=OWN_PING_INTERVAL_S,
                ping_timeout=OWN_PING_TIMEOUT_S,
                max_size=max_frame_bytes,
                max_queue=RECEIVE_QUEUE_FRAMES,
                proxy=None if is_local else True,
            )
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed, EOFError) as error:
            raise CannotConnect(f"{base_url}: {error or type(error).__name__}") from error
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._ask())]

    def change(self, added: Sequence[str], removed: Sequence[str]) -> None:
        """Ask for these streams too, and for those no more."""
        self.names = tuple(name for name in self.names if name not in removed) + tuple(added)
        self._subscriptions.change(added, removed)
        self._wake_writer.set()

    async def close(self, *, unsubscribe: bool = False) -> None:
        """Leave; bounded by CLOSE_TIMEOUT_S twice. What has arrived until now has been handed on."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                if unsubscribe:
                    await asyncio.wait_for(self._socket.send(unsubscribe_message(self.names)), CLOSE_TIMEOUT_S)
            await self._socket.close()
        await end(*self._tasks)
        self._end("closed")

    async def _read(self) -> None:
        assert self._socket is not None
        try:
            while True:
                frame = await self._socket.recv(decode=False)
                crash_point("producer_after_frame")
                control = self._listener.on_frame(self.name, frame)
                if control is not None:
                    self._on_control(control)
        except ConnectionClosed as closed:
            last = closed.rcvd or closed.sent
            self._end(f"closed by {'exchange' if closed.rcvd else 'us'}: {last.code} {last.reason}" if last else "cut")
        except SubscriptionFailed as failed:
            self._end(str(failed))
        except Exception as error:  # our bug, or too many bad frames: whoever waits for `ended` gets it
            self._fail(error)

    def _on_control(self, control: ControlFrame) -> None:
        if control.event == SHUTDOWN_EVENT:
            self._listener.on_shutdown(self.name)
            return
        was_settled = self._subscriptions.is_settled
        self._subscriptions.on_reply(control)
        if self._subscriptions.is_settled and not was_settled:
            self._listener.on_listening(self.name, self.names)
        self._wake_writer.set()

    async def _ask(self) -> None:
        """Send the subscription messages at their pace, and give up when an answer is overdue."""
        assert self._socket is not None
        try:
            while True:
                message = self._subscriptions.next_message(self._clock.monotonic_s())
                if message is not None:
                    await self._socket.send(message)
                    continue
                self._wake_writer.clear()
                wait_s = self._subscriptions.wait_s(self._clock.monotonic_s())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake_writer.wait(), wait_s)
        except ConnectionClosed:
            return
        except SubscriptionFailed as failed:
            self._end(str(failed))

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)
