"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: End of the year 9999.
LAST_MS: Final = 253_402_300_799_999


def parse_time_ms(text: str) -> int:
    """Milliseconds since 1970, or ISO 8601 (UTC where no zone is given). Raises ValueError."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        since_ms = int(text)
    else:
        moment = datetime.fromisoformat(text)
        since_ms = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
    if not 0 <= since_ms <= LAST_MS:
        raise ValueError(f"{text!r} is not a time between 1970 and 9999")
    return since_ms


def iso(time_ms: int) -> str:
    """The time as ISO 8601 with milliseconds, in UTC."""
    return (EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
