"""`candlewire import FILE... [--symbol S] [--interval I] [--keep-stored] [--json]`: the exchange's published klines.

Files .csv, .csv.gz or .zip of the exchange's public archive, times in ms or us, with or without a header; symbol and
interval from the name (SYMBOL-INTERVAL-YYYY-MM[-DD].zip) or the options. 1s goes into `kline_1s`, the other stored
intervals into `aggregated_kline`, source `archive`, and of both the longer candles are made. A file goes in whole or
not at all: where a stored row says something else, the differences are listed and nothing is written; with
--keep-stored the rows that are missing go in nevertheless. No stored row is ever changed, but candles that lack
seconds are made whole. Exit code 0, 1 a difference or a file that was refused, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from aggregator.archive_files import UnreadableFile, archive_lines
from aggregator.archive_store import Imported, Refused, put_candles, put_seconds, stage
from aggregator.settings import AggregatorSettings
from market.archive_rows import BadArchive, archive_klines, named, stored_interval
from market.errors import UnknownInterval, UnknownSymbol
from market.interval import Interval
from market.kline import Kline
from market.rest_rows import BrokenChain
from market.symbol import parse_symbol
from runtime.clock import SystemClock
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.settings import load

#: A month of seconds is one statement.
STATEMENT_TIMEOUT_MS: Final = 600_000
SHOWN_EVERY_ROWS: Final = 5_000


def import_file(
    connection: Connection[TupleRow], path: Path, symbol: str, interval: Interval, *, keep_stored: bool, bar: Progress
) -> Imported:
    """One file. Raises Refused, BadArchive, UnreadableFile, BrokenChain and what the driver raises."""
    task = bar.add_task(path.name, total=None)
    with archive_lines(path) as lines:
        klines = archive_klines(lines, symbol, interval, SystemClock().now_ms())
        stage(connection, _shown(klines, bar, task))
    if interval is Interval.S1:
        return put_seconds(connection, symbol, keep_stored=keep_stored)
    return put_candles(connection, symbol, interval, keep_stored=keep_stored)


def _shown(klines: Iterable[Kline], bar: Progress, task: Any) -> Iterator[Kline]:
    for number, kline in enumerate(klines, 1):
        yield kline
        if number % SHOWN_EVERY_ROWS == 0:
            bar.update(task, completed=number)


def _import_all(options: argparse.Namespace, files: list[tuple[Path, str, Interval]]) -> list[dict[str, Any]]:
    settings = load(AggregatorSettings)
    reports = []
    is_quiet = options.json or not sys.stderr.isatty()
    columns = ("{task.description}", "{task.completed:,} rows", TimeElapsedColumn())
    with (
        Progress(*columns, console=Console(stderr=True), disable=is_quiet) as bar,
        connect(settings.database_url, "import", statement_timeout_ms=STATEMENT_TIMEOUT_MS) as connection,
    ):
        for path, symbol, interval in files:
            report: dict[str, Any] = {"file": str(path), "symbol": symbol, "interval": interval.value}
            try:
                done = import_file(connection, path, symbol, interval, keep_stored=options.keep_stored, bar=bar)
                report |= asdict(done)
            except (Refused, BadArchive, UnreadableFile, BrokenChain) as error:
                report |= asdict(Imported()) | {"error": str(error)}
            reports.append(report)
    return reports


def _options(arguments: list[str]) -> tuple[argparse.Namespace, list[tuple[Path, str, Interval]]]:
    parser = argparse.ArgumentParser(prog="candlewire import", description="Klines of the exchange's public archive.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".csv, .csv.gz or .zip")
    parser.add_argument("--symbol", help="default: from the name of the file")
    parser.add_argument("--interval", help=f"{', '.join(Interval)}; default: from the name of the file")
    parser.add_argument("--keep-stored", action="store_true", help="take what is missing in spite of differences")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    files = []
    for path in options.files:
        found = named(path.name) or ("", "")
        symbol, interval = options.symbol or found[0], options.interval or found[1]
        if not path.is_file():
            parser.error(f"{path}: no such file")
        if not symbol or not interval:
            parser.error(f"{path.name} does not name symbol and interval: give --symbol and --interval")
        try:
            files.append((path, parse_symbol(symbol), stored_interval(interval)))
        except (UnknownSymbol, UnknownInterval) as error:
            parser.error(f"{path.name}: {error}")
    return options, files


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 all is in, 1 a difference or a refused file, 2 usage."""
    options, files = _options(arguments)
    try:
        reports = _import_all(options, files)
    except DatabaseError as error:
        sys.stderr.write(f"{str(error).strip()}\nNothing of the file at hand was written; those before it are in.\n")
        return 1
    if options.json:
        print(json.dumps({"files": reports}))
    for report in [] if options.json else reports:
        if "error" in report:
            print(f"{report['file']}: REFUSED, {report['error']}")
            continue
        print(
            f"{report['file']}: {report['rows']:,} rows, {report['inserted']:,} inserted, {report['equal']:,} stored "
            f"alike, {report['different_count']:,} stored otherwise, {report['longer']:,} longer candles made"
        )
        for row in report["different"]:
            columns = ", ".join(f"{name} {ours} (file {theirs})" for name, (ours, theirs) in row["columns"].items())
            print(f"  {row['open_time']}: {columns}")
    return 1 if any(report["different_count"] or "error" in report for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
