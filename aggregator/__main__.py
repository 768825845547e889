"""`python -m aggregator worker|beat`: connects the parts and runs one of the two."""

from __future__ import annotations

import sys

from aggregator.run import run_beat, run_worker
from aggregator.settings import AggregatorSettings
from runtime import health, logs
from runtime.settings import load

RUN = {"worker": run_worker, "beat": run_beat}


def main(arguments: list[str]) -> int:
    """Entry point of the room; exit code 2 for a usage error."""
    if len(arguments) != 1 or arguments[0] not in RUN:
        sys.stderr.write("usage: python -m aggregator worker|beat\n")
        return 2
    settings = load(AggregatorSettings)
    room = "aggregator" if arguments[0] == "worker" else "aggregator-beat"
    logs.configure(room, settings.log_level, as_json=settings.log_json)
    state = health.Health(room)
    health.serve(state, settings.health_port, settings.health_host)
    return RUN[arguments[0]](settings, state)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
