"""What repair, audit and completeness add to the line's CPU: the same stack with and without them, in turn.

20 symbols with all streams, once the history that charts need is there. Beat is stopped (SIGSTOP) and its tasks are
sent from here as it does, all of them or all but those three. What piled up without them is worked off before the next
window. Everything counts but the simulated exchange; this process stands for beat.
"""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path

import psutil

from aggregator.celery_app import app
from bench.load import cpu_s, processes
from bench.ratio import Ratio
from runtime.clock import SystemClock, sleep_s
from tests.stack_process import StackProcess

SYMBOLS = 20
WINDOW_S = 60.0
SETTLE_S = 20.0
#: The first counts of completeness, and the first minutes, which REST tops up.
WARM_UP_S = 75.0
TICK_S = 0.25
SHARE_TARGET = 1.05
PROOF = ("repair", "audit", "completeness")
#: Windows with and without, so that a load that grows weighs on both alike.
ORDER = (True, False, False, True)


def run() -> list[Ratio]:
    """One line: CPU with the proof beside CPU without."""
    clock = SystemClock()
    wanted = {"SYMBOLS": f"top:{SYMBOLS}", "HISTORY_BARS": "100", "HISTORY_SECONDS": "100"}
    with tempfile.TemporaryDirectory() as directory, StackProcess(Path(directory), SOURCE="sim", **wanted) as stack:
        app.conf.update(broker_url=stack.status()["celery_broker_url"])
        sleep_s(WARM_UP_S)
        beat = processes(stack)["aggregator-beat"][0]
        beat.suspend()
        try:
            spent_s = _spent_by_window(stack, clock)
        finally:
            beat.resume()
    seconds = len(ORDER) / 2 * WINDOW_S
    return [
        Ratio(
            "line with repair, audit, completeness: CPU",
            spent_s[True] / seconds,
            spent_s[False] / seconds,
            "cores",
            False,
            SHARE_TARGET,
            f"{SYMBOLS} symbols, all streams; {len(ORDER) // 2} windows of {WINDOW_S:.0f} s each",
        )
    ]


def _spent_by_window(stack: StackProcess, clock: SystemClock) -> dict[bool, float]:
    spent_s = {True: 0.0, False: 0.0}
    #: As beat does: every task for the first time when its interval has passed.
    due_s = {name: clock.monotonic_s() + task["schedule"] for name, task in app.conf.beat_schedule.items()}
    for proves in ORDER:
        _send_tasks(clock, due_s, SETTLE_S, proves=True)
        before_s = _spent_s(stack)
        _send_tasks(clock, due_s, WINDOW_S, proves=proves)
        spent_s[proves] += _spent_s(stack) - before_s
    return spent_s


def _spent_s(stack: StackProcess) -> float:
    groups = processes(stack)
    return cpu_s([psutil.Process(), *chain(*(group for name, group in groups.items() if name != "exchange_sim"))])


def _send_tasks(clock: SystemClock, due_s: dict[str, float], seconds: float, *, proves: bool) -> None:
    end_s = clock.monotonic_s() + seconds
    while (now_s := clock.monotonic_s()) < end_s:
        for name, task in app.conf.beat_schedule.items():
            if now_s >= due_s[name]:
                due_s[name] += task["schedule"]
                if proves or name not in PROOF:
                    app.send_task(task["task"], **task["options"])
        sleep_s(TICK_S)
