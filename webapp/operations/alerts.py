"""What operators are alerted of: conditions judged on a snapshot, and which of them stand. Pure, no I/O.

A condition is raised once for a subject and stays until it is over; what is not known neither raises nor recovers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from webapp.operations import remedies
from webapp.operations.readers import remedy_of, warning_s
from webapp.operations.snapshot import MAX_NEEDS_PERSON, AlertRow, Remedy, Snapshot
from webapp.operations.verdict import SYSTEM

#: Rounds in a row that a condition must be so before it is raised: one bad figure alarms nobody.
ROUNDS: Final = 2
#: And before it is over: what hovers at its bound is one alert, not a new one each quarter of a minute.
OVER_ROUNDS: Final = 6
MAX_RECOVERED: Final = 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the conditions."""

    headroom_s: float
    stale_s: float
    dead_letter_share: float


class Key(NamedTuple):
    """What an alert is about."""

    condition: str
    subject: str


class Finding(NamedTuple):
    """What is wrong, and the command that helps."""

    message: str
    remedy: Remedy


@dataclass
class Findings:
    """One round. `unknown`: conditions, and single keys, of which nothing can be said."""

    bad: dict[Key, Finding] = field(default_factory=dict)
    unknown: set[str | Key] = field(default_factory=set)

    def is_unknown(self, key: Key) -> bool:
        """Nothing can be said of it now. What is known to be bad is bad, whatever else is unknown."""
        return key not in self.bad and (key in self.unknown or key.condition in self.unknown)


def judge(
    snapshot: Snapshot, stale_symbols: Iterable[str] | None, feed_age_s: float | None, limits: Limits
) -> Findings:
    """Every condition. `stale_symbols` None = the database does not answer; `feed_age_s`: since anything was stored."""
    found = Findings()
    _headroom(snapshot, limits, found)
    _stale_feed(stale_symbols, feed_age_s, limits, found)
    data = snapshot.data
    if data.audit.different is None:
        found.unknown.add("audit_difference")
    elif data.audit.needs_person:
        newest = data.audit.needs_person[0]
        count = len(data.audit.needs_person)
        least = "at least " if count >= MAX_NEEDS_PERSON else ""
        found.bad[Key("audit_difference", SYSTEM)] = Finding(
            f"{'1 minute differs' if count == 1 else f'{least}{count} minutes differ'} from the exchange's even after "
            f"the recheck, the newest of {newest['symbol']}",
            remedies.AUDIT,
        )
    share = data.dead_letters.share
    if share is None:
        found.unknown.add("dead_letters")
    elif share > limits.dead_letter_share:
        found.bad[Key("dead_letters", SYSTEM)] = Finding(
            f"{share:.2%} of what came in the last minutes cannot be used", remedies.logs("inserter")
        )
    disk = data.disk
    if disk.free_bytes is None or disk.low_bytes is None or not disk.total_bytes:
        found.unknown.add("disk")
    elif disk.free_bytes < disk.low_bytes:
        found.bad[Key("disk", SYSTEM)] = Finding(
            f"{disk.free_bytes / disk.total_bytes:.1%} of the disk of {disk.path_label} is free",
            remedies.DOCTOR,
        )
    return found


def _headroom(snapshot: Snapshot, limits: Limits, found: Findings) -> None:
    if not snapshot.readers or any(engine.name == "kafka" and engine.state != "up" for engine in snapshot.engines):
        found.unknown.add("headroom")
        return
    retention_ms = {topic.topic: topic.retention_ms for topic in snapshot.topics}
    paused = {room.name for room in snapshot.rooms if room.is_paused}
    # One alert for a room, however many partitions it reads: the partition that is worst speaks for all.
    for reader in sorted(snapshot.readers, key=lambda row: row.headroom_seconds or 0, reverse=True):
        key = Key("headroom", f"room:{reader.room}")
        headroom_s = reader.headroom_seconds
        if headroom_s is None:
            found.unknown.add(key)
        elif headroom_s < warning_s(limits.headroom_s, retention_ms.get(reader.topic)):
            when = f"in {headroom_s:.0f} s" if headroom_s > 0 else "now"
            found.bad[key] = Finding(
                f"the broker may delete what {reader.room} has to read next of {reader.partition_name} {when}",
                remedy_of(reader, reader.room in paused),
            )


def _stale_feed(stale_symbols: Iterable[str] | None, feed_age_s: float | None, limits: Limits, found: Findings) -> None:
    if stale_symbols is None:
        found.unknown.add("stale_feed")
    elif feed_age_s is not None and feed_age_s > limits.stale_s:
        found.bad[Key("stale_feed", SYSTEM)] = Finding(
            f"nothing new of any symbol was stored for {feed_age_s:.0f} s", remedies.STATUS
        )
        # One alert for all; those that stand of single symbols are not over while this lasts.
        found.unknown.add("stale_feed")
    else:
        for symbol in stale_symbols:
            found.bad[Key("stale_feed", symbol)] = Finding(
                f"nothing new of {symbol} was stored for more than {limits.stale_s:.0f} s",
                remedies.logs("producer"),
            )


class Change(NamedTuple):
    """An alert that is raised or over in this round."""

    alert: AlertRow
    is_raised: bool


class AlertBook:
    """Which alerts stand, and the newest that are over."""

    def __init__(self) -> None:
        self.standing: dict[Key, AlertRow] = {}
        self.recovered: list[AlertRow] = []
        self._streaks: dict[Key, int] = {}

    def restore(self, rows: Sequence[AlertRow]) -> None:
        """What is written down: what stands there is not raised again."""
        for row in rows:
            if row.recovered_at_ms is None:
                self.standing[Key(row.condition, row.subject)] = row
        over = {(row.condition, row.subject, row.raised_at_ms): row for row in [*self.recovered, *rows]}
        recovered = [row for row in over.values() if row.recovered_at_ms is not None]
        self.recovered = sorted(recovered, key=lambda row: row.recovered_at_ms or 0, reverse=True)[:MAX_RECOVERED]

    def take(self, found: Findings, now_ms: int) -> list[Change]:
        """The findings of a round: what is raised and what is over now."""
        changes = []
        keys = {*found.bad, *self.standing, *self._streaks}
        for key in sorted(keys):
            if found.is_unknown(key):
                continue
            is_bad, stands = key in found.bad, key in self.standing
            if is_bad == stands:
                self._streaks.pop(key, None)
                if stands:
                    # It is told once; what is read on the page are the figures of now.
                    message, remedy = found.bad[key]
                    self.standing[key] = msgspec.structs.replace(self.standing[key], message=message, remedy=remedy)
                continue
            self._streaks[key] = self._streaks.get(key, 0) + 1
            if self._streaks[key] < (OVER_ROUNDS if stands else ROUNDS):
                continue
            del self._streaks[key]
            changes.append(self._raise(key, found.bad, now_ms) if is_bad else self._recover(key, now_ms))
        return changes

    def _raise(self, key: Key, bad: Mapping[Key, Finding], now_ms: int) -> Change:
        row = AlertRow(
            id=None,
            condition=key.condition,
            subject=key.subject,
            message=bad[key].message,
            remedy=bad[key].remedy,
            raised_at_ms=now_ms,
        )
        self.standing[key] = row
        return Change(row, True)

    def _recover(self, key: Key, now_ms: int) -> Change:
        row = msgspec.structs.replace(self.standing.pop(key), recovered_at_ms=now_ms)
        self.recovered = [row, *self.recovered][:MAX_RECOVERED]
        return Change(row, False)

    def number(self, key: Key, number: int) -> None:
        """The number under which it was written down."""
        if key in self.standing:
            self.standing[key] = msgspec.structs.replace(self.standing[key], id=number)

    def rows(self) -> list[AlertRow]:
        """What stands, newest first, then the newest that are over."""
        standing = sorted(self.standing.values(), key=lambda row: row.raised_at_ms, reverse=True)
        return [*standing, *self.recovered]
