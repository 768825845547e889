"""A simulated exchange on a thread of its own, for tests whose code under test is synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from exchange_sim.service import RunningExchange
from exchange_sim.settings import SimSettings

STOP_S = 30.0


@contextmanager
def running_exchange(settings: SimSettings) -> Iterator[RunningExchange]:
    """It listens inside the `with`. Its faults may be ordered from the test's thread."""
    ready, ended = threading.Event(), asyncio.Event()
    found: list[RunningExchange] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with RunningExchange(settings) as exchange:
            found.append(exchange)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    assert ready.wait(STOP_S)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(STOP_S)
