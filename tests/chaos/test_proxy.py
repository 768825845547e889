"""The proxy itself: what each kind does to bytes and connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from runtime.clock import new_random
from tests.chaos.proxy import GOOD, KINDS, Proxy, Toxic

WAIT_S = 10.0
SENT = b"0123456789abcdef" * 4096


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    """A server that sends back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield int(server.sockets[0].getsockname()[1])


@pytest.fixture
def proxy(echo_port: int) -> Iterator[Proxy]:
    with Proxy(echo_port, new_random(1)) as running:
        yield running


async def there_and_back(proxy: Proxy, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.readexactly(len(data)), WAIT_S)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "toxic", [GOOD, Toxic(latency_ms=20, jitter_ms=10), Toxic(slice_bytes=64), KINDS["slow_close"]]
)
async def test_bytes_arrive_whole_and_in_order(proxy: Proxy, toxic: Toxic) -> None:
    await asyncio.to_thread(proxy.set, toxic)
    assert await there_and_back(proxy, SENT) == SENT


async def test_black_hole_holds_back_and_lets_go(proxy: Proxy) -> None:
    await asyncio.to_thread(proxy.set, KINDS["black_hole"])
    waiting = asyncio.create_task(there_and_back(proxy, b"held"))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await asyncio.to_thread(proxy.set, GOOD)
    assert await waiting == b"held"


async def test_limit_reset_and_down_end_connections(proxy: Proxy) -> None:
    await asyncio.to_thread(proxy.set, Toxic(limit_bytes=1000))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await there_and_back(proxy, SENT)
    await asyncio.to_thread(proxy.set, GOOD)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    await asyncio.to_thread(proxy.set, KINDS["reset"])
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reader.readexactly(1), WAIT_S)
    await asyncio.to_thread(proxy.set, KINDS["down"])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await asyncio.to_thread(proxy.set, GOOD)
    assert await there_and_back(proxy, b"again") == b"again"
