"""Alerts to operators as they travel through Kafka."""

from __future__ import annotations

import msgspec


class OperatorAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert that is raised, stands, or is over (`recovered_at_ms`). Condition and subject name it.

    `event_time_ms`: when it was raised, or was over. `remedy`: the command that helps.
    """

    condition: str
    subject: str
    message: str
    remedy: str
    raised_at_ms: int
    recovered_at_ms: int | None
    event_time_ms: int
