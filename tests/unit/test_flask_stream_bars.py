"""Forming bars: whatever the candle covers and whenever it arrives, the bar equals the roll-up of its seconds."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flask_stream.bars import PROVISIONAL_REVISION, BarSeries, SecondsWindow, bar_of_second
from market.interval import Interval
from market.kline import Candle, Kline, differing_columns
from market.rollup import roll_up

START_MS = 1_700_000_040_000
MINUTE_MS = 60_000


def second(index: int, trade_count: int = 1) -> Kline:
    open_ms = START_MS + index * 1000
    price = Decimal(100 + (index * 7) % 13)
    return Kline(
        symbol="BTCUSDT",
        interval=Interval.S1,
        open_time_ms=open_ms,
        close_time_ms=open_ms + 999,
        open=price,
        high=price + 2 if trade_count else price,
        low=price - 2 if trade_count else price,
        close=price,
        base_volume=Decimal(trade_count),
        quote_volume=Decimal(trade_count) * price,
        trade_count=trade_count,
        taker_buy_base_volume=Decimal(0),
        taker_buy_quote_volume=Decimal(0),
        first_trade_id=index * 10 if trade_count else -1,
        last_trade_id=index * 10 + trade_count - 1 if trade_count else -1,
        is_closed=True,
        event_time_ms=open_ms + 1001,
        received_at_ms=open_ms + 1010,
    )


def candle(seconds: list[Kline], revision: int = 0) -> Candle:
    return msgspec.structs.replace(roll_up(seconds, Interval.M1), revision=revision, updated_at_ms=1)


COUNTS = st.lists(st.integers(0, 3), min_size=60, max_size=60)


@given(COUNTS, st.integers(0, 60), st.integers(0, 59))
def test_candle_plus_seconds_is_the_roll_up_of_all(counts: list[int], covered: int, arrives_at: int) -> None:
    seconds = [second(index, count) for index, count in enumerate(counts)]
    window = SecondsWindow(190)
    series = BarSeries(Interval.M1, window, [], 11)
    bar = None
    for index, kline in enumerate(seconds):
        if index == arrives_at and covered:
            series.on_candle(candle(seconds[:covered]))
        window.add(kline)
        bar = series.on_second(kline) or bar
    newest = series.bars()[-1]
    assert differing_columns(newest, roll_up(seconds, Interval.M1)) == ()
    assert newest.is_closed
    assert newest.is_complete
    assert newest.row_count == 60


@given(st.integers(0, 119), st.integers(2, 50))
def test_joining_at_any_second_gives_the_same_bars(joined_at: int, seconds_more: int) -> None:
    seconds = [second(index) for index in range(joined_at + seconds_more)]
    window = SecondsWindow(400, seconds[:joined_at])
    series = BarSeries(Interval.M1, window, [], 11)
    bars = {bar.open_time_ms: bar for bar in series.bars()}
    for kline in seconds[joined_at:]:
        window.add(kline)
        bar = series.on_second(kline)
        assert bar is not None
        bars[bar.open_time_ms] = bar
    for open_ms, bar in bars.items():
        inside = [kline for kline in seconds if Interval.M1.floor(kline.open_time_ms) == open_ms]
        assert differing_columns(bar, roll_up(inside, Interval.M1)) == ()


def test_the_next_bar_starts_with_its_first_second() -> None:
    window = SecondsWindow(190, [second(index) for index in range(60)])
    series = BarSeries(Interval.M1, window, [], 11)
    window.add(second(60))
    bar = series.on_second(second(60))
    assert bar is not None
    assert (bar.open_time_ms, bar.row_count, bar.is_closed) == (START_MS + MINUTE_MS, 1, False)


def test_a_late_candle_of_an_older_bar_is_shown_and_does_not_disturb_the_forming_one() -> None:
    window = SecondsWindow(190, [second(index) for index in range(70)])
    series = BarSeries(Interval.M1, window, [], 11)
    closed = candle([second(index) for index in range(60)], revision=1)
    assert series.on_candle(closed) == closed
    assert series.on_candle(msgspec.structs.replace(closed, revision=0)) is None
    assert [bar.row_count for bar in series.bars()] == [60, 10]


def test_a_candle_that_covers_less_than_the_seconds_takes_nothing_back() -> None:
    window = SecondsWindow(190, [second(index) for index in range(30)])
    series = BarSeries(Interval.M1, window, [], 11)
    bar = series.on_candle(candle([second(index) for index in range(20)]))
    assert bar is not None
    assert (bar.row_count, bar.covered_until_ms) == (30, START_MS + 30_000)


def test_a_bar_without_its_start_is_provisional() -> None:
    window = SecondsWindow(190, [second(index) for index in range(20, 30)])
    series = BarSeries(Interval.M1, window, [], 11)
    assert [bar.revision for bar in series.bars()] == [PROVISIONAL_REVISION]
    bar = series.on_candle(candle([second(index) for index in range(20)]))
    assert bar is not None
    assert (bar.revision, bar.row_count) == (0, 30)


def test_duplicates_and_late_seconds() -> None:
    window = SecondsWindow(190, [second(index) for index in (0, 1, 3)])
    series = BarSeries(Interval.M1, window, [], 11)
    assert not window.add(second(1))
    assert window.add(second(2))
    bar = series.on_second(second(2))
    assert bar is not None
    assert differing_columns(bar, roll_up([second(index) for index in range(4)], Interval.M1)) == ()


def test_the_window_keeps_the_newest() -> None:
    window = SecondsWindow(5, [second(index) for index in range(10)])
    assert [kline.open_time_ms for kline in window.newest(9)] == [START_MS + index * 1000 for index in range(5, 10)]
    assert not window.add(second(0))


def test_a_second_as_a_bar() -> None:
    bar = bar_of_second(second(3))
    assert (bar.row_count, bar.expected_count, bar.is_complete, bar.source) == (1, 1, True, "stream")
