"""`candlewire export SYMBOL --interval 1m [--from T] [--to T] --format parquet --output FILE`: rows into a file.

Writes FILE and FILE.manifest.json (rows, sha256, completeness, query). `--table gaps` and `--table completeness` take
SYMBOL or all. `--resume` goes on with what an interrupted run has left. `--layout archive` writes zips as the
exchange's public archive has them into the directory OUTPUT. Times in ms or ISO 8601, ends exclusive. Exit code 0, 1
when it could not be finished (FILE.partial stays), 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from msgspec import structs
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TimeElapsedColumn

from market.errors import UnknownInterval, UnknownSymbol
from market.odd_intervals import EXCHANGE_INTERVALS, grid_of
from market.symbol import parse_symbol
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.settings import load
from runtime.time_text import iso, parse_time_ms
from webapp.export import archive_layout
from webapp.export.archive_layout import Unit
from webapp.export.encoders import Format, Unrepresentable
from webapp.export.files import Refused, put, write_file
from webapp.export.manifest import Progress, described, manifest
from webapp.export.pieces import Snapshot
from webapp.export.tables import NO_TRADES, ExportQuery, Table
from webapp.selectors import SYMBOL_EXISTS
from webapp.settings import WebappSettings

STATEMENT_TIMEOUT_MS: Final = 30_000
Report = Callable[[Progress], object]


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 written, 1 not finished, 2 usage."""
    options = _options(arguments)
    settings = load(WebappSettings)
    try:
        quiet = options.json or not sys.stderr.isatty()
        with Bar("{task.description}", TimeElapsedColumn(), console=Console(stderr=True), disable=quiet) as bar:
            task = bar.add_task("0 rows", total=None)
            written = _export(options, settings, lambda done: bar.update(task, description=f"{done.rows:,} rows"))
    except (Refused, UnknownSymbol) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (DatabaseError, OSError, Unrepresentable) as error:
        sys.stderr.write(f"{str(error).strip()}\n{_left(options.output)}")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(_left(options.output))
        return 1
    if options.json:
        print(json.dumps({"source": settings.source, "files": written}))
    for file in [] if options.json else written:
        share = "" if file["completeness"] is None else f", completeness {file['completeness']:.6f}"
        print(f"{file['file']}: {file['rows']:,} rows{share}, sha256 {file['sha256']}")
    return 0


def _left(output: Path) -> str:
    """What an export that ended early leaves; nothing of the archive's layout, nor where none could begin."""
    partial = output.with_name(f"{output.name}.partial")
    return f"{partial} stays; --resume goes on with it.\n" if partial.exists() else ""


def _export(options: argparse.Namespace, settings: WebappSettings, report: Report) -> list[dict[str, Any]]:
    url = settings.analyst_database_url or settings.database_url
    query: ExportQuery = options.query
    about = {**described(query, options.format, options.layout), "source": settings.source}
    with closing(connect(url, "export", statement_timeout_ms=STATEMENT_TIMEOUT_MS)) as connection:
        row = None if query.symbol is None else connection.execute(SYMBOL_EXISTS, [query.symbol] * 3).fetchone()
        if row is not None and not row[0]:
            raise UnknownSymbol(f"{query.symbol} is not a symbol of this database")
        connection.commit()
        if options.layout == "archive":
            return _archive(connection, options, about, report)
        found = write_file(Snapshot(connection, query), options.output, about, resume=options.resume, report=report)
    return [{"file": str(options.output), **found}]


def _archive(
    connection: Connection[TupleRow], options: argparse.Namespace, about: dict[str, Any], report: Report
) -> list[dict[str, Any]]:
    """One zip a day or month, those with rows."""
    query: ExportQuery = options.query
    first = Snapshot(connection, query).known_ms()
    if first is None:
        return []
    start_ms = first[0] if query.start_ms is None else query.start_ms
    end_ms = first[1] if query.end_ms is None else min(query.end_ms, first[1])
    options.output.mkdir(parents=True, exist_ok=True)
    total, written = Progress(), []
    for period in archive_layout.periods(query.symbol or "", query.interval or "", start_ms, end_ms):
        unit = options.unit.at(period.start_ms)
        part = structs.replace(query, start_ms=period.start_ms, end_ms=period.end_ms, is_closed_only=True)
        connection.rollback()
        snapshot = Snapshot(connection, part, archive_layout.columns(unit))
        done = Progress()
        path, sha256 = archive_layout.write_zip(options.output, period.stem, snapshot.counted(done))
        if not done.rows:
            path.unlink()
            path.with_suffix(".zip.CHECKSUM").unlink()
            continue
        done.complete_rows = snapshot.complete_bars()
        asked = {**about, "start": iso(period.start_ms), "end": iso(period.end_ms), "unit": unit.value}
        found = manifest(done, sha256, snapshot.expected_bars(), asked)
        put(path.with_name(f"{path.name}.manifest.json"), found)
        written.append({"file": str(path), **found})
        total.rows += done.rows
        report(total)
    return written


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="candlewire export", description="Rows of the database into a file.")
    parser.add_argument("symbol", nargs="?", metavar="SYMBOL", help="needed for klines; else all symbols")
    parser.add_argument("--table", default="klines", help=f"{', '.join(Table)}; default klines")
    parser.add_argument("--interval", help=f"of klines: {', '.join(EXCHANGE_INTERVALS)} (case-sensitive)")
    parser.add_argument("--from", dest="start", type=parse_time_ms, help="ms or ISO 8601; default: the first row")
    parser.add_argument("--to", dest="end", type=parse_time_ms, help="ms or ISO 8601, exclusive; default: the last row")
    parser.add_argument("--format", choices=[*Format], help="default: by the name of FILE, else csv")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: by the query, in this directory")
    parser.add_argument("--resume", action="store_true", help="go on with FILE.partial of an interrupted run")
    parser.add_argument(
        "--layout", choices=["table", "archive"], default="table", help="archive: daily zips into OUTPUT"
    )
    parser.add_argument("--unit", type=Unit, choices=[*Unit], default=Unit.AUTO, help="times of --layout archive")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.table not in tuple(Table):
        reason = NO_TRADES if options.table == "trades" else f"no table {options.table!r}"
        parser.error(f"--table: {reason}; allowed: {', '.join(Table)}")
    try:
        symbol = None if options.symbol is None else parse_symbol(options.symbol)
        interval = grid_of(options.interval or "").interval if options.table == Table.KLINES else None
    except (UnknownSymbol, UnknownInterval) as error:
        parser.error(str(error))
    if options.table == Table.KLINES and symbol is None:
        parser.error("klines need SYMBOL")
    if options.layout == "archive" and options.table != Table.KLINES:
        parser.error("--layout archive is for klines")
    if None not in (options.start, options.end) and options.start >= options.end:
        parser.error("--to must lie after --from")
    options.query = ExportQuery(
        table=Table(options.table), symbol=symbol, interval=interval, start_ms=options.start, end_ms=options.end
    )
    name = "-".join(part for part in (symbol, interval, None if interval else options.table) if part)
    if options.layout == "archive":
        options.output = options.output or Path(name)
        options.format = Format.CSV
        return options
    endings = [kind for kind in Format if str(options.output).endswith(f".{kind.value}")]
    options.format = Format(options.format) if options.format else (endings or [Format.CSV])[0]
    options.output = options.output or Path(f"{name}.{options.format.value}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
