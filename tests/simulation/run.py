"""Many seeds over two processes; a failing one is shrunk to the faults that it needs."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from runtime.clock import SystemClock
from tests.simulation.plan import Plan, draw_plan
from tests.simulation.violations import Anomaly, Violation
from tests.simulation.world import Classes, World
from tests.slow_line import sending_to_slow_lines

PROCESSES = 2
SEEDS_A_PIECE = 10
SHRINK_RUNS_MAX = 40
DESCRIBED_MAX = 3


@dataclass(frozen=True)
class Outcome:
    """What became of one seed; `violation` empty when all promises were kept."""

    seed: int
    faults: int
    anomaly: str = ""
    violation: str = ""


def run_plan(plan: Plan, classes: type[Classes] = Classes) -> Outcome:
    """One life; never raises for what the product does."""
    world: World | None = None
    try:
        with sending_to_slow_lines():
            world = World(plan, classes)
            world.run()
    except Violation as violation:
        at_s = world.now_s if world is not None else 0
        return Outcome(plan.seed, 0, violation.anomaly.value, f"at {at_s} s: {violation.text}")
    except Exception as error:
        last = traceback.format_exception(error)[-2:]
        return Outcome(plan.seed, 0, Anomaly.CRASH.value, f"{type(error).__name__}: {error}\n{''.join(last)}")
    return Outcome(plan.seed, world.fault_count)


def shrink(plan: Plan, anomaly: str, classes: type[Classes] = Classes) -> Plan:
    """The plan with as few faults and as little of everything else as still give the same anomaly."""
    runs = 0

    def fails(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        return runs <= SHRINK_RUNS_MAX and run_plan(candidate, classes).anomaly == anomaly

    for fault in plan.faults:
        candidate = replace(plan, faults=tuple(one for one in plan.faults if one != fault))
        if fails(candidate):
            plan = candidate
    for candidate in _smaller(plan):
        if fails(candidate):
            plan = candidate
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    if len(plan.symbols) > 1:
        yield replace(plan, symbols=plan.symbols[:1])
    last_s = max((fault.end_s for fault in plan.faults), default=0)
    for length_s in (last_s + 1, last_s + 10, last_s + 30):
        if length_s < plan.length_s:
            yield replace(plan, length_s=length_s)


def quiet() -> None:
    """The product's warnings are what is wanted here, a thousand a second: nobody reads them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def quietly() -> Iterator[None]:
    """The same for a while, in a process that has other things to do too."""
    before = structlog.get_config()
    quiet()
    try:
        yield
    finally:
        structlog.configure(**before)


def _begin_worker() -> None:
    """What a world holds lives as long as it: garbage is looked for between pieces only."""
    quiet()
    gc.freeze()
    gc.disable()


def _piece(seeds: range) -> list[Outcome]:
    outcomes = [run_plan(draw_plan(seed)) for seed in seeds]
    gc.collect()
    return outcomes


def run_seeds(first: int, count: int) -> Iterator[Outcome]:
    """Outcomes of `count` seeds from `first` on, over PROCESSES processes, in their order."""
    end = first + count
    pieces = [range(start, min(start + SEEDS_A_PIECE, end)) for start in range(first, end, SEEDS_A_PIECE)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES, _begin_worker) as pool:
        for outcomes in pool.imap(_piece, pieces):
            yield from outcomes


def fresh_seed() -> int:
    """A first seed that no run had before."""
    return SystemClock().now_ms()


@dataclass
class Report:
    """The sum of a run."""

    seeds: int = 0
    faults: int = 0
    violations: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"simulation: {self.seeds} seeds in {self.seconds:.1f} s, {self.faults} faults, "
            f"{self.violations} violations"
        )


def run_and_report(outcomes: Iterable[Outcome]) -> tuple[Report, list[str]]:
    """The report, and a text for each failing seed: anomaly, what is left after shrinking, the command."""
    clock = SystemClock()
    started_s = clock.monotonic_s()
    report, texts = Report(), []
    for outcome in outcomes:
        report.seeds += 1
        report.faults += outcome.faults
        if outcome.anomaly:
            report.violations += 1
            with quietly():
                is_told = report.violations <= DESCRIBED_MAX
                texts.append(describe(outcome) if is_told else f"seed {outcome.seed}: {outcome.anomaly}")
    report.seconds = clock.monotonic_s() - started_s
    return report, texts


def describe(outcome: Outcome) -> str:
    """What a person needs to know of a failing seed."""
    plan = shrink(draw_plan(outcome.seed), outcome.anomaly)
    lines = [
        f"seed {outcome.seed}: {outcome.anomaly}: {outcome.violation}",
        f"  needs {len(plan.faults)} faults in {plan.length_s} s with {', '.join(plan.symbols)}, {plan.retention}",
        *(f"    {fault}" for fault in plan.faults),
        f"  shrunk: {run_plan(plan).violation}",
        f"  again: {command(outcome.seed)}",
        f"  keep it: add {outcome.seed} to tests/simulation/regressions.py",
    ]
    return "\n".join(lines)


def command(seed: int) -> str:
    """How to see it again."""
    return f"python -m tests.simulation --seeds 1 --first {seed}"
