"""Start the simulated exchange: `python -m exchange_sim`."""

from __future__ import annotations

import asyncio

from exchange_sim.exchange import Exchange
from exchange_sim.faults import Faults
from exchange_sim.live import LiveMarket
from exchange_sim.market import SeededMarket
from exchange_sim.settings import SimSettings
from exchange_sim.simulated import SimulatedSource
from exchange_sim.streams import Hub
from exchange_sim.symbols import catalogue
from runtime.clock import SystemClock
from runtime.health import Health, serve
from runtime.lifecycle import Stop, run_service
from runtime.logs import configure, get_logger
from runtime.settings import load


async def main(stop: Stop, settings: SimSettings) -> None:
    """Wire everything, run until stopped."""
    clock, health = SystemClock(), Health("exchange_sim")
    serve(health, settings.health_port, settings.health_host)
    faults = Faults(clock.now_ms)
    hub = Hub(faults)
    market = SeededMarket(settings.sim_seed, catalogue(settings.sim_symbols), clock.now_ms, settings.sim_history_days)
    live = LiveMarket(market, hub, faults, clock)
    exchange = Exchange(SimulatedSource(market, live, clock), hub, faults, settings, clock)
    await exchange.start()
    health.set_ready()
    get_logger(__name__).info("listening", port=exchange.port, symbols=settings.sim_symbols)
    loop = asyncio.create_task(live.run())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait((loop, waiting), return_when=asyncio.FIRST_COMPLETED)
    await exchange.stop()
    if loop.done():
        loop.result()
    loop.cancel()


if __name__ == "__main__":
    settings = load(SimSettings)
    configure("exchange_sim", settings.log_level, as_json=settings.log_json)
    run_service(lambda stop: main(stop, settings))
