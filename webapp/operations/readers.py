"""How far each reader is behind, and how long until the broker may delete what it has to read next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runtime.topic_progress import Progress
from webapp.operations import remedies
from webapp.operations.snapshot import ReaderRow, Remedy

#: Rounds that the trend looks back over: a minute at 5 s.
TREND_ROUNDS: Final = 12
MIN_TREND_ROUNDS: Final = 3
#: A reader is warned of this early at the latest, however short the retention is.
MAX_WARNING_SHARE: Final = 0.8
ROOM: Final = "inserter"


def warning_s(bound_s: float, retention_ms: int | None) -> float:
    """Headroom below which data will soon be lost: the bound, but not more than a share of the retention itself."""
    return bound_s if retention_ms is None else min(bound_s, MAX_WARNING_SHARE * retention_ms / 1000)


class HeadroomTrend:
    """Headroom of the last TREND_ROUNDS rounds by partition."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[str, int], deque[tuple[float, float]]] = {}

    def add(self, key: tuple[str, int], now_s: float, headroom_s: float | None) -> float | None:
        """Seconds won per second over the rounds that are held, this one included; None while they are few."""
        held = self._rounds.setdefault(key, deque(maxlen=TREND_ROUNDS))
        if headroom_s is None:
            held.clear()
            return None
        held.append((now_s, headroom_s))
        return slope(held)


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares slope; None for fewer than MIN_TREND_ROUNDS points or no time between them."""
    count = len(points)
    if count < MIN_TREND_ROUNDS:
        return None
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return None
    return round(sum((x - mean_x) * (y - mean_y) for x, y in points) / spread, 3)


def reader_row(
    checkpoint: Mapping[str, Any], progress: Progress | None, retention_ms: int | None, now_ms: int
) -> ReaderRow:
    """One partition as it stands, without judgement. `checkpoint` as ledger_selectors.checkpoints gives it.

    Headroom counts from the least that the broker keeps, retention.ms; a reader without lag has all of it.
    """
    next_offset: int = checkpoint["next_offset"]
    row = ReaderRow(
        room=ROOM, topic=checkpoint["topic"], partition=checkpoint["partition"], checkpoint_offset=next_offset
    )
    if progress is None:
        return row
    lag = max(0, progress.log_end_offset - next_offset)
    lag_s: float | None = None
    if lag == 0:
        lag_s = 0.0
    elif progress.next_timestamp_ms is not None:
        lag_s = round(max(0, now_ms - progress.next_timestamp_ms) / 1000, 3)
    headroom_s: float | None = None
    if next_offset < progress.log_start_offset:
        headroom_s = 0.0
    elif lag_s is not None and retention_ms is not None and retention_ms > 0:
        headroom_s = round(retention_ms / 1000 - lag_s, 3)
    return ReaderRow(
        room=ROOM,
        topic=row.topic,
        partition=row.partition,
        checkpoint_offset=next_offset,
        log_start_offset=progress.log_start_offset,
        log_end_offset=progress.log_end_offset,
        lag_records=lag,
        lag_seconds=lag_s,
        headroom_seconds=headroom_s,
    )


def remedy_of(row: ReaderRow, is_paused: bool) -> Remedy:
    """What helps a reader that falls back."""
    if is_paused:
        return remedies.resume(row.room)
    if (row.headroom_seconds or 0) <= 0:
        return remedies.logs_of_loss(row.room)
    return remedies.logs(row.room)
