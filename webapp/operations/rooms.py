"""A row for each room, from what it says of itself now and what it said before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.operations.catalogue import PAUSABLE_ROOMS
from webapp.operations import remedies
from webapp.operations.scrape import Scrape
from webapp.operations.snapshot import RoomRow

#: A process start time is known to a hundredth of a second.
SAME_START_MS = 1_000


@dataclass
class _Seen:
    started_at_ms: int | None = None
    restarts: int = 0
    cpu_s: float | None = None
    at_s: float = 0.0


class RoomHistory:
    """What is remembered of each room between two rounds."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._is_restored = False

    def restore(self, written: Mapping[str, tuple[int, int]]) -> None:
        """What was written down of each room before this process began: its start (ms since 1970) and restarts."""
        self._is_restored = True
        for room, (started_at_ms, restarts) in written.items():
            seen = self._seen.setdefault(room, _Seen())
            if seen.started_at_ms is None:
                seen.started_at_ms, seen.restarts = started_at_ms, restarts
            else:
                seen.restarts += restarts + (abs(seen.started_at_ms - started_at_ms) > SAME_START_MS)

    def row(self, scrape: Scrape, now_s: float, paused: Mapping[str, bool] | None) -> RoomRow:
        """The row of this round. `paused` None = not known; so are restarts until what was written down is read."""
        seen = self._seen.setdefault(scrape.room, _Seen())
        is_paused = None if paused is None else paused.get(scrape.room, False)
        if scrape.error is not None:
            seen.cpu_s = None
            return RoomRow(
                name=scrape.room,
                state="bad",
                ready=False,
                reasons=[f"does not answer: {scrape.error}"],
                started_at_ms=None,
                restarts=self._restarts(seen),
                last_error=scrape.error,
                can_pause=scrape.room in PAUSABLE_ROOMS,
                is_paused=is_paused,
                remedy=remedies.logs(scrape.room),
            )
        started_s = scrape.value("process_start_time_seconds")
        started_at_ms = None if started_s is None else round(started_s * 1000)
        if started_at_ms is not None:
            if seen.started_at_ms is not None and abs(started_at_ms - seen.started_at_ms) > SAME_START_MS:
                seen.restarts, seen.cpu_s = seen.restarts + 1, None
            seen.started_at_ms = started_at_ms
        memory = scrape.value("process_resident_memory_bytes")
        cpu_share = _cpu_share(seen, scrape.value("process_cpu_seconds_total"), now_s)
        is_ok = bool(scrape.is_ready) and not is_paused
        remedy = None
        if not is_ok:
            remedy = remedies.resume(scrape.room) if is_paused else remedies.logs(scrape.room)
        return RoomRow(
            name=scrape.room,
            state="ok" if is_ok else "bad",
            ready=scrape.is_ready,
            reasons=list(scrape.reasons),
            started_at_ms=started_at_ms,
            restarts=self._restarts(seen),
            cpu_share=cpu_share,
            memory_bytes=None if memory is None else int(memory),
            last_error=scrape.last_error,
            can_pause=scrape.room in PAUSABLE_ROOMS,
            is_paused=is_paused,
            remedy=remedy,
        )

    def _restarts(self, seen: _Seen) -> int | None:
        return seen.restarts if self._is_restored else None


def _cpu_share(seen: _Seen, cpu_s: float | None, now_s: float) -> float | None:
    """Of one core, since the round before; None for the first."""
    before_s, before_at_s = seen.cpu_s, seen.at_s
    seen.cpu_s, seen.at_s = cpu_s, now_s
    if cpu_s is None or before_s is None or now_s <= before_at_s:
        return None
    return round(max(0.0, cpu_s - before_s) / (now_s - before_at_s), 4)
