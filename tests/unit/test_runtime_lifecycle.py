"""Tasks are ended even where a cancellation gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtime.lifecycle import Stop, end


async def deaf(lost: int) -> None:
    """Loses so many cancellations, as asyncio.wait_for of Python 3.11 does when what it waits for is just done."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if lost == 0:
                raise
            lost -= 1


async def failing() -> None:
    raise ValueError("planted")


async def done() -> None:
    pass


@pytest.mark.parametrize("living", [lambda: deaf(0), lambda: deaf(2), failing, done])
async def test_a_task_is_ended_however_it_takes_it(living: Callable[[], Awaitable[None]]) -> None:
    task, other = asyncio.ensure_future(living()), asyncio.ensure_future(deaf(1))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(task, other)
    assert task.done()
    assert other.cancelled()


async def test_waiting_for_the_stop_ends_with_it_or_in_time() -> None:
    stop = Stop()
    assert not await stop.wait(0.001)
    stop.set()
    assert await stop.wait()
