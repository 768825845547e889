"""`python -m tests.simulation --seeds N [--first SEED]`: that many lives. Exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.run import fresh_seed, quiet, run_and_report, run_seeds


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulated lives of the line.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=None, help="the first seed; fresh ones when not given")
    arguments = parser.parse_args()
    first = fresh_seed() if arguments.first is None else arguments.first
    quiet()
    sys.stdout.write(f"seeds {first} to {first + arguments.seeds - 1}\n")
    report, texts = run_and_report(run_seeds(first, arguments.seeds))
    sys.stdout.write("".join(f"{text}\n" for text in texts) + f"{report}\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
