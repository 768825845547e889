"""`python -m tests.chaos`: faults against the real processes, each on a rig of its own; one table at the end.

Exit code 1 on any violation. The load is the simulated exchange's; its own log is the truth.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable

from runtime.clock import SystemClock, new_random
from tests.chaos import depth, feed, network, overrun, processes, proof, short, work
from tests.chaos.rig import SETTLE_DEADLINE_S
from tests.chaos.scenario import Options, Result, Scenario, run, table

#: 20 of the simulated ones were measured at 530 messages a second; the load of the promises is 620.
SYMBOLS = 24

SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "SHORT": short.short,
    "KILLS": processes.kills,
    "F1": processes.f1,
    "F2": processes.f2,
    "F3": processes.f3,
    "F4": processes.f4,
    "F5": processes.f5,
    "F6": network.f6,
    "F7": feed.f7,
    "F8": depth.f8,
    "F9": work.f9,
    "F10": work.f10,
    "F14": processes.f14,
    "CUT": proof.cut,
    "ABSENT": proof.absent,
    "OVERRUN": overrun.overrun,
    "ALTERED": proof.altered,
    "MIXED": proof.mixed,
}
#: The short form is in `make test`, the altered trade at the end of MIXED.
RELEASE = [name for name in SCENARIOS if name not in ("SHORT", "ALTERED")]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", default=",".join(RELEASE), help="comma list; default all but SHORT and ALTERED")
    parser.add_argument("--symbols", type=int, default=SYMBOLS, help="default: enough for 620 messages a second")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the release doses, at least 1 of each kind")
    parser.add_argument("--doses", type=int, default=0, help="doses of each fault in all, instead of --scale")
    parser.add_argument("--minutes", type=float, default=0.0, help="spread the doses of each fault over so long")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--settle", type=float, default=SETTLE_DEADLINE_S, help="longest quiet after the doses, s")
    given = parser.parse_args()
    unknown = [name for name in given.faults.split(",") if name not in SCENARIOS]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    seed = new_random().getrandbits(32) if given.seed is None else given.seed
    options = Options(given.symbols, seed, given.scale, given.minutes, given.doses, given.settle)
    scenarios = [SCENARIOS[name]() for name in given.faults.split(",")]
    expected_s = sum(max(scenario.about_s(options.scale_of(scenario)), given.minutes * 60) for scenario in scenarios)
    print(f"seed {seed}; {len(scenarios)} faults, about {expected_s / 60:.0f} min", flush=True)
    clock = SystemClock()
    started_s = clock.monotonic_s()
    results = []
    for scenario in scenarios:
        print(f"{scenario.name}: {scenario.about}", flush=True)
        try:
            results.append(run(scenario, options))
        except Exception as error:  # the rig itself failed: told in the table, and the next fault has its turn
            traceback.print_exc()
            results.append(Result(scenario.name, wrong=[f"not finished: {error}"]))
        print(table(results[-1:]), flush=True)
    print(table(results))
    good = all(result.is_good for result in results)
    print(
        f"seed {seed}: {'all as promised' if good else 'VIOLATED'} in {(clock.monotonic_s() - started_s) / 60:.1f} min"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
