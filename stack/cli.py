"""The `candlewire` command."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Annotated

import typer

from runtime.clock import SystemClock, sleep_s
from stack import status
from stack.find import find_layout
from stack.log_files import follow as follow_log
from stack.log_files import newest
from stack.operate_commands import add_to
from stack.program import EngineError
from stack.retention_command import retention

STOP_WAIT_S = 15.0
LOG_LINES = 200

app = typer.Typer(name="candlewire", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def up(
    engines: Annotated[
        bool, typer.Option("--engines", help="only PostgreSQL, Kafka and Valkey; rooms are then run by hand")
    ] = False,
    new_symbols: Annotated[
        bool, typer.Option("--new-symbols", help="ask the exchange anew what SYMBOLS=top:N means; else it is kept")
    ] = False,
) -> None:
    """Start everything, stay in the foreground; Ctrl-C or SIGTERM stops all."""
    from stack.up import run

    raise typer.Exit(run(os.environ, engines_only=engines, new_symbols=new_symbols))


@app.command()
def stop() -> None:
    """Stop the stack of this DATA_DIR."""
    layout = find_layout()
    pid = status.running_pid(layout)
    if pid is None:
        print("not running")
        return
    os.kill(pid, signal.SIGTERM)
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + STOP_WAIT_S
    while status.running_pid(layout) == pid or status.is_alive(pid):
        if clock.monotonic_s() > deadline_s:
            sys.stderr.write(f"still running after {STOP_WAIT_S:.0f} s: pid {pid}\n")
            raise typer.Exit(1)
        sleep_s(0.05)
    print("stopped")


@app.command("status")
def show_status(as_json: JsonFlag = False) -> None:
    """What runs, and is it ready. Exit code 0 = ready, 1 = not."""
    found = status.stack_status(find_layout())
    if as_json:
        print(json.dumps(found | {"rooms": [room.as_json() for room in found["rooms"]]}, indent=1))
    else:
        for room in found["rooms"]:
            note = "" if room.ready else f"  {room.reason}"
            print(f"{room.name:16} {room.state:10} pid {room.pid or '-':>7}  restarts {room.restarts}{note}")
        print("READY" if found["ready"] else "not ready")
    raise typer.Exit(0 if found["ready"] else 1)


@app.command()
def logs(
    room: Annotated[str, typer.Argument(help="room or engine, as `candlewire status` names it; also cron")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on printing what is added")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="how many of the newest lines")] = LOG_LINES,
) -> None:
    """Print the log of a room."""
    layout = find_layout()
    path = layout.log(room)
    known = sorted(found.stem for found in layout.logs.glob("*.log"))
    if path.parent != layout.logs or not path.exists():
        sys.stderr.write(f"no log of {room}; there are: {', '.join(known) or 'none'}\n")
        raise typer.Exit(2)
    try:
        for text in follow_log(path, lines) if follow else newest(path, lines):
            sys.stdout.write(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Look at this machine and this stack. Exit code 1 when something is wrong."""
    from stack.doctor import examine

    findings = examine(os.environ, find_layout())
    if as_json:
        rows = [{"name": found.name, "bad": found.bad, "text": found.text} for found in findings]
        print(json.dumps({"findings": rows}, indent=1))
    else:
        for found in findings:
            print(f"{'BAD' if found.bad else 'ok':4} {found.name:10} {found.text}")
    raise typer.Exit(1 if any(found.bad for found in findings) else 0)


@app.command()
def topics(as_json: JsonFlag = False) -> None:
    """The topics on the broker, and how old the oldest record of each is."""
    from stack.broker import read

    declared, found, now_ms = read(find_layout())
    from stack.topics import topics_report

    report = topics_report(declared, found, now_ms)
    if as_json:
        print(json.dumps(report, indent=1))
        return
    for row in report["topics"]:
        age = "empty" if row["measured_oldest_age_s"] is None else f"{row['measured_oldest_age_s']:.0f} s"
        amount = f"partitions {row['partitions']}  records {row['records']:>9}"
        print(f"{row['topic']:14} {row['kind']:6} {amount}  oldest {age}")


app.command("retention")(retention)


@app.command()
def backup(as_json: JsonFlag = False) -> None:
    """Dump the database to DATA_DIR/backups; the newest 7 are kept."""
    from stack.backup import backup as dump

    layout = find_layout()
    environment = status.stack_environment(layout)
    if not environment.get("DATABASE_URL"):
        sys.stderr.write("no database: nothing was started with this DATA_DIR, and DATABASE_URL is not given\n")
        raise typer.Exit(1)
    try:
        done = dump(environment["DATABASE_URL"], layout.backups, SystemClock().now_ms())
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps({"file": str(done.file), "bytes": done.bytes, "removed": [str(p) for p in done.removed]}))
    else:
        print(f"{done.file} ({done.bytes / 1024**2:.1f} MiB)")


add_to(app)

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def pass_on(module: str, arguments: list[str]) -> None:
    """Become `python -m module arguments`, told where this stack is."""
    environment = status.stack_environment(find_layout())
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)


#: Commands that a room serves itself: its module, and what the list of commands says.
OF_ROOMS = {
    "record": ("producer.record", "Record the exchange's traffic to a tape."),
    "replay": ("aggregator.replay", "Rebuild rows, candles and gaps from a tape into a schema of their own."),
    "audit": ("aggregator.audit", "Compare each minute with the exchange's own, and with its seconds."),
    "backfill": ("aggregator.backfill", "Fill what is missing of a symbol from the exchange."),
    "rebuild": ("aggregator.rebuild", "Recompute candles from their seconds and report differences."),
    "import": ("aggregator.import_archive", "Klines of the exchange's public archive into the tables."),
    "export": ("webapp.export.command", "Rows into a file: CSV, Parquet, Arrow, or the exchange's archive layout."),
    "bench": ("bench", "The benchmarks, each against a reference measured in the same run."),
}


def _add_command_of_room(name: str, module: str, about: str) -> None:
    @app.command(name, help=about, context_settings=PASS_ON)
    def run(context: typer.Context) -> None:
        pass_on(module, context.args)


for _name, (_module, _about) in OF_ROOMS.items():
    _add_command_of_room(_name, _module, _about)


def main() -> None:
    """Entry point of the `candlewire` command."""
    app()


if __name__ == "__main__":
    main()
