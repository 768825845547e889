"""`python -m inserter`: connects the parts and runs them."""

from __future__ import annotations

import gc
import sys

from inserter.consume import Inserter
from inserter.settings import InserterSettings
from runtime import health, logs
from runtime.clock import SystemClock
from runtime.errors import Fenced
from runtime.lifecycle import Stop, run_service
from runtime.settings import load

FENCED_EXIT_CODE = 3
GC_THRESHOLD_OBJECTS = 50_000


def main() -> None:
    """Entry point of the room. Exit code 3 when another inserter has taken over."""
    settings = load(InserterSettings)
    # Records live for a batch and hold no cycles: looking for some after each 700 costs a tenth of the catch-up.
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 20)
    logs.configure("inserter", settings.log_level, as_json=settings.log_json)
    state = health.Health("inserter")
    health.serve(state, settings.health_port, settings.health_host)

    async def run(stop: Stop) -> None:
        try:
            await Inserter(settings, state, SystemClock(), stop).run()
        except Fenced as error:
            logs.get_logger(__name__).error("fenced", reason=str(error))
            sys.exit(FENCED_EXIT_CODE)

    run_service(run)


if __name__ == "__main__":
    main()
