"""Start the simulated exchange: `python -m exchange_sim`."""

from __future__ import annotations

from exchange_sim.service import serve_until_stopped
from exchange_sim.settings import SimSettings
from runtime.lifecycle import run_service
from runtime.logs import configure
from runtime.settings import load

if __name__ == "__main__":
    settings = load(SimSettings)
    configure("exchange_sim", settings.log_level, as_json=settings.log_json)
    run_service(lambda stop: serve_until_stopped(stop, settings))
