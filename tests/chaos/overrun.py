"""The inserter paused by an operator until the broker deletes what it has to read: warned long before, all found again.

The figures are those that `/operator` draws, asked for like the page does.
"""

from __future__ import annotations

from typing import Any

import httpx

from runtime.clock import sleep_s
from tests.chaos.processes import gap_listed_and_filled, newest_gap
from tests.chaos.rig import Rig
from tests.chaos.scenario import Kind, Scenario, Violation

RETENTION_S = 900
CHECK_S = 10
VARIABLES = {"KAFKA_RETENTION_MS": str(RETENTION_S * 1000), "KAFKA_RETENTION_CHECK_MS": str(CHECK_S * 1000)}
#: The broker deletes whole segments, of a minute, at its next check.
LOST_BY_S = RETENTION_S + 60 + CHECK_S + 30
WARNED_MIN_S = 120.0
#: A round of the figures, and how far the countdown may be off from one minute to another.
POLL_S = 2.0
COUNTDOWN_SLACK_S = 10.0
LOST_FOR_S = 60.0
HEALTHY_MAX_S = 300.0
TIMEOUT_S = 10.0


class Overrun:
    """What was seen while the inserter was paused; times in seconds since the pause."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._url = f"http://127.0.0.1:{rig.rooms.environment['PORT']}/api/v1/operator"
        self._start_s = rig.clock.monotonic_s()
        self._countdown: list[tuple[float, float]] = []
        self.warned_s: float | None = None

    @property
    def passed_s(self) -> float:
        """Since the pause."""
        return self._rig.clock.monotonic_s() - self._start_s

    def figures(self) -> dict[str, Any]:
        """What the page shows now."""
        found: dict[str, Any] = httpx.get(self._url, timeout=TIMEOUT_S).raise_for_status().json()
        return found

    def look(self) -> bool:
        """One round: the warning, the countdown; whether the log has lost what was to be read."""
        figures, at_s = self.figures(), self.passed_s
        if self.warned_s is None and any(_is_warning(alert) for alert in figures["alerts"]):
            self.warned_s = at_s
            print(f"    {at_s:.0f} s after the pause: {figures['verdict']}, {figures['reason']}", flush=True)
        readers = [row for row in figures["readers"] if (row["room"], row["topic"]) == ("inserter", "kline_1s")]
        known = [row["headroom_seconds"] for row in readers if row["headroom_seconds"] is not None]
        if self.warned_s is not None and known:
            self._countdown.append((at_s, min(known)))
        return any((row["log_start_offset"] or 0) > row["checkpoint_offset"] for row in readers)

    def check(self, lost_s: float) -> None:
        """Raises Violation unless it was warned in time and counted down with the clock."""
        if self.warned_s is None or lost_s - self.warned_s < WARNED_MIN_S:
            raise Violation(f"first loss after {lost_s:.0f} s, warned after {self.warned_s} s")
        first_s, first_headroom_s = self._countdown[0]
        for at_s, headroom_s in self._countdown:
            expected_s = first_headroom_s - (at_s - first_s)
            # At zero or less it may be gone already.
            if headroom_s > 0 and abs(headroom_s - expected_s) > COUNTDOWN_SLACK_S:
                raise Violation(f"{at_s:.0f} s: headroom {headroom_s:.0f} s, the countdown is at {expected_s:.0f} s")


def _is_warning(alert: dict[str, Any]) -> bool:
    return (alert["condition"], alert["subject"], alert["recovered_at_ms"]) == ("headroom", "room:inserter", None)


def _paused_past_the_retention(rig: Rig) -> float:
    newest_before = newest_gap(rig)
    _command(rig, "pause")
    seen = Overrun(rig)
    while not seen.look():
        if seen.passed_s > LOST_BY_S:
            raise Violation(f"nothing deleted {LOST_BY_S} s after the pause")
        sleep_s(POLL_S)
    lost_s = seen.passed_s
    print(f"    {lost_s:.0f} s after the pause: first loss; warned {lost_s - (seen.warned_s or lost_s):.0f} s before")
    sleep_s(LOST_FOR_S)
    _command(rig, "resume")
    filled_s = gap_listed_and_filled(rig, newest_before)
    seen.check(lost_s)
    healthy_s = rig.seconds_until("the verdict", lambda: seen.figures()["verdict"] == "healthy", HEALTHY_MAX_S)
    if healthy_s > HEALTHY_MAX_S:
        raise Violation(f"{HEALTHY_MAX_S:.0f} s after the repair: {seen.figures()['reason']}")
    return filled_s


def _command(rig: Rig, action: str) -> None:
    ran = rig.rooms.command(action, "inserter", "--yes")
    if ran.returncode:
        raise Violation(f"candlewire {action} inserter: {ran.stdout}{ran.stderr}")


def overrun() -> Scenario:
    """What an operator must know before data is lost, and sees afterwards."""
    kind = Kind("paused past the retention", 1, _paused_past_the_retention, 60.0, RETENTION_S + 250)
    return Scenario("OVERRUN", f"inserter paused, records live {RETENTION_S // 60} min", (kind,), VARIABLES)
