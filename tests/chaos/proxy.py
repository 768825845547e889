"""A TCP proxy in front of one server, whose link can be made bad at run time: late, narrow, silent, cut, chopped.

The kinds are those of Shopify's Toxiproxy. Its Python packages only steer a server written in Go, which no package
registry of ours carries; hence this one, in a thread of its own, on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Self

CHUNK_BYTES = 16_384
WAITING_CHUNKS = 64
RESET_EVERY_S = 5.0
START_TIMEOUT_S = 10.0
LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Toxic:
    """What is wrong with a link. All fields at rest = a good link."""

    latency_ms: int = 0
    jitter_ms: int = 0
    bytes_per_s: int = 0
    #: nothing gets through, nothing is said; what was sent arrives when the link is mended
    black_hole: bool = False
    #: connections are reset, again and again
    reset: bool = False
    slice_bytes: int = 0
    #: each connection is closed after so many bytes
    limit_bytes: int = 0
    slow_close_ms: int = 0
    #: connections are refused, those that exist are reset
    down: bool = False


GOOD = Toxic()
#: The doses of fault F6.
KINDS: dict[str, Toxic] = {
    "latency": Toxic(latency_ms=200, jitter_ms=100),
    "bandwidth": Toxic(bytes_per_s=64 * 1024),
    "black_hole": Toxic(black_hole=True),
    "reset": Toxic(reset=True),
    "slicer": Toxic(slice_bytes=64),
    "limit_data": Toxic(limit_bytes=512 * 1024),
    "slow_close": Toxic(reset=False, slow_close_ms=5_000),
    "down": Toxic(down=True),
}


class Proxy:
    """Listens on `port` and passes on to `target_port`. Use as a context manager; steer it from any thread."""

    def __init__(self, target_port: int, rng: Random) -> None:
        self.target_port = target_port
        self.port = 0
        self.toxic = GOOD
        self.connections = 0
        self._rng = rng
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(START_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(START_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_TIMEOUT_S)

    def set(self, toxic: Toxic) -> None:
        """Make the link so from now on."""
        asyncio.run_coroutine_threadsafe(self._set(toxic), self._loop).result(START_TIMEOUT_S)

    @contextmanager
    def being(self, toxic: Toxic) -> Iterator[None]:
        """The link is so inside the block, good afterwards."""
        self.set(toxic)
        try:
            yield
        finally:
            self.set(GOOD)

    async def _begin(self) -> None:
        await self._listen()
        self._keeping = asyncio.create_task(self._keep())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _set(self, toxic: Toxic) -> None:
        was, self.toxic = self.toxic, toxic
        (self._open.clear if toxic.black_hole else self._open.set)()
        if toxic.down and self._server is not None:
            self._server.close()
            self._server = None
        elif was.down and not toxic.down:
            await self._listen()
        if toxic.down or toxic.reset:
            self._reset_all()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        """While the link resets, it does so again and again."""
        while True:
            await asyncio.sleep(RESET_EVERY_S)
            if self.toxic.reset:
                self._reset_all()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The tasks are ours: the server reports each of its own that is cancelled as an error."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, up_writer)
        self._writers.update(both)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer))
                group.create_task(self._pump(up_reader, writer))
        except* (OSError, ConnectionError, _LimitReached):
            pass
        finally:
            for one in both:
                self._writers.discard(one)
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until its end; what is on its way waits in a bounded queue for its time."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_CHUNKS)
        sending = asyncio.create_task(self._send(waiting, writer))
        passed, due_s = 0, 0.0
        try:
            while True:
                await self._open.wait()
                data = await reader.read(CHUNK_BYTES)
                toxic = self.toxic
                jitter_ms = self._rng.uniform(-toxic.jitter_ms, toxic.jitter_ms)
                due_s = max(due_s, self._loop.time() + max(0.0, toxic.latency_ms + jitter_ms) / 1000)
                passed += len(data)
                if sending.done():
                    sending.result()
                if not data and toxic.slow_close_ms:
                    await asyncio.sleep(toxic.slow_close_ms / 1000)
                await waiting.put((due_s, data))
                if not data:
                    await sending
                    return
                if 0 < toxic.limit_bytes < passed:
                    raise _LimitReached
        finally:
            sending.cancel()

    async def _send(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, data = await waiting.get()
            if (late_s := due_s - self._loop.time()) > 0:
                await asyncio.sleep(late_s)
            await self._open.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            piece = self.toxic.slice_bytes or len(data)
            for start in range(0, len(data), piece):
                writer.write(data[start : start + piece])
                await writer.drain()
                if piece < len(data):
                    await asyncio.sleep(0)
            if self.toxic.bytes_per_s:
                await asyncio.sleep(len(data) / self.toxic.bytes_per_s)


class _LimitReached(Exception):
    """This connection has had all the bytes it may have."""
