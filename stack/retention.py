"""`candlewire retention`: what the broker's settings keep, what an outage would cost, and better settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from runtime import retention_observed
from runtime.clock import SystemClock
from runtime.database import DatabaseError, connect
from runtime.kafka_client import load_topics
from runtime.retention_advice import Observed
from runtime.retention_report import WHAT_IF, Question, report
from runtime.settings import BudgetSettings, load
from stack import broker
from stack.layout import Layout
from stack.status import description, stack_environment, symbols

OBSERVE_TIMEOUT_MS = 5_000


def settings_of(pairs: Sequence[str], option: str) -> dict[str, int]:
    """KEY=VALUE pairs as settings of WHAT_IF. Exit code 2, with what is allowed, when one cannot be used."""
    found: dict[str, int] = {}
    problems = []
    for pair in pairs:
        name, _, text = pair.partition("=")
        name = name.strip().lower().replace(".", "_").replace("-", "_")
        least, most = WHAT_IF.get(name, (0, 0))
        if name not in WHAT_IF:
            problems.append(f"{option} {pair}: no such setting; there are {', '.join(WHAT_IF)}")
        elif not text.strip().isdecimal() or not least <= int(text) <= most:
            problems.append(f"{option} {pair}: a whole number from {least} to {most} is needed")
        else:
            found[name] = int(text)
    if problems:
        sys.stderr.write("".join(f"{problem}\n" for problem in problems))
        raise typer.Exit(2)
    return found


def worst(layout: Layout) -> Observed:
    """From the samples of the stack's database; the declared values where it does not answer."""
    url = stack_environment(layout).get("DATABASE_URL")
    if not url:
        return Observed()
    try:
        with connect(url, "retention", statement_timeout_ms=OBSERVE_TIMEOUT_MS) as connection:
            return retention_observed.worst(connection, SystemClock().now_ms(), {})
    except DatabaseError as error:
        sys.stderr.write(
            f"taken as declared, the database does not tell what has been observed: {str(error).splitlines()[0]}\n"
        )
        return Observed()


def known_topics(names: Sequence[str]) -> Sequence[str]:
    """The names. Exit code 2, with those there are, when one is not declared."""
    declared = [topic.name for topic in load_topics().all()]
    unknown = [name for name in names if name not in declared]
    if unknown:
        sys.stderr.write(f"--topic {', '.join(unknown)}: no such topic; there are {', '.join(declared)}\n")
        raise typer.Exit(2)
    return names


def advise(
    layout: Layout, *, topics: Sequence[str], outage_minutes: float, margin: float, what_if: Mapping[str, int]
) -> dict[str, Any]:
    """The advisor's answer for the named topics (none = all). Exit code 1 when the broker does not answer."""
    declared, logs, now_ms = broker.read(layout)
    found = description(layout)
    question = Question(
        symbols=len(symbols(layout, found)) if found else None,
        observed=worst(layout),
        outage_minutes=outage_minutes,
        margin=margin,
        weight_per_minute=load(BudgetSettings).history_weight_per_minute,
        what_if=what_if,
    )
    answer = report(declared, logs, now_ms, question)
    if topics:
        answer["topics"] = [row for row in answer["topics"] if row["topic"] in topics]
    return answer


def print_report(report: Mapping[str, Any]) -> None:
    """For people."""
    print(f"the broker looks for old segments each {report['check_interval_ms'] / 1000:g} s")
    seen = report["observed"]
    print(
        f"worst outage of a reader {seen['reader_outage_s']:.0f} s, of a restart {seen['restart_s']:.0f} s "
        f"({seen['source']}); wanted margin {report['wanted_margin']:g}"
    )
    for row in report["topics"]:
        print()
        _print_topic(row, report["outage_minutes"])


def _print_topic(row: Mapping[str, Any], outage_minutes: float) -> None:
    measured = "empty" if row["measured_oldest_age_s"] is None else f"{row['measured_oldest_age_s']:.0f} s old"
    rate = "rate unknown" if row["records_per_second"] is None else f"{row['records_per_second']:.1f} records/s"
    idle = ", idle" if row["idle"] else ""
    print(f"{row['topic']} ({row['kind']}, {row['partitions']} partitions, {rate}{idle}); oldest record {measured}")
    _print_figures("now", row, outage_minutes)
    if row["what_if"] is not None:
        _print_figures("what if", row["what_if"], outage_minutes)
    if _differs(row, row["proposal"]):
        _print_figures("proposed", row["proposal"], outage_minutes)
    for warning in (row["what_if"] or row)["warnings"]:
        print(f"  WARNING {warning['name']}: {warning['text']}")


def _differs(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(row[name] != other[name] for name in WHAT_IF)


def _print_figures(title: str, figures: Mapping[str, Any], outage_minutes: float) -> None:
    settings = "  ".join(f"{name}={figures[name]}" for name in WHAT_IF)
    disk = "disk unknown" if figures["disk_bytes"] is None else f"disk {figures['disk_bytes'] / 2**20:.1f} MiB"
    margin = "" if figures["margin"] is None else f"  margin {figures['margin']:.1f}"
    print(f"  {title:9} {settings}")
    print(f"            oldest record {figures['formula']}; {disk}{margin}")
    print(f"            reader away {outage_minutes:g} min: {_cost(figures['outage'])}")


def _cost(outage: Mapping[str, Any]) -> str:
    behind = "?" if outage["records_behind"] is None else outage["records_behind"]
    lost = outage["lost_s"]
    if not lost["max"]:
        return f"{behind} records behind, nothing lost"
    records = "" if outage["lost_records"] is None else f" ({outage['lost_records']['max']:.0f} records)"
    text = f"{behind} records behind, {lost['min']:.0f} to {lost['max']:.0f} s lost{records}"
    repair = outage["repair"]
    if repair is None:
        return f"{text}; REST has no copy"
    return f"{text}; repair {repair['calls']} calls, weight {repair['weight']}, at least {repair['seconds']:.0f} s"
