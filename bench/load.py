"""The whole line under load: `python -m bench.load --symbols 2000 --minutes 3`.

Starts a stack of its own with the simulated exchange and STREAMS=kline_1s, and reports at the end how far the
inserter is behind, how long after its end each minute was rolled up, and what every process used.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import psycopg

from market.interval import MINUTE_MS
from runtime.clock import SystemClock, sleep_s
from tests.stack_process import StackProcess

MAX_LAG_S = 2.0
MAX_ROLL_UP_S = 5.0
POLL_S = 0.2


def processes(stack: StackProcess) -> dict[str, list[psutil.Process]]:
    """The processes of each room with their children."""
    rooms = {}
    for room in stack.status()["rooms"]:
        if room["pid"]:
            parent = psutil.Process(room["pid"])
            rooms[room["name"]] = [parent, *parent.children(recursive=True)]
    return rooms


def cpu_s(group: list[psutil.Process]) -> float:
    """CPU seconds that the living processes of the group and those of their children that have ended have used."""
    total = 0.0
    for process in group:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mb(group: list[psutil.Process]) -> float:
    """Proportional set size (shared pages counted once) of the group in MB."""
    total = 0
    for process in group:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def watch_minutes(
    connection: psycopg.Connection[Any], symbols: int, clock: SystemClock, end_s: float
) -> list[tuple[int, float]]:
    """Until `end_s`: for each minute that ended meanwhile, seconds from its end to the last of its candles."""
    late: list[tuple[int, float]] = []
    minute_ms = clock.now_ms() // MINUTE_MS * MINUTE_MS
    query = (
        "select count(*) from aggregated_kline where symbol = any(select symbol from symbol_watermark)"
        " and interval = '1m' and open_time = to_timestamp(%s) and is_closed"
    )
    while clock.monotonic_s() < end_s:
        if clock.now_ms() >= minute_ms + MINUTE_MS:
            row = connection.execute(query, [minute_ms / 1000]).fetchone()
            if row is not None and row[0] >= symbols:
                late.append((minute_ms, (clock.now_ms() - minute_ms - MINUTE_MS) / 1000))
                minute_ms += MINUTE_MS
        sleep_s(POLL_S)
    return late


def run(symbols: int, minutes: float, streams: str, *, choose: str | None = None) -> int:
    """Run the load and print the table. Exit code 1 when a bound is broken."""
    clock = SystemClock()
    wanted = {"SYMBOLS": choose or f"top:{symbols}", "STREAMS": streams}
    with tempfile.TemporaryDirectory() as directory, StackProcess(Path(directory), SOURCE="sim", **wanted) as stack:
        with stack.connect() as connection:
            sleep_s(10)
            groups = processes(stack)
            before = {name: cpu_s(group) for name, group in groups.items()}
            start_s = clock.monotonic_s()
            late = watch_minutes(connection, symbols, clock, start_s + minutes * 60)
            took_s = clock.monotonic_s() - start_s
            row = connection.execute(
                "select extract(epoch from now() - min(event_time)), count(*), (select count(*) from kline_1s),"
                " (select count(*) from kline_gap) from symbol_watermark where stream = 'kline_1s'"
            ).fetchone()
        assert row is not None
        total_cpu = total_mb = 0.0
        for name, group in sorted(groups.items()):
            cpu = (cpu_s(group) - before[name]) / took_s
            megabytes = memory_mb(group)
            total_cpu, total_mb = total_cpu + cpu, total_mb + megabytes
            print(f"{name:16} {cpu:6.3f} cores {megabytes:8.1f} MB")
        print(f"{'all':16} {total_cpu:6.3f} cores {total_mb:8.1f} MB")
        print(f"symbols {row[1]}, rows {row[2]}, gaps {row[3]}, slowest symbol {float(row[0]):.2f} s behind")
        print("minutes rolled up after s:", ", ".join(f"{seconds:.1f}" for _, seconds in late))
        lag_ok = row[1] >= symbols and float(row[0]) < MAX_LAG_S
        minutes_ok = bool(late) and late[-1][1] <= MAX_ROLL_UP_S
        return 0 if lag_ok and minutes_ok else 1


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--streams", default="kline_1s")
    options = parser.parse_args()
    return run(options.symbols, options.minutes, options.streams)


if __name__ == "__main__":
    sys.exit(main())
