"""What repair, audit and completeness add to the line's CPU: the same stack with and without them, in turn.

20 symbols with all streams. Without: beat is stopped (SIGSTOP) and the roll-up alone is sent each second, as beat
does. What piled up meanwhile is worked off before the next window. Everything counts but the simulated exchange and
beat.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from aggregator.celery_app import app
from bench.load import cpu_s, processes
from bench.ratio import Ratio
from runtime.clock import SystemClock, sleep_s
from tests.stack_process import StackProcess

SYMBOLS = 20
ROUNDS = 2
WINDOW_S = 60.0
SETTLE_S = 20.0
ROLL_UP_EVERY_S = 1.0
SHARE_TARGET = 1.05
NOT_COUNTED = ("exchange_sim", "aggregator-beat")


def run() -> list[Ratio]:
    """One line: CPU with the proof beside CPU without."""
    clock = SystemClock()
    wanted = {"SYMBOLS": f"top:{SYMBOLS}"}
    with tempfile.TemporaryDirectory() as directory, StackProcess(Path(directory), SOURCE="sim", **wanted) as stack:
        app.conf.update(broker_url=stack.status()["celery_broker_url"])
        with_proof = without = 0.0
        for _ in range(ROUNDS):
            sleep_s(SETTLE_S)
            with_proof += _cpu_of_window(stack, clock, sends_roll_up=False)
            without += _cpu_without(stack, clock)
    note = f"{SYMBOLS} symbols, all streams; {ROUNDS} windows of {WINDOW_S:.0f} s each"
    seconds = ROUNDS * WINDOW_S
    return [
        Ratio(
            "line with repair, audit, completeness: CPU",
            with_proof / seconds,
            without / seconds,
            "cores",
            False,
            SHARE_TARGET,
            note,
        )
    ]


def _cpu_without(stack: StackProcess, clock: SystemClock) -> float:
    beat = processes(stack)["aggregator-beat"][0]
    beat.suspend()
    try:
        return _cpu_of_window(stack, clock, sends_roll_up=True)
    finally:
        beat.resume()


def _cpu_of_window(stack: StackProcess, clock: SystemClock, *, sends_roll_up: bool) -> float:
    groups = processes(stack)
    counted = [process for name, group in groups.items() if name not in NOT_COUNTED for process in group]
    before_s, end_s = cpu_s(counted), clock.monotonic_s() + WINDOW_S
    while clock.monotonic_s() < end_s:
        if sends_roll_up:
            app.send_task("aggregator.roll_up", expires=2.0)
        sleep_s(ROLL_UP_EVERY_S)
    return cpu_s(counted) - before_s
