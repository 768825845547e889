"""`python -m aggregator.replay FILE [--speed X] [--schema NAME] [--json]`: a tape into a schema of its own.

The same pure code as the line's makes rows, candles and gaps of the recorded frames, at the recorded pace (speed 1),
faster, or as fast as possible (0 or max), and a digest of them (market/digest.py). A minute is written when nothing
can come for it any more, three minutes after its end. `--against-database` makes no schema: it asks whether the
database holds of the tape's time exactly what the tape says. `--drop SCHEMA` removes what a replay made.

Exit code 0; 1 when the tape is cut (it is replayed to the cut), its digest is not the one that it ends with, the
database differs or cannot be reached; 2 for a file that is no tape and for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aggregator.replay_database import database_digest
from aggregator.replay_store import ReplayStore, SchemaError, drop_schema
from aggregator.settings import AggregatorSettings
from market.digest import Digest, Fact
from market.errors import BadFrame
from market.stream import Stream
from market.tape_account import TapeAccount
from market.tape_lines import TapedFrame
from runtime.clock import Clock, SystemClock, sleep_s
from runtime.database import DatabaseError, connect
from runtime.settings import load
from runtime.tape_file import TapeError, TapeFile

PROGRESS_INTERVAL_S: Final = 0.5
FLUSH_INTERVAL_S: Final = 1.0
#: One wait between two frames; a longer silence on the tape is waited for in parts of it.
WAIT_MAX_S: Final = 1.0


@dataclass
class Replay:
    """One pass over a tape: facts go to the digest and to `keep`, lines that cannot be used to `refuse`."""

    tape: TapeFile
    keep: Callable[[Fact], None] = lambda fact: None
    refuse: Callable[[int, str, bytes, int], None] = lambda line, reason, payload, received_ms: None
    digest: Digest = field(default_factory=Digest)
    bad_lines: int = 0

    def __post_init__(self) -> None:
        self.account = TapeAccount(build_seconds=Stream.KLINE_1S not in self.tape.streams)

    def run(self, each_frame: Callable[[int], None]) -> None:
        """Read to the end or the cut. `each_frame` is told the receive time in ms after each frame."""
        for line in self.tape:
            try:
                taped = self.tape.parse(line)
                if isinstance(taped, TapedFrame):
                    self.account.take(taped)
                    each_frame(self.account.received_ms)
            except BadFrame as error:
                self.bad_lines += 1
                self.refuse(self.tape.lines_read, str(error), line, self.account.received_ms)
            self._take(self.account.settled())
        self._take(self.account.finish())

    def _take(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self.digest.fact(fact)
            self.keep(fact)

    def report(self) -> dict[str, Any]:
        """What the tape said."""
        end, digest = self.tape.end, self.digest.text()
        recorded = end.digest if end is not None else None
        return {
            "digest": digest,
            "recorded_digest": recorded,
            "file": str(self.tape.path),
            "format": self.tape.format,
            "cut_at_line": self.tape.cut_at_line,
            "windows": {name: list(window) for name, window in self.account.windows_ms().items()},
            "bad_lines": self.bad_lines,
            **self.account.counts,
        }


class Pace:
    """Holds the frames back to the recorded pace times `speed`; None = not at all."""

    def __init__(self, clock: Clock, speed: float | None, flush: Callable[[], None]) -> None:
        self._clock, self._speed, self._flush = clock, speed, flush
        self._start_s = self._shown_s = self._flushed_s = clock.monotonic_s()
        self._first_ms: int | None = None
        self._frames = 0
        self._on_terminal = sys.stderr.isatty()

    def frame(self, received_ms: int) -> None:
        """Wait until the frame's time has come."""
        self._frames += 1
        if self._first_ms is None and received_ms:
            self._first_ms = received_ms
        if self._on_terminal:
            self._show(received_ms)
        if self._speed is None or self._first_ms is None:
            return
        due_s = self._start_s + (received_ms - self._first_ms) / 1000 / self._speed
        while (now_s := self._clock.monotonic_s()) < due_s:
            if now_s - self._flushed_s >= FLUSH_INTERVAL_S:
                self._flushed_s = now_s
                self._flush()
            sleep_s(min(due_s - now_s, WAIT_MAX_S))

    def _show(self, received_ms: int) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._shown_s >= PROGRESS_INTERVAL_S:
            self._shown_s = now_s
            of_tape_s = (received_ms - (self._first_ms or received_ms)) / 1000
            sys.stderr.write(f"\r{self._frames} frames, {of_tape_s:.0f} s of the tape ")


def replay(options: argparse.Namespace, database_url: str, clock: Clock) -> dict[str, Any]:
    """The tape into its schema; the report. Raises TapeError, SchemaError, DatabaseError."""
    tape = TapeFile(options.file)
    schema = options.schema or f"replay_{clock.now_ms()}"
    with connect(database_url, "replay") as connection:
        store = ReplayStore(connection, schema, options.file.name)
        run = Replay(tape, store.fact, store.letter)
        run.run(Pace(clock, options.speed, store.flush).frame)
        report = {**run.report(), "schema": schema, **store.counts}
        store.finish(report)
    return report


def against_database(options: argparse.Namespace, database_url: str, clock: Clock) -> dict[str, Any]:
    """Whether the database says the same of the tape's time. Raises TapeError, DatabaseError."""
    run = Replay(TapeFile(options.file))
    run.run(Pace(clock, None, lambda: None).frame)
    with connect(database_url, "replay") as connection:
        theirs = database_digest(connection, run.account.windows_ms())
    ours, stored = run.digest.sections(), theirs.sections()
    different = sorted(" ".join(key) for key in ours.keys() | stored.keys() if ours.get(key) != stored.get(key))
    return {**run.report(), "database_digest": theirs.text(), "equal": not different, "different": different}


def is_good(report: dict[str, Any]) -> bool:
    """False when the tape is cut, is not what was recorded, or the database says something else."""
    as_recorded = report["recorded_digest"] in (None, report["digest"])
    return report["cut_at_line"] is None and as_recorded and report.get("equal", True)


def _print(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    if "schema" in report:
        print(f"{report['file']}: {report['rows']} rows, {report['candles']} candles, {report['gaps']} gaps, "
              f"{report['dead_letters']} dead letters in schema {report['schema']}")  # fmt: skip
    print(report["digest"])
    if "equal" in report:
        differing = ", ".join(report["different"])
        print("the database says the same" if report["equal"] else f"the database differs in: {differing}")


def _complain(report: dict[str, Any]) -> None:
    """On stderr what is wrong, in words."""
    if report["cut_at_line"] is not None:
        sys.stderr.write(f"{report['file']} is cut at line {report['cut_at_line']}; replayed up to there\n")
    if report["recorded_digest"] not in (None, report["digest"]):
        sys.stderr.write(f"the recording ends with another digest: {report['recorded_digest']}\n")
    if report["too_late"]:
        sys.stderr.write(f"{report['too_late']} messages came too late for their minute and were left out\n")


def _speed(text: str) -> float | None:
    if text in ("max", "0"):
        return None
    speed = float(text)
    if not 0 < speed <= 1e6:
        raise ValueError(text)
    return speed


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="candlewire replay", description="Rebuild from a tape what it says.")
    parser.add_argument("file", type=Path, nargs="?", help="the tape")
    parser.add_argument("--speed", type=_speed, default=None, help="1 = as recorded; 0 or max = at once (default)")
    parser.add_argument("--schema", help="name of the new schema (default: one with the time in it)")
    parser.add_argument("--against-database", action="store_true", help="compare with the live tables, make no schema")
    parser.add_argument("--drop", metavar="SCHEMA", help="drop a schema that a replay made")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if (options.file is None) == (options.drop is None):
        parser.error("give a FILE, or --drop SCHEMA")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see the module for the exit codes."""
    options = _parse(arguments)
    settings, clock = load(AggregatorSettings), SystemClock()
    try:
        if options.drop is not None:
            with connect(settings.database_url, "replay") as connection:
                drop_schema(connection, options.drop)
            report: dict[str, Any] = {"dropped": options.drop}
            print(json.dumps(report) if options.json else f"dropped {options.drop}")
            return 0
        work = against_database if options.against_database else replay
        report = work(options, settings.database_url, clock)
    except (TapeError, SchemaError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was replayed stays in its schema, marked as unfinished\n")
        return 1
    except DatabaseError as error:
        sys.stderr.write(f"database: {str(error).splitlines()[0] if str(error) else type(error).__name__}\n")
        return 1
    _print(report, as_json=options.json)
    _complain(report)
    return 0 if is_good(report) else 1


if __name__ == "__main__":
    sys.exit(main())
