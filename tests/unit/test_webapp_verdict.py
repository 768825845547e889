"""The verdict line from what is known, and request weights by the clock minute."""

from __future__ import annotations

import os

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import ManualClock

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.django_settings")

from webapp.api.limits import WeightLimiter
from webapp.operations.snapshot import ReaderRow
from webapp.operations.verdict import verdict

KEEPS_UP = ReaderRow(
    room="inserter",
    topic="kline_1s",
    partition=0,
    checkpoint_offset=1,
    lag_records=0,
    lag_seconds=0.0,
    headroom_seconds=900.0,
)
QUIET = {"seconds_since_progress": 1.0, "outages": [], "recent_gaps": {}}


def reader(**values: object) -> ReaderRow:
    """A reader that keeps up, unless told otherwise."""
    return msgspec.structs.replace(KEEPS_UP, **values)


def test_words_follow_the_worst_that_is_known() -> None:
    assert verdict(QUIET, [reader()])[0] == "healthy"
    assert verdict(QUIET, [reader(headroom_seconds=0.0)])[0] == "losing data"
    assert verdict({**QUIET, "recent_gaps": {"overflow": 2}}, []) == (
        "losing data",
        "new gaps in the last 10 minutes: 2 x overflow",
    )
    word, reason = verdict({**QUIET, "outages": ["A trade: silence", "B trade: silence"]}, [], ["no route"])
    assert word == "degraded"
    assert "no route" in reason
    assert "and 1 more" in reason
    assert verdict({**QUIET, "seconds_since_progress": None}, [])[0] == "degraded"
    assert verdict({**QUIET, "seconds_since_progress": 11.0}, [])[0] == "degraded"
    word, reason = verdict({**QUIET, "seconds_since_progress": None, "has_seconds": False}, [])
    assert (word, "STREAMS has no kline_1s" in reason, "nothing has been stored" in reason) == ("degraded", True, False)
    assert verdict(QUIET, [reader(lag_seconds=60.0, headroom_seconds=840.0)])[0] == "degraded"


def test_what_will_be_lost_soon_is_told_first() -> None:
    soon = [reader(lag_seconds=700.0, headroom_seconds=200.0), reader(lag_seconds=720.0, headroom_seconds=180.0)]
    word, reason = verdict(
        None, soon, ["the database does not answer: gone"], soon=soon, troubles=["not ready: inserter"]
    )
    assert word == "degraded"
    assert reason.startswith("losing data soon: the broker may delete what inserter has to read next")
    assert "in 180 s; the database does not answer: gone; not ready: inserter; inserter is 720 s behind" in reason


def test_unknown_is_not_bad() -> None:
    unknown = reader(lag_records=None, lag_seconds=None, headroom_seconds=None)
    assert verdict(QUIET, [unknown])[0] == "healthy"


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 30_000)), max_size=60))
def test_no_minute_grants_more_than_the_limit(requests: list[tuple[int, int]]) -> None:
    clock = ManualClock(1_795_219_200_000)
    limiter = WeightLimiter(200, clock)
    granted: dict[int, int] = {}
    for weight, pause_ms in requests:
        clock.advance(pause_ms)
        _, wait_s = limiter.take("address", weight)
        if wait_s == 0:
            granted[clock.now_ms() // 60_000] = granted.get(clock.now_ms() // 60_000, 0) + weight
        else:
            assert 1 <= wait_s <= 60
    assert all(used <= 200 for used in granted.values())


def test_no_limit_still_counts() -> None:
    limiter = WeightLimiter(0, ManualClock(1_795_219_200_000))
    assert [limiter.take("a", 5_000) for _ in range(2)] == [(5_000, 0), (10_000, 0)]
    assert limiter.take("b", 1) == (1, 0)
