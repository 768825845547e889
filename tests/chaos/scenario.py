"""What a fault is declared as, and one run of it: doses, quiet, account, one line of the table."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from runtime.clock import sleep_s
from tests.chaos.account import Account, take_account
from tests.chaos.rig import SETTLE_DEADLINE_S, Rig
from tests.chaos.watch import Watch
from tests.stack_process import StackProcess

#: Before the first dose: every symbol has rows.
FIRST_ROWS_DEADLINE_S = 60.0
WHOLE_MINUTE_DEADLINE_S = 150.0
SHOWN = 5
#: The counts of the hours follow the rows by a few seconds.
COMPLETE_DEADLINE_S = 20.0


class Violation(Exception):
    """A dose ended otherwise than its fault allows."""


#: What can end a dose: a promise not kept, or something that had to answer and did not. The run goes on.
DOSE_ERRORS = (Violation, OSError, RuntimeError, ValueError, httpx.HTTPError, psycopg.Error, subprocess.TimeoutExpired)


@dataclass(frozen=True)
class Kind:
    """One kind of dose. `apply` does it and returns what was measured (s), which may be `limit_s` at most.

    `doses` is the release dose of reliability.md 4, `about_s` how long one takes.
    """

    name: str
    doses: int
    apply: Callable[[Rig], float]
    limit_s: float
    about_s: float


@dataclass(frozen=True)
class Scenario:
    """A fault: its kinds, the variables of its rig, and what is checked after the quiet."""

    name: str
    about: str
    kinds: tuple[Kind, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[str, ...] = ()
    #: further checks, after the account; each returns what is wrong
    finally_: tuple[Callable[[Rig], list[str]], ...] = ()
    #: of 20 symbols of the simulated market more than the load of reliability.md 4
    streams: str = "kline_1s,kline_1m,trade,depth,depth20,bookTicker"

    def about_s(self, scale: float) -> float:
        """How long the run takes with that share of the release doses, roughly."""
        return 90 + sum(scaled(kind.doses, scale) * kind.about_s for kind in self.kinds)


@dataclass
class Result:
    """One line of the table."""

    scenario: str
    doses: dict[str, int] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    regressed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    max_s: dict[str, float] = field(default_factory=dict)
    #: None when the exchange was restarted meanwhile: its counter began anew.
    messages_per_s: float | None = None

    @property
    def is_good(self) -> bool:
        """Nothing is lost, nothing is wrong, no dose took longer than it may."""
        return self.account.is_exact and not (self.account.lost or self.regressed or self.wrong)


def scaled(doses: int, scale: float) -> int:
    """At least one of each kind."""
    return max(1, round(doses * scale))


@dataclass(frozen=True)
class Options:
    """How large a run is. `minutes` spreads the doses of each scenario over that time at least."""

    symbols: int
    seed: int
    scale: float = 1.0
    minutes: float = 0.0
    doses: int = 0
    settle_s: float = SETTLE_DEADLINE_S

    def doses_of(self, scenario: Scenario) -> list[Kind]:
        """The kinds in turn, each as often as its share says."""
        scale = self.scale_of(scenario)
        return [kind for kind in scenario.kinds for _ in range(scaled(kind.doses, scale))]

    def scale_of(self, scenario: Scenario) -> float:
        """Which share of the release doses is given."""
        return self.doses / sum(kind.doses for kind in scenario.kinds) if self.doses else self.scale


def run(scenario: Scenario, options: Options) -> Result:
    """The scenario on a rig of its own. Never raises for what the product does wrong: that stands in the result."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        variables = {"STREAMS": scenario.streams, **scenario.variables}
        rig = Rig(Path(directory), options.symbols, options.seed, disks=scenario.disks, **variables)
        with rig, Watch(rig.rows) as watch:
            rig.watch = watch
            return run_on(rig, scenario, options, watch)


def run_on(rig: Rig, scenario: Scenario, options: Options, watch: Watch) -> Result:
    """Doses, quiet, account on a rig that runs."""
    result = Result(scenario.name)
    rig.seconds_until("rows of every symbol", rig.is_caught_up, FIRST_ROWS_DEADLINE_S)
    start_s, start_frames = rig.clock.monotonic_s(), rig.frames_sent()
    doses = options.doses_of(scenario)
    rig.rng.shuffle(doses)
    for number, kind in enumerate(doses):
        result.doses[kind.name] = result.doses.get(kind.name, 0) + 1
        _one_dose(rig, kind, f"{scenario.name} {number + 1}/{len(doses)} {kind.name}", result)
        due_s = start_s + options.minutes * 60 * (number + 1) / len(doses)
        sleep_s(max(0.0, due_s - rig.clock.monotonic_s()))
    passed_s = rig.clock.monotonic_s() - start_s
    sent_frames = rig.frames_sent() - start_frames
    result.messages_per_s = sent_frames / passed_s if sent_frames >= 0 else None
    rig.seconds_until("a whole minute of every symbol", lambda: _has_whole_minutes(rig), WHOLE_MINUTE_DEADLINE_S)
    if left := rig.settle(options.settle_s):
        result.wrong.append(left)
    result.account = account_of(rig)
    for check in (*scenario.finally_, completeness, audit):
        result.wrong += check(rig)
    result.regressed = list(watch.regressed)
    return result


def _has_whole_minutes(rig: Rig) -> bool:
    """Without one there is nothing to audit."""
    [(count,)] = rig.rows(
        "select count(distinct symbol) from aggregated_kline"
        " where interval = '1m' and source = 'seconds' and is_closed and is_complete"
    ) or [(0,)]
    return bool(count == rig.symbols)


def _one_dose(rig: Rig, kind: Kind, label: str, result: Result) -> None:
    try:
        seconds = kind.apply(rig)
    except DOSE_ERRORS as error:
        told = f"{type(error).__name__} {error}".removeprefix("Violation ")
        result.wrong.append(f"{kind.name}: {told}")
        print(f"  {label}: {told}", flush=True)
        return
    result.max_s[kind.name] = max(result.max_s.get(kind.name, 0.0), seconds)
    print(f"  {label}: {seconds:.1f} s", flush=True)
    if seconds > kind.limit_s:
        result.wrong.append(f"{kind.name}: {seconds:.1f} s, at most {kind.limit_s:.0f} s")


def account_of(rig: Rig) -> Account:
    """Every second and minute of one moment, against the exchange's own log."""
    truth = rig.truth()
    with rig.connect() as connection, connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        return take_account(connection, truth)


def completeness(rig: Rig) -> list[str]:
    """What the product says of itself: every second of every hour or part of it there, none open."""
    found: list[str] = []

    def is_whole() -> bool:
        found[:] = _incomplete(rig)
        return not found

    rig.seconds_until("completeness 1.0", is_whole, COMPLETE_DEADLINE_S)
    return found[:SHOWN]


def _incomplete(rig: Rig) -> list[str]:
    url = f"http://127.0.0.1:{rig.rooms.environment['PORT']}/api/v1/completeness"
    hours = httpx.get(url, timeout=10).raise_for_status().json()["hours"]
    if not hours:
        return ["completeness: no hour is listed"]
    return [
        f"completeness {hour['symbol']} {hour['hour']}: {hour}"
        for hour in hours
        if hour["open"] or hour["expected"] != sum(hour[name] for name in ("stream", "rest", "trades", "absent"))
    ]


def audit(rig: Rig) -> list[str]:
    """`candlewire audit --json`: nothing differs, something is equal."""
    try:
        found = audit_json(rig.rooms)
    except (ValueError, subprocess.TimeoutExpired) as error:
        return [f"audit: no answer: {error}"]
    different = [minute for minute in found["minutes"] if minute["state"] == "different"]
    wrong = [f"audit: {minute['symbol']} {minute['open_time']} differs in {minute['columns']}" for minute in different]
    return [*wrong[:SHOWN], *([] if found["equal"] or not found["compared"] else ["audit: no minute is equal"])]


def audit_json(rooms: StackProcess) -> dict[str, Any]:
    """What the command prints; its exit code says whether something differs."""
    found: dict[str, Any] = json.loads(rooms.command("audit", "--json").stdout)
    return found


COLUMNS = ("fault", "doses", "lost", "duplicate", "phantom", "regressed", "skewed", "unflagged", "msg/s", "max s")


def table(results: list[Result]) -> str:
    """The results, one line each, then what was wrong."""
    lines = [("  ".join((f"{COLUMNS[0]:9}", *(f"{name:>9}" for name in COLUMNS[1:]))) + "  verdict")]
    for result in results:
        account = result.account
        slowest = max(result.max_s.values(), default=math.nan)
        figures = (
            sum(result.doses.values()), account.lost, len(account.double), len(account.phantom),
            len(result.regressed), len(account.skewed), len(account.unflagged),
            "N/A" if result.messages_per_s is None else round(result.messages_per_s),
        )  # fmt: skip
        cells = "  ".join((f"{result.scenario:9}", *(f"{number:>9}" for number in figures), f"{slowest:>9.1f}"))
        lines.append(f"{cells}  {'ok' if result.is_good else 'VIOLATED'}")
    for result in results:
        lines.append(f"{result.scenario}: {result.account}")
        slowest_of = ", ".join(f"{name} x{result.doses[name]} {s:.1f} s" for name, s in sorted(result.max_s.items()))
        lines.append(f"  slowest: {slowest_of}")
        lines += [f"  WRONG {text}" for text in [*result.wrong, *result.regressed[:SHOWN]]]
    return "\n".join(lines)
