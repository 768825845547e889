"""`python -m bench [NAME ...]`: each benchmark against a reference measured in the same run, as one table.

Exit code 0 = every limit kept, 1 = one broken or one benchmark failed, 2 = usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback

from rich.console import Console
from rich.table import Table

from bench.ratio import Ratio
from runtime.clock import SystemClock

#: Name on the command line -> module with run() -> list[Ratio]. Each takes at most five minutes on an idle machine.
BENCHES = {
    "relay": "bench.relay",
    "inserter": "bench.inserter",
    "rollup": "bench.roll_up",
    "latency": "bench.latency",
    "audit": "bench.audit",
    "backfill": "bench.backfill",
    "export": "bench.export",
    "http": "bench.http_dialects",
    "operator": "bench.operator_page",
    "proof": "bench.proof_share",
}


def main() -> int:
    """Run what was asked for, all by default, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Each figure against a reference.")
    parser.add_argument(
        "names", nargs="*", choices=[[], *BENCHES], metavar="NAME", help=f"{', '.join(BENCHES)}; all by default"
    )
    names = parser.parse_args().names or list(BENCHES)
    ratios: list[Ratio] = []
    failed: list[str] = []
    clock = SystemClock()
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start_s = clock.monotonic_s()
        try:
            ratios += importlib.import_module(BENCHES[name]).run()
        except Exception:
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {clock.monotonic_s() - start_s:.0f} s", file=sys.stderr, flush=True)
    Console(width=140).print(table(ratios))
    for name in failed:
        print(f"FAILED: {name}", file=sys.stderr)
    return 0 if not failed and all(ratio.is_good for ratio in ratios) else 1


def table(ratios: list[Ratio]) -> Table:
    """All figures."""
    found = Table("what : reference", "ours", "reference", "unit", "ratio", "limit", "measured with")
    for column in (1, 2, 4):
        found.columns[column].justify = "right"
    for r in ratios:
        found.add_row(r.name, _figure(r.ours), _figure(r.reference), r.unit, f"{r.ratio:.2f}", r.verdict, r.note)
    return found


def _figure(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
