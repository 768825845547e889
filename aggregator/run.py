"""Running Celery's worker and beat inside our own rules: our logs, our health, one deadline for the stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from types import FrameType
from typing import Any

from celery import signals
from celery.beat import Scheduler, Service
from celery.exceptions import SecurityWarning

from aggregator.celery_app import QUEUE, app
from aggregator.settings import AggregatorSettings
from aggregator.work import Work
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.lifecycle import STOP_DEADLINE_S
from runtime.logs import get_logger

#: Every task may run at the same time as the others, each waiting for the exchange or the database; one more so that
#: none waits for another.
THREADS = 9
STOP_MARGIN_S = 0.5

log = get_logger(__name__)


def run_worker(settings: AggregatorSettings, health: Health) -> int:
    """One process with THREADS threads; waits for its broker as long as it takes."""
    _prepare(settings)
    work = Work(settings, health, SystemClock())
    work.install()

    @signals.worker_ready.connect(weak=False)
    def ready(**_: Any) -> None:
        health.set_ready()
        log.info("worker_ready")

    @signals.worker_shutdown.connect(weak=False)
    def stopped(**_: Any) -> None:
        work.close()

    @signals.worker_shutting_down.connect(weak=False)
    def stopping(**_: Any) -> None:
        _end_by_deadline()

    app.Worker(
        pool="threads",
        concurrency=THREADS,
        queues=[QUEUE],
        without_heartbeat=True,
        without_mingle=True,
        without_gossip=True,
        loglevel=settings.log_level,
        quiet=True,
        hostname="aggregator@localhost",
    ).start()
    return 0


def run_beat(settings: AggregatorSettings, health: Health) -> int:
    """The schedule, kept in memory: every task does whatever is due, so a lost tick costs nothing."""
    _prepare(settings)

    @signals.beat_init.connect(weak=False)
    def ready(**_: Any) -> None:
        health.set_ready()
        log.info("beat_ready")

    signal.signal(signal.SIGTERM, _end_beat)
    Service(app=app, scheduler_cls=Scheduler).start()
    return 0


def _end_beat(number: int, _: FrameType | None) -> None:
    """Beat's own loop takes SystemExit as its end."""
    log.info("stopping", signal=signal.Signals(number).name)
    raise SystemExit(0)


def _prepare(settings: AggregatorSettings) -> None:
    """Broker, and our own logs: Celery would log each of some hundred thousand tasks a day twice."""
    app.conf.update(broker_url=settings.celery_broker_url)
    signals.setup_logging.connect(_leave_logging_alone, weak=False)
    for name in ("celery.beat", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=SecurityWarning)


def _leave_logging_alone(**_: Any) -> None:
    """Our logs are configured already."""


def _end_by_deadline() -> None:
    """Celery waits for running tasks; what is still running at the deadline is recovered by the next start."""
    timer = threading.Timer(STOP_DEADLINE_S - STOP_MARGIN_S, os._exit, [0])
    timer.daemon = True
    timer.start()
