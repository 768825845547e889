"""Every interval of the exchange: where its bars begin, of what they are made, and their roll-up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange_sim.klines import open_of
from market.errors import UnknownInterval
from market.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from market.kline import Kline
from market.odd_intervals import EXCHANGE_INTERVALS, ODD_INTERVALS, Grid, grid_of, totals
from market.rollup import roll_up
from tests.klines_of import seconds_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: 1970 to 2242.
TIMES = st.integers(40 * DAY_MS, 100_000 * DAY_MS)
ZONES = st.integers(-12 * 60, 14 * 60).map(lambda minutes: minutes * MINUTE_MS)
INTERVALS = st.sampled_from(EXCHANGE_INTERVALS)


def ms(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


def test_all_intervals_of_the_exchange_shortest_first() -> None:
    expected = "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M"
    assert " ".join(EXCHANGE_INTERVALS) == expected
    assert set(EXCHANGE_INTERVALS) == {*(item.value for item in Interval), *ODD_INTERVALS}


@pytest.mark.parametrize(
    ("interval", "opens"),
    [
        ("3d", "2023-12-29 2024-01-01 2024-01-04"),
        ("1w", "2024-02-26 2024-03-04 2024-03-11"),
        ("1M", "2024-01-01 2024-02-01 2024-03-01"),
        ("1M", "2023-11-01 2023-12-01 2024-01-01"),
        ("12h", "2024-01-01T00:00 2024-01-01T12:00 2024-01-02T00:00"),
        ("8h", "2024-01-01T16:00 2024-01-02T00:00 2024-01-02T08:00"),
    ],
)
def test_alignment_of_the_exchange(interval: str, opens: str) -> None:
    before, open_ms, after = map(ms, opens.split())
    grid = grid_of(interval)
    assert grid.floor(open_ms) == grid.floor(after - 1) == grid.ceiling(before + 1) == open_ms
    assert (grid.step(open_ms, -1), grid.step(open_ms, 1)) == (before, after)
    assert grid.close_time(open_ms) == after - 1
    assert list(grid.opens(before, after)) == [before, open_ms]


@pytest.mark.parametrize(
    ("interval", "zone_ms", "base"),
    [
        ("1s", 0, "1s"),
        ("1m", 0, "1m"),
        ("3m", 0, "1m"),
        ("30m", 0, "15m"),
        ("2h", 0, "1h"),
        ("6h", 0, "1h"),
        ("8h", 0, "4h"),
        ("12h", 0, "4h"),
        ("3d", 0, "1d"),
        ("1w", 0, "1d"),
        ("1M", 0, "1d"),
        ("1d", 8 * HOUR_MS, "4h"),
        ("1M", -3 * HOUR_MS, "1h"),
        ("1h", 20 * MINUTE_MS, "5m"),
        ("1w", 7 * MINUTE_MS, "1m"),
    ],
)
def test_longest_stored_parts(interval: str, zone_ms: int, base: str) -> None:
    grid = grid_of(interval, zone_ms)
    assert grid.base.value == base
    assert grid.is_stored == (interval == base)


def test_a_month_of_another_zone_begins_at_its_own_midnight() -> None:
    grid = grid_of("1M", 8 * HOUR_MS)
    assert grid.floor(ms("2024-02-29T16:00")) == ms("2024-02-29T16:00")
    assert grid.floor(ms("2024-02-29T15:59")) == ms("2024-01-31T16:00")


def test_the_last_month_that_anybody_may_ask_for_has_an_end() -> None:
    grid = grid_of("1M")
    last_ms = grid.floor(253_402_300_799_000)
    assert last_ms == ms("9999-12-01")
    assert grid.step(last_ms, 1) - last_ms == 31 * DAY_MS
    assert grid.step(0, -1) == -31 * DAY_MS


@pytest.mark.parametrize("name", ["", "1H", "1mo", "7m", "1 m", "1W", "None"])
def test_unknown_names_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(UnknownInterval, match="3d, 1w, 1M"):
        grid_of(name)


@given(INTERVALS, TIMES, ZONES)
def test_bars_follow_each_other_without_hole_or_overlap(interval: str, time_ms: int, zone_ms: int) -> None:
    grid = grid_of(interval, zone_ms)
    open_ms = grid.floor(time_ms)
    assert open_ms <= time_ms <= grid.close_time(open_ms)
    assert grid.floor(grid.close_time(open_ms)) == open_ms
    assert grid.floor(grid.step(open_ms, 1)) == grid.step(open_ms, 1)
    assert grid.step(grid.step(open_ms, 7), -7) == open_ms
    assert grid.ceiling(open_ms + 1) == grid.step(open_ms, 1)
    assert (grid.close_time(open_ms) + 1 - open_ms) // grid.base.length_ms <= grid.max_parts
    assert open_ms == open_of(interval, time_ms, zone_ms), "the simulated exchange aligns alike"


@given(INTERVALS, TIMES, ZONES)
def test_bars_are_whole_bars_of_their_base(interval: str, time_ms: int, zone_ms: int) -> None:
    grid = grid_of(interval, zone_ms)
    open_ms = grid.floor(time_ms)
    if zone_ms % MINUTE_MS == 0 and interval != "1s":
        assert grid.base is not Interval.S1
    assert open_ms % grid.base.length_ms == grid.step(open_ms, 1) % grid.base.length_ms == 0


@given(st.sampled_from(["3m", "30m", "2h", "1h"]), st.integers(0, 30), st.sampled_from([0, 5 * MINUTE_MS]))
def test_totals_are_the_same_from_seconds_and_from_minutes(interval: str, dropped: int, zone_ms: int) -> None:
    seconds = seconds_of("BTCUSDT", ms("2024-03-01T00:57"), 420)
    seconds = [kline for number, kline in enumerate(seconds) if number % 31 != dropped]
    minutes: dict[int, list[Kline]] = {}
    for kline in seconds:
        minutes.setdefault(Interval.M1.floor(kline.open_time_ms), []).append(kline)
    grid = Grid(interval, zone_ms)
    direct = dict(totals(seconds, grid))
    assert direct == dict(totals([roll_up(parts, Interval.M1) for parts in minutes.values()], grid))
    assert list(direct) == sorted(direct)
    assert sum(total.row_count for total in direct.values()) == len(seconds)
    whole = sum((kline.base_volume for kline in seconds), Decimal(0))
    assert sum(total.base_volume for total in direct.values()) == whole
