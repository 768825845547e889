"""The commands of operators: each asks for an action as the page does, with its row in the audit, and waits for it.

Exit code 0 done, 1 failed or not done in time, 2 usage. What they do is imported when they are called, as it is heavy.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from stack.find import find_layout

JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON")]
YesFlag = Annotated[bool, typer.Option("--yes", help="do not ask")]
PausableRoom = Annotated[str, typer.Argument(help="producer, inserter or aggregator")]
Symbol = Annotated[str, typer.Argument(help="like BTCUSDT")]
Ids = Annotated[list[str] | None, typer.Argument(help="numbers, as `candlewire letters list` shows them")]
Topic = Annotated[str | None, typer.Option(help="instead of numbers: all of this topic or stream")]

letters_app = typer.Typer(no_args_is_help=True, help="Dead letters: list, try again, delete.")
checkpoint_app = typer.Typer(no_args_is_help=True, help="Where the inserter reads.")
symbols_app = typer.Typer(no_args_is_help=True, help="Symbols followed beside SYMBOLS, while the line runs.")


def _ask(action: str, arguments: dict[str, Any], *, as_json: bool, yes: bool) -> None:
    from stack.operate import ask

    given = {name: value for name, value in arguments.items() if value is not None}
    raise typer.Exit(ask(find_layout(), action, given, as_json=as_json, yes=yes))


def repair(
    symbol: Symbol,
    start: Annotated[str, typer.Option("--from", help="first second: ms or ISO 8601")],
    end: Annotated[str, typer.Option("--to", help="end, exclusive; at most 31 days later")],
    as_json: JsonFlag = False,
    yes: YesFlag = False,
) -> None:
    """Have a range of a symbol filled by the running stack."""
    _ask("repair", {"symbol": symbol, "from": start, "to": end}, as_json=as_json, yes=yes)


def reopen(
    gap: Annotated[str, typer.Argument(help="number of the gap")], as_json: JsonFlag = False, yes: YesFlag = False
) -> None:
    """Open a gap again that was given up or absent."""
    _ask("reopen_gap", {"id": gap}, as_json=as_json, yes=yes)


def pause(room: PausableRoom, as_json: JsonFlag = False, yes: YesFlag = False) -> None:
    """Stop the work of a room until it is resumed, also over restarts."""
    _ask("pause", {"room": room}, as_json=as_json, yes=yes)


def resume(room: PausableRoom, as_json: JsonFlag = False, yes: YesFlag = False) -> None:
    """Let a paused room go on."""
    _ask("resume", {"room": room}, as_json=as_json, yes=yes)


def rotate_tape(as_json: JsonFlag = False, yes: YesFlag = False) -> None:
    """Let every running `candlewire record` go on in a new part."""
    _ask("rotate_tape", {}, as_json=as_json, yes=yes)


def actions(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="how many of the newest")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """What operators asked for, and what became of it."""
    from stack.operate import newest, words

    rows = newest(find_layout(), limit)
    if as_json:
        print(json.dumps({"actions": [row.as_json() for row in rows]}, indent=1))
    for row in [] if as_json else rows:
        print(words(row))


@letters_app.command("list")
def list_letters(
    topic: Topic = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="how many of the newest")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """The newest dead letters."""
    from stack.operate import dead_letters

    rows = dead_letters(find_layout(), topic, limit)
    if as_json:
        print(json.dumps({"letters": rows}, indent=1))
    for row in [] if as_json else rows:
        place = "" if row["record_offset"] is None else f" {row['partition']}:{row['record_offset']}"
        print(f"{row['id']:>8}  {row['received_at']}  {row['topic']}{place}  {row['reason'][:100]}")


@letters_app.command("redrive")
def redrive(ids: Ids = None, topic: Topic = None, as_json: JsonFlag = False, yes: YesFlag = False) -> None:
    """Try them again; what is good is stored and its letter removed."""
    _ask("redrive", {"ids": ids or None, "topic": topic}, as_json=as_json, yes=yes)


@letters_app.command("dismiss")
def dismiss(ids: Ids = None, topic: Topic = None, as_json: JsonFlag = False, yes: YesFlag = False) -> None:
    """Delete them for good."""
    _ask("dismiss", {"ids": ids or None, "topic": topic}, as_json=as_json, yes=yes)


@checkpoint_app.command("reset")
def reset_checkpoint(
    topic: Annotated[str, typer.Argument(help="kline_1s, kline_1m, feed_outage or mini_ticker")],
    time: Annotated[str, typer.Option("--to", help="the broker's time to read again from: ms or ISO 8601")],
    as_json: JsonFlag = False,
    yes: YesFlag = False,
) -> None:
    """Let the inserter read a topic again from a time on."""
    _ask("reset_checkpoint", {"topic": topic, "time": time}, as_json=as_json, yes=yes)


@symbols_app.command("list")
def list_symbols(as_json: JsonFlag = False) -> None:
    """Symbols that are followed, and what operators chose."""
    from stack.operate import symbols

    rows = symbols(find_layout())
    if as_json:
        print(json.dumps({"symbols": rows}, indent=1))
    for row in [] if as_json else rows:
        choice = {True: "  (added)", False: "  (removed)", None: ""}[row["is_wanted"]]
        print(f"{row['symbol']:16} {'followed' if row['is_followed'] else 'not followed'}{choice}")


@symbols_app.command("add")
def add_symbol(symbol: Symbol, as_json: JsonFlag = False, yes: YesFlag = False) -> None:
    """Follow a symbol from now on; its history is loaded."""
    _ask("add_symbol", {"symbol": symbol}, as_json=as_json, yes=yes)


@symbols_app.command("remove")
def remove_symbol(symbol: Symbol, as_json: JsonFlag = False, yes: YesFlag = False) -> None:
    """Follow a symbol no longer; what is stored stays."""
    _ask("remove_symbol", {"symbol": symbol}, as_json=as_json, yes=yes)


def add_to(app: typer.Typer) -> None:
    """Make them commands of `candlewire`."""
    for name, command in (
        ("repair", repair),
        ("reopen", reopen),
        ("pause", pause),
        ("resume", resume),
        ("rotate-tape", rotate_tape),
        ("actions", actions),
    ):
        app.command(name)(command)
    for name, group in (("letters", letters_app), ("checkpoint", checkpoint_app), ("symbols", symbols_app)):
        app.add_typer(group, name=name)
