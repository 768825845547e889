"""The channel `alerts:operator`: which alerts to operators stand, and each that is raised or over. No I/O."""

from __future__ import annotations

from typing import Final

from flask_stream.channels import LiveChannel, json_items, stamp, times_of
from flask_stream.symbol_state import Stored
from market.alert import OperatorAlert
from market.record_codec import RecordDecoder

ALERTS: Final = "alerts:operator"
#: Standing alerts are told again every few minutes: one that is no longer told is over, though nobody said so.
FORGET_AFTER_MS: Final = 600_000

_decoder: Final = RecordDecoder(OperatorAlert)


class Alerts:
    """What stands, and who listens."""

    def __init__(self) -> None:
        self.channel: LiveChannel | None = None
        #: (condition, subject) -> the newest record of it
        self._standing: dict[tuple[str, str], Stored] = {}

    def on_record(self, value: bytes, appended_ms: int, now_ms: int) -> None:
        """One record: told where it is news, which new figures of what stands already are not. Raises BadRecord."""
        alert = _decoder.decode(value)
        key = (alert.condition, alert.subject)
        held = self._standing.pop(key, None)
        if alert.recovered_at_ms is None:
            self._standing[key] = Stored(value, appended_ms)
        is_told = held is not None and _decoder.decode(held.value).raised_at_ms == alert.raised_at_ms
        if self.channel is not None and not (is_told and alert.recovered_at_ms is None):
            self.channel.publish(value, stamp(times_of(value), appended_ms, now_ms), key)

    def snapshot(self) -> bytes:
        """The data of a snapshot."""
        return b'{"alerts":[%b]}' % json_items(stored.value for stored in self._standing.values())

    def forget_old(self, now_ms: int) -> None:
        """Drop what has not been told again for long."""
        for key in [k for k, stored in self._standing.items() if now_ms - stored.appended_ms > FORGET_AFTER_MS]:
            del self._standing[key]
