"""How an asyncio room starts and stops: SIGTERM or SIGINT sets `stop`, one deadline bounds the whole shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.logs import get_logger

STOP_DEADLINE_S = 4.0
CANCEL_AGAIN_S = 0.2

log = get_logger(__name__)


class Stop:
    """Tells a loop that it should end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """True once the room should end."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask the room to end."""
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the room should end, at most `timeout_s`; true when it should."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel the tasks and wait until all have ended; what they return or raise is not told.

    Cancelled again each CANCEL_AGAIN_S: a cancellation that comes in the moment in which what a task waits for is done
    gets lost in asyncio.wait_for of Python 3.11 (gh-86296). Waiting for such a task once wedged the inserter.
    """
    living = {task for task in tasks if not task.done()}
    while living:
        for task in living:
            task.cancel()
        _, living = await asyncio.wait(living, timeout=CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def run_service(main: Callable[[Stop], Awaitable[None]]) -> None:
    """Run `main(stop)` until it returns. After a signal it has STOP_DEADLINE_S, then the process ends anyway."""
    sys.exit(asyncio.run(_run(main)))


async def _run(main: Callable[[Stop], Awaitable[None]]) -> int:
    stop = Stop()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()
        loop.call_later(STOP_DEADLINE_S, _give_up)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await main(stop)
    return 0


def _give_up() -> None:
    """The deadline has passed: whatever still hangs is recovered by the next start."""
    log.warning("stop_deadline_passed", deadline_s=STOP_DEADLINE_S)
    os._exit(1)
