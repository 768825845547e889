"""Fill what is missing of a symbol: `python -m aggregator.backfill [SYMBOL] [--from T] [--to T] [--reopen] [--json]`.

The seconds of the range that are neither a row nor in a gap become open gaps (detector `operator`), then the repair
runs here until the range is settled (newest first over all symbols, as in the worker, which stands aside meanwhile).
`--reopen` first opens again what was given up or absent in the range; without SYMBOL, of every symbol. Times in ms or
ISO 8601, ends exclusive; the default range is everything from the symbol's first second to its watermark. Exit code 0
nothing is missing, 1 something still is, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from aggregator import repair_sql as sql
from aggregator.missing import Range, Refused, record_missing, reopen
from aggregator.repair import Limits, Repair, alone
from aggregator.settings import AggregatorSettings
from market.ledger import OPEN
from market.symbol import parse_symbol
from runtime import logs
from runtime.clock import Clock, SystemClock, sleep_s
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.exchange_rest import ExchangeRest, RestUnavailable
from runtime.settings import load
from runtime.time_text import parse_time_ms

#: How long to wait for another repair to stand aside, and for a further try that is due later.
LOCK_WAIT_S: Final = 60.0
RETRY_WAIT_S: Final = 90.0
POLL_S: Final = 0.2
WITHOUT_ROWS: Final = ("absent", "unrepairable", OPEN)
FAR_MS: Final = 253_402_300_799_000


@dataclass
class Report:
    """What became of a range, in seconds."""

    symbol: str
    from_time: int
    to_time: int
    recorded: int
    filled: int
    absent: int
    unrepairable: int
    open: int

    @property
    def is_complete(self) -> bool:
        """Nothing is missing that the exchange has."""
        return not (self.unrepairable or self.open)


def missing_s(connection: Connection[TupleRow], part: Range) -> dict[str, int]:
    """Seconds of the range by the state of the gaps they are in."""
    ends = [part.to_ms, part.from_ms]
    rows = connection.execute(sql.BY_STATE, [*ends, part.symbol, *ends]).fetchall()
    connection.commit()
    return dict(rows)


def fill_range(
    connection: Connection[TupleRow], repair: Repair, clock: Clock, part: Range, progress: Callable[[int], None]
) -> None:
    """Repair until the range has no open seconds, or only such as nobody will try soon. `progress` is told the open
    seconds. Raises RestUnavailable when the exchange stays away."""
    give_up_s = clock.monotonic_s() + RETRY_WAIT_S
    open_s = missing_s(connection, part).get(OPEN, 0)
    while open_s and clock.monotonic_s() < give_up_s:
        progress(open_s)
        try:
            did_something = repair.step(connection)
        except RestUnavailable as error:
            if clock.monotonic_s() + error.retry_after_s > give_up_s:
                raise
            did_something = False
            sleep_s(error.retry_after_s)
        left_s = missing_s(connection, part).get(OPEN, 0)
        if left_s < open_s:
            give_up_s = clock.monotonic_s() + RETRY_WAIT_S
        open_s = left_s
        if not did_something:
            sleep_s(POLL_S)
    progress(open_s)


def report(connection: Connection[TupleRow], part: Range, before: dict[str, int], recorded: int) -> Report:
    """What became of the range."""
    after = missing_s(connection, part)
    left = {state: after.get(state, 0) for state in ("absent", "unrepairable", OPEN)}
    filled = before.get(OPEN, 0) + before.get("absent", 0) + before.get("unrepairable", 0) - sum(left.values())
    return Report(
        part.symbol,
        part.from_ms,
        part.to_ms,
        recorded,
        max(0, filled),
        left["absent"],
        left["unrepairable"],
        left[OPEN],
    )


def backfill(connection: Connection[TupleRow], repair: Repair, options: argparse.Namespace) -> list[Report]:
    """Record, reopen, repair; one report a range. Raises Refused, RestUnavailable."""
    clock = SystemClock()
    start, end = options.start or 0, options.end or FAR_MS
    if options.symbol is None:
        parts, recorded = reopen(connection, None, start, end), 0
    else:
        part, recorded = record_missing(connection, options.symbol, options.start, options.end)
        parts = [part]
        if options.reopen:
            reopen(connection, part.symbol, part.from_ms, part.to_ms)
    reports = []
    with Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=options.json or not sys.stderr.isatty(),
    ) as bar:
        for part in parts:
            before = missing_s(connection, part)
            total = before.get(OPEN, 0)
            task = bar.add_task(f"{part.symbol} seconds", total=total)
            fill_range(connection, repair, clock, part, partial(_show, bar, task, total))
            reports.append(report(connection, part, before, recorded))
    return reports


def _show(bar: Progress, task: TaskID, total_s: int, open_s: int) -> None:
    bar.update(task, completed=total_s - open_s)


def _wait_for_turn(connection: Connection[TupleRow], clock: Clock, work: Callable[[], list[Report]]) -> list[Report]:
    """The work while no other process repairs. Raises Refused when the other one does not stand aside in time."""
    give_up_s = clock.monotonic_s() + LOCK_WAIT_S
    while clock.monotonic_s() < give_up_s:
        with alone(connection) as is_ours:
            if is_ours:
                return work()
        sleep_s(POLL_S)
    raise Refused(f"another repair has been at work for {LOCK_WAIT_S:.0f} s; try again later")


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="candlewire backfill", description="Fill what is missing of a symbol.")
    parser.add_argument("symbol", nargs="?", type=parse_symbol, metavar="SYMBOL")
    parser.add_argument(
        "--from", dest="start", type=parse_time_ms, help="ms or ISO 8601; default: the symbol's first second"
    )
    parser.add_argument(
        "--to", dest="end", type=parse_time_ms, help="ms or ISO 8601, exclusive; default: its watermark"
    )
    parser.add_argument("--reopen", action="store_true", help="open again what was given up or absent in the range")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.symbol is None and not options.reopen:
        parser.error("give SYMBOL, or --reopen for every symbol")
    return options


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 nothing is missing, 1 something still is or could not be asked for, 2 usage."""
    options = _options(arguments)
    settings = load(AggregatorSettings)
    logs.configure("backfill", "WARNING", as_json=False, stream=sys.stderr)
    clock = SystemClock()
    rest = ExchangeRest(settings.rest_urls(), clock, settings.history_weight_per_minute)
    repair = Repair(rest, clock, Limits.of(settings))
    try:
        with connect(settings.database_url, "backfill") as connection:
            reports = _wait_for_turn(connection, clock, lambda: backfill(connection, repair, options))
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (RestUnavailable, DatabaseError) as error:
        sys.stderr.write(f"{error}\nWhat was filled stays; the running stack goes on with the rest.\n")
        return 1
    finally:
        rest.close()
    is_complete = all(part.is_complete for part in reports)
    if options.json:
        print(json.dumps({"complete": is_complete, "ranges": [asdict(part) for part in reports]}))
    if not reports and not options.json:
        print("no gap was given up or absent: nothing to open again")
    for part in [] if options.json else reports:
        print(
            f"{part.symbol} {part.from_time} to {part.to_time}: {part.recorded} s newly recorded as missing, "
            f"{part.filled} filled, {part.absent} absent, {part.unrepairable} unrepairable, {part.open} open"
        )
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
