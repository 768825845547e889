"""One kill -9 each of producer, inserter, worker, relay, broker and database while the line runs; then the account.

Short in `make test` (test_kills.py), long by `python -m tests.chaos.kills --symbols 20 --minutes 10`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from runtime.clock import SystemClock, sleep_s
from runtime.exchange_rest import ExchangeRest
from tests.chaos.account import Account, take_account
from tests.stack_process import StackProcess, wait_for

VICTIMS = ("producer", "inserter", "aggregator", "flask_stream", "kafka", "postgres")
SETTLE_DEADLINE_S = 120.0
REST_WEIGHT_PER_MINUTE = 5000


def run(data_dir: Path, symbols: int, duration_s: float, out: bool = False) -> Account:
    """Run the line for `duration_s` with the kills spread evenly over it, let it settle, take the account."""
    with StackProcess(data_dir, SOURCE="sim", SYMBOLS=f"top:{symbols}", STREAMS="kline_1s,trade") as stack:
        clock = SystemClock()
        start_s = clock.monotonic_s()
        for number, victim in enumerate(VICTIMS, start=1):
            sleep_s(max(0.0, start_s + number * duration_s / (len(VICTIMS) + 1) - clock.monotonic_s()))
            pid = stack.kill(victim)
            killed_s = clock.monotonic_s()
            stack.wait_restarted(victim, pid)
            if out:
                print(
                    f"{victim}: pid {pid} killed, ready again after {clock.monotonic_s() - killed_s:.1f} s", flush=True
                )
        sleep_s(max(0.0, start_s + duration_s - clock.monotonic_s()))
        _settle(stack, symbols)
        status = stack.status()
        rest = ExchangeRest([status["urls"]["exchange_rest"]], clock, REST_WEIGHT_PER_MINUTE)
        with stack.connect() as connection, connection.transaction():
            connection.execute("set transaction isolation level repeatable read")
            return take_account(connection, rest)


def _settle(stack: StackProcess, symbols: int) -> None:
    """Wait until every symbol's watermark is within 3 s of now and no minute below it is dirty."""

    def settled() -> bool:
        with stack.connect() as connection:
            row = connection.execute(
                "select count(*) filter (where event_time > now() - interval '3 s'),"
                " (select count(*) from dirty_minute d join symbol_watermark w using (symbol)"
                "  where w.stream = 'kline_1s' and d.open_time + interval '1 min' <= w.event_time)"
                " from symbol_watermark where stream = 'kline_1s'"
            ).fetchone()
        return row is not None and row[0] == symbols and row[1] == 0

    wait_for("the line to settle", settled, SETTLE_DEADLINE_S)


def main() -> int:
    """Command line. Exit code 1 when the account is not exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        account = run(Path(directory), options.symbols, options.minutes * 60, out=True)
    print(account)
    return 0 if account.is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
