"""The command `candlewire retention`: its options. What it does is imported when it is called, as it is heavy."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from runtime import logs
from runtime.retention_advice import DEFAULT_MARGIN
from runtime.retention_report import DEFAULT_OUTAGE_MINUTES, MARGIN_BOUNDS, OUTAGE_MINUTES_BOUNDS
from stack.find import find_layout


def retention(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    topic: Annotated[list[str] | None, typer.Option(help="only this topic; may be repeated")] = None,
    outage_minutes: Annotated[
        float,
        typer.Option(
            min=OUTAGE_MINUTES_BOUNDS[0], max=OUTAGE_MINUTES_BOUNDS[1], help="what a reader's outage of so long costs"
        ),
    ] = DEFAULT_OUTAGE_MINUTES,
    margin: Annotated[
        float,
        typer.Option(
            min=MARGIN_BOUNDS[0], max=MARGIN_BOUNDS[1], help="how many times the worst outage and a restart should fit"
        ),
    ] = DEFAULT_MARGIN,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="figures for another retention_ms, segment_ms, segment_bytes or check_interval_ms; may be repeated",
        ),
    ] = None,
    apply: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="alter kafka/topics.toml and the broker; `proposal` = what is proposed; may be repeated",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="with --apply: do not ask")] = False,
) -> None:
    """What the broker's settings keep, what an outage would cost, and which settings would be better."""
    from stack.retention import advise, known_topics, print_report, settings_of
    from stack.retention_apply import alter, wanted_settings

    layout = find_layout()
    if apply and what_if:
        sys.stderr.write("--what-if tries, --apply alters: one of them\n")
        raise typer.Exit(2)
    topics = known_topics(topic or ())
    tried = settings_of(what_if or (), "--what-if")
    wanted = wanted_settings(apply or ())
    logs.configure("retention", "WARNING", as_json=False, stream=sys.stderr)
    answer = advise(layout, topics=topics, outage_minutes=outage_minutes, margin=margin, what_if=tried)
    if apply:
        raise typer.Exit(alter(layout, answer, wanted, as_json=as_json, yes=yes))
    if as_json:
        print(json.dumps(answer, indent=1))
    else:
        print_report(answer)
