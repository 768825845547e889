"""De-duplication: while connections overlap each event comes twice, and after a reorder late."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from market.depth import DepthUpdate
from market.interval import Interval
from market.kline import Kline
from market.trade import Trade
from producer.dedup import LATE_TRADE_IDS, REMEMBERED_KLINES, Dedup


def kline(second: int, *, close: str = "2", is_closed: bool = True, event_ms: int | None = None) -> Kline:
    start_ms = second * 1000
    return Kline(
        symbol="BTCUSDT",
        interval=Interval("1s"),
        open_time_ms=start_ms,
        close_time_ms=start_ms + 999,
        open=Decimal(2),
        high=Decimal(3),
        low=Decimal(1),
        close=Decimal(close),
        base_volume=Decimal(1),
        quote_volume=Decimal(2),
        trade_count=1,
        taker_buy_base_volume=Decimal(0),
        taker_buy_quote_volume=Decimal(0),
        first_trade_id=1,
        last_trade_id=1,
        is_closed=is_closed,
        event_time_ms=start_ms + 1001 if event_ms is None else event_ms,
    )


def trade(trade_id: int, time_ms: int = 0) -> Trade:
    return Trade(
        symbol="BTCUSDT",
        trade_id=trade_id,
        price=Decimal(1),
        quantity=Decimal(1),
        trade_time_ms=time_ms,
        is_buyer_maker=False,
        event_time_ms=time_ms,
    )


@st.composite
def two_connections(draw: st.DrawFn) -> list[int]:
    """The numbers 0..n-1 twice, each copy in its own order but little displaced, merged in any way."""
    count = draw(st.integers(1, 60))
    merged: list[int] = []
    for _ in range(2):
        shifts = draw(st.lists(st.floats(0, 4), min_size=count, max_size=count))
        merged.extend(n for _, n in sorted((n + shift, n) for n, shift in enumerate(shifts)))
    picks = draw(st.lists(st.booleans(), min_size=2 * count, max_size=2 * count))
    left, right = merged[:count][::-1], merged[count:][::-1]
    return [(left.pop() if (pick and left) or not right else right.pop()) for pick in picks]


@given(two_connections())
def test_each_trade_passes_exactly_once(arrivals: list[int]) -> None:
    dedup = Dedup()
    passed = [n for n in arrivals if dedup.is_new(trade(100 + n))]
    assert len(passed) == len(set(passed))
    # What is older than the very first event of the process was never asked for.
    assert set(passed) >= {n for n in arrivals if n >= arrivals[0]}


@given(two_connections())
def test_every_kline_passes_and_a_fresh_repeat_does_not(arrivals: list[int]) -> None:
    dedup = Dedup()
    passed = [n for n in arrivals if dedup.is_new(kline(n))]
    assert set(passed) == set(arrivals)


@given(st.integers(1, REMEMBERED_KLINES))
def test_repeats_of_the_newest_klines_are_dropped(count: int) -> None:
    dedup = Dedup()
    assert all(dedup.is_new(kline(n)) for n in range(count))
    assert not any(dedup.is_new(kline(n)) for n in range(count))


def test_corrected_kline_passes_once_and_the_correction_is_remembered() -> None:
    dedup = Dedup()
    assert dedup.is_new(kline(1))
    assert dedup.is_new(kline(1, close="3"))
    assert not dedup.is_new(kline(1, close="3"))


def test_open_kline_never_follows_its_closed_one() -> None:
    dedup = Dedup()
    assert dedup.is_new(kline(1, is_closed=False, event_ms=1500))
    assert not dedup.is_new(kline(1, is_closed=False, event_ms=1500))
    assert dedup.is_new(kline(1, is_closed=False, event_ms=1800))
    assert dedup.is_new(kline(1))
    assert not dedup.is_new(kline(1, is_closed=False, event_ms=9000))


def test_trade_ids_that_start_anew_are_not_taken_for_repeats() -> None:
    dedup = Dedup()
    assert dedup.is_new(trade(1_000_000, time_ms=10_000))
    assert not dedup.is_new(trade(5, time_ms=10_000))
    assert dedup.is_new(trade(5, time_ms=12_000))
    assert dedup.is_new(trade(6, time_ms=12_000))


def test_a_huge_jump_of_trade_ids_keeps_memory_bounded() -> None:
    dedup = Dedup()
    dedup.is_new(trade(1))
    dedup.is_new(trade(10**12))
    assert len(dedup._trades._missing) <= LATE_TRADE_IDS
    assert dedup.is_new(trade(10**12 - 1))
    assert not dedup.is_new(trade(10**12 - 1))


def test_depth_passes_only_forward_and_may_restart_after_a_cut() -> None:
    update = DepthUpdate(
        symbol="BTCUSDT", first_update_id=10, last_update_id=20, bids=[], asks=[], event_time_ms=1, received_at_ms=1
    )
    dedup = Dedup()
    assert dedup.is_new(update)
    assert not dedup.is_new(update)
    older = msgspec.structs.replace(update, first_update_id=1, last_update_id=9)
    assert not dedup.is_new(older)
    dedup.after_cut()
    assert dedup.is_new(older)
