"""A program that the supervisor keeps running."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from stack.layout import CHILD, Layout


@dataclass(frozen=True)
class Program:
    """One supervised process. `health_url` is the address of its /healthz; None for engines."""

    name: str
    command: tuple[str, ...]
    is_engine: bool = False
    stop_signal: str = "TERM"
    user: str | None = None
    health_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def wrapped(self, layout: Layout) -> tuple[str, ...]:
        """The command line that starts it bound to its parent's life."""
        user = ("--user", self.user) if self.user else ()
        starts = ("--starts", str(layout.starts(self.name)))
        return (*python_child(), *starts, "--die", self.stop_signal, *user, "--", *self.command)


def python_child() -> tuple[str, ...]:
    """How stack/child.py is run: isolated and without site packages, so that it costs a few ms."""
    return (sys.executable, "-I", "-S", str(CHILD))


class EngineError(Exception):
    """An engine cannot be prepared; the message says why and what helps."""
