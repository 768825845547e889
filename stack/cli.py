"""The `candlewire` command."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Annotated

import typer

from runtime.clock import SystemClock, sleep_s
from stack import check, status
from stack.layout import Layout

STOP_WAIT_S = 15.0

app = typer.Typer(name="candlewire", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON")]


def find_layout() -> Layout:
    """The stack of DATA_DIR. Ends with exit code 2 when the settings cannot be used."""
    try:
        return Layout(check.read(os.environ).data_dir)
    except check.SettingsError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        raise typer.Exit(2) from None


@app.command()
def up(
    engines: Annotated[
        bool, typer.Option("--engines", help="only PostgreSQL, Kafka and Valkey; rooms are then run by hand")
    ] = False,
) -> None:
    """Start everything, stay in the foreground; Ctrl-C or SIGTERM stops all."""
    from stack.up import run

    raise typer.Exit(run(os.environ, engines_only=engines))


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
    while status.running_pid(layout) == pid:
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


def main() -> None:
    """Entry point of the `candlewire` command."""
    app()


if __name__ == "__main__":
    main()
