"""Puts an exchange together from its settings; also what tests start in process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, NoReturn, Protocol

from exchange_sim.exchange import Exchange, Source
from exchange_sim.faults import Faults
from exchange_sim.live import LiveMarket
from exchange_sim.market import SeededMarket
from exchange_sim.settings import SimSettings
from exchange_sim.simulated import SimulatedSource
from exchange_sim.streams import Hub
from exchange_sim.symbols import catalogue
from exchange_sim.tape import TapeSource
from exchange_sim.tape_formats import Tape, TapeError
from runtime.clock import Clock, SystemClock
from runtime.health import Health, serve
from runtime.lifecycle import Stop
from runtime.logs import get_logger

log = get_logger(__name__)


class Runs(Protocol):
    """What publishes events as time passes."""

    async def run(self) -> None:
        """Publish until cancelled."""
        ...


class RunningExchange(AbstractAsyncContextManager["RunningExchange"]):
    """An exchange that listens inside `async with`. Raises TapeError for a tape that cannot be played."""

    def __init__(self, settings: SimSettings, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.faults = Faults(clock.now_ms)
        self.hub = Hub(self.faults)
        self.source, self._runs = _source(settings, self.hub, self.faults, clock)
        self.exchange = Exchange(self.source, self.hub, self.faults, settings, clock)
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RunningExchange:
        await self.exchange.start()
        self._loop = asyncio.create_task(self._runs.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.exchange.stop()
        if self._loop is not None:
            self._loop.cancel()

    async def until(self, stop: Stop) -> None:
        """Return when the room should stop; a failure of the publishing loop is raised here."""
        waiting = asyncio.create_task(stop.wait())
        tasks: list[asyncio.Task[Any]] = [waiting] if self._loop is None else [waiting, self._loop]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if self._loop is not None and self._loop.done():
            self._loop.result()
        waiting.cancel()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.exchange.port


async def serve_until_stopped(stop: Stop, settings: SimSettings) -> None:
    """Run the exchange until the room stops; exit code 2 with one message for a bad tape or a taken port."""
    health = Health("exchange_sim")
    try:
        running = RunningExchange(settings)
        async with running:
            serve(health, settings.health_port, settings.health_host)
            log.info("listening", port=running.port, source=settings.source)
            health.set_ready()
            await running.until(stop)
    except TapeError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"exchange_sim cannot listen: {error}")


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(message + "\n")
    raise SystemExit(2)


def _source(settings: SimSettings, hub: Hub, faults: Faults, clock: Clock) -> tuple[Source, Runs]:
    if settings.tape is not None and settings.source == "tape":
        tape = TapeSource(Tape(settings.tape), settings, hub, faults, clock)
        return tape, tape
    symbols = catalogue(settings.sim_symbols)
    market = SeededMarket(settings.sim_seed, symbols, clock.now_ms, settings.sim_history_days)
    live = LiveMarket(market, hub, faults, clock)
    return SimulatedSource(market, live, clock), live
