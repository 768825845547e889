"""Seeds that once broke a promise, and what was wrong. They are run every time.

A seed draws the same life only while plan.py draws in the same order: after a change there these lines say which
situation to look for, and a new seed that meets it takes their place.
"""

from __future__ import annotations

#: seed -> what it found
REGRESSIONS: dict[int, str] = {
    53439: "a paused inserter held a batch while the broker lost its newest records and gave their offsets out again: "
    "the checks took the new records for the old",
    40096: "a clock that was set 55 min ahead: an inserter that started then listed seconds of a stream that was out "
    "up to the time by that clock",
    1795291463985: "the broker lost its newest records twice, the second time while the inserter read what it had "
    "noticed the first by: the checks knew of one loss only",
    1795303186496: "the broker away for 89 s of 96: the simulated producer handed over so little in a second that its "
    "backlog was not through at the end, and the end was judged all the same",
}
