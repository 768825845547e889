"""What repair, audit and completeness add to the line's CPU: the same stack with and without them, in turn.

20 symbols with all streams, once the history that charts need is there. Without: beat is stopped (SIGSTOP) and all
its tasks but those three are sent as beat does. What piled up meanwhile is worked off before the next window.
Everything counts but the simulated exchange and beat.
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
ROUNDS = 3
WINDOW_S = 60.0
SETTLE_S = 20.0
#: The first counts of completeness, and the first minutes, which REST tops up.
WARM_UP_S = 75.0
TICK_S = 1.0
SHARE_TARGET = 1.05
PROOF = ("repair", "audit", "completeness")
NOT_COUNTED = ("exchange_sim", "aggregator-beat")


def run() -> list[Ratio]:
    """One line: CPU with the proof beside CPU without."""
    clock = SystemClock()
    wanted = {"SYMBOLS": f"top:{SYMBOLS}", "HISTORY_BARS": "100", "HISTORY_SECONDS": "100"}
    with tempfile.TemporaryDirectory() as directory, StackProcess(Path(directory), SOURCE="sim", **wanted) as stack:
        app.conf.update(broker_url=stack.status()["celery_broker_url"])
        sleep_s(WARM_UP_S)
        with_proof = without = 0.0
        for _ in range(ROUNDS):
            sleep_s(SETTLE_S)
            with_proof += _cpu_of_window(stack, clock, sends_tasks=False)
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
        return _cpu_of_window(stack, clock, sends_tasks=True)
    finally:
        beat.resume()


def _cpu_of_window(stack: StackProcess, clock: SystemClock, *, sends_tasks: bool) -> float:
    groups = processes(stack)
    counted = [process for name, group in groups.items() if name not in NOT_COUNTED for process in group]
    others = [task for name, task in app.conf.beat_schedule.items() if name not in PROOF]
    before_s = cpu_s(counted)
    for tick in range(round(WINDOW_S / TICK_S)):
        due_s = clock.monotonic_s() + TICK_S
        for task in others if sends_tasks else ():
            if tick * TICK_S % task["schedule"] == 0:
                app.send_task(task["task"], **task["options"])
        sleep_s(max(0.0, due_s - clock.monotonic_s()))
    return cpu_s(counted) - before_s
