"""Which stack a command is about."""

from __future__ import annotations

import os
import sys

import typer

from stack import check
from stack.layout import Layout


def find_layout() -> Layout:
    """The stack of DATA_DIR. Ends with exit code 2 when the settings cannot be used."""
    try:
        return Layout(check.read(os.environ).data_dir)
    except check.SettingsError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        raise typer.Exit(2) from None
