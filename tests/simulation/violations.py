"""What a simulation may find, by name (after Jepsen's queue checker)."""

from __future__ import annotations

from enum import StrEnum


class Anomaly(StrEnum):
    """What went wrong."""

    LOST = "lost"
    DUPLICATE = "duplicate"
    PHANTOM = "phantom"
    REGRESSED = "regressed"
    SKEWED = "skewed aggregate"
    UNFLAGGED = "unflagged gap"
    BOOK = "wrong order book"
    RELAY = "hole in a client's sequence"
    MEMORY = "memory bound"
    STUCK = "does not converge"
    CRASH = "unexpected error"


class Violation(AssertionError):
    """A promise was broken."""

    def __init__(self, anomaly: Anomaly, text: str) -> None:
        super().__init__(f"{anomaly.value}: {text}")
        self.anomaly = anomaly
        self.text = text
