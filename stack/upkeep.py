"""`python -m stack.upkeep`: runs the crontab in the foreground until SIGTERM, where no `candlewire up` does it.

In a deployment each room is a container; this is the one for the upkeep. Ready as soon as the crontab has been read.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from runtime import health as health_server
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.logs import configure, get_logger
from runtime.settings import RoomSettings, load
from stack.cron import Cron
from stack.layout import Layout

TICK_S = 1.0

log = get_logger(__name__)


def main() -> int:
    """Entry point. Exit code 0 = stopped, 2 = settings or crontab cannot be used."""
    settings = load(RoomSettings)
    configure("cron", settings.log_level, as_json=settings.log_json)
    health = Health("cron")
    health_server.serve(health, settings.health_port, settings.health_host)
    layout = Layout(settings.data_dir.absolute())
    layout.create()
    try:
        cron = Cron(layout, os.environ, SystemClock())
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    health.set_ready()
    log.info("ready", crontab="crontab", output=str(layout.log("cron")))
    while not stop.wait(TICK_S):
        cron.run_due()
    cron.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
