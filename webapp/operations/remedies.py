"""The commands that help, each with its effect: what the page shows beside a bad row."""

from __future__ import annotations

from typing import Final

from webapp.operations.snapshot import Remedy

STATUS: Final = Remedy("candlewire status", "says which engine is not running; candlewire logs NAME tells why")
APPLY_TOPICS: Final = Remedy(
    "python -m runtime.topic_admin apply", "brings the broker's settings to those of kafka/topics.toml"
)
RETENTION: Final = Remedy("candlewire retention", "shows what the settings keep, and what to set for more")
AUDIT: Final = Remedy(
    "candlewire audit", "lists the minutes that differ; candlewire repair compares their seconds with the exchange's"
)
DOCTOR: Final = Remedy("candlewire doctor", "says what of this machine is short")


def logs(room: str) -> Remedy:
    """A room that does not do its work, whether it has ended or waits for something."""
    effect = f"tells what {room} waits for, or why it ended; one that has ended is started again by itself"
    return Remedy(f"candlewire logs {room}", effect)


def logs_of_loss(room: str) -> Remedy:
    """A room whose records are being deleted before it has read them."""
    effect = "shows why it stands; what is gone becomes gaps, which are repaired from the exchange by themselves"
    return Remedy(f"candlewire logs {room}", effect)


def resume(room: str) -> Remedy:
    """A room that an operator has told to pause."""
    return Remedy(f"candlewire resume {room}", f"{room} goes on where it stopped")


_FIXED: Final = {remedy.command: remedy for remedy in (STATUS, APPLY_TOPICS, RETENTION, AUDIT, DOCTOR)}
_OF_ROOMS: Final = {"candlewire logs": logs, "candlewire resume": resume}


def of_command(command: str) -> Remedy:
    """The remedy that was written down by its command, until its cause is judged again. One that we no longer have is
    shown without an effect."""
    words, _, room = command.rpartition(" ")
    return _OF_ROOMS[words](room) if words in _OF_ROOMS else _FIXED.get(command, Remedy(command, ""))
