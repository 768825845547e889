"""The seeded market is a pure function of (seed, symbol, time), and its klines are those of its trades."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_sim.kept_bars import KeptBars
from exchange_sim.klines import INTERVALS, bar, bars, next_open, open_of, opens_between
from exchange_sim.market import SeededMarket, make_block
from exchange_sim.symbols import MAX_PRICE_TICKS, WIRE_DECIMALS, catalogue, text8
from exchange_sim.trades import Bar, aggregates

NOW_MS = 1_795_263_890_123
SPECS = catalogue(300)
BUSY, QUIET = SPECS[30], SPECS[299]


def market(seed: int = 7) -> SeededMarket:
    return SeededMarket(seed, SPECS, lambda: NOW_MS, 12)


def naive(rows: list[tuple[int, int, int, int, bool]], span: tuple[int, int], before: int) -> Bar:
    """A bar the slow way, straight from the rules."""
    inside = [row for row in rows if span[0] <= row[1] < span[1]]
    if not inside:
        return Bar(span[0], span[1] - 1, before, before, before, before, 0, 0, 0, 0, 0, -1, -1)
    prices = [row[2] for row in inside]
    bought = [row for row in inside if not row[4]]
    return Bar(
        span[0],
        span[1] - 1,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(row[3] for row in inside),
        sum(row[2] * row[3] for row in inside),
        len(inside),
        sum(row[3] for row in bought),
        sum(row[2] * row[3] for row in bought),
        inside[0][0],
        inside[-1][0],
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(NOW_MS - 10**9, NOW_MS), st.integers(1, 900_000), st.sampled_from([BUSY, QUIET]))
def test_reading_at_random_equals_reading_in_sequence(start: int, length: int, spec: object) -> None:
    assert spec in (BUSY, QUIET)
    symbol = BUSY if spec is BUSY else QUIET
    one, other = market(), market()
    straight = [row for run in one.slices(symbol, start, start + length) for row in run.rows()]
    middle = start + length // 2
    second_half = [row for run in other.slices(symbol, middle, start + length) for row in run.rows()]
    first_half = [row for run in other.slices(symbol, start, middle) for row in run.rows()]
    assert first_half + second_half == straight


@pytest.mark.parametrize("spec", [SPECS[0], BUSY, QUIET], ids=["busiest", "busy", "quiet"])
def test_ids_follow_each_other_across_blocks(spec: object) -> None:
    symbol = next(s for s in SPECS if s is spec)
    index = NOW_MS // 1000 // symbol.block_s
    first, second = make_block(7, symbol, index), make_block(7, symbol, index + 1)
    assert first.first_id + len(first) == second.first_id
    assert len(first) == symbol.trades_per_block
    assert int(np.count_nonzero(first.starts)) == symbol.aggregates_per_block
    assert first.first_aggregate_id + symbol.aggregates_per_block == second.first_aggregate_id
    assert np.all(np.diff(first.offset_ms) >= 0)
    assert first.base_ms + int(first.offset_ms[-1]) < second.base_ms
    assert np.all((first.price > 0) & (first.price <= MAX_PRICE_TICKS))
    assert np.all(first.quantity >= 1)
    assert abs(int(first.price[-1]) / int(second.price[0]) - 1) < 0.02


def test_another_seed_is_another_market() -> None:
    index = NOW_MS // 1000 // BUSY.block_s
    assert not np.array_equal(make_block(1, BUSY, index).price, make_block(2, BUSY, index).price)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([i for i in INTERVALS if i not in ("1w", "1M", "3d", "1d")]),
    st.integers(0, 200),
    st.sampled_from([SPECS[20], QUIET]),
)
def test_a_kline_is_the_aggregate_of_its_trades(interval: str, back: int, spec: object) -> None:
    symbol = QUIET if spec is QUIET else SPECS[20]
    log = market()
    start = open_of(interval, NOW_MS - back * 17_000)
    edges = [start]
    for _ in range(3):
        edges.append(next_open(interval, edges[-1]))
    rows = [row for run in log.slices(symbol, start, edges[-1]) for row in run.rows()]
    last = log.last_before(symbol, start)
    assert last is not None
    before = int(last.price[0])
    for made, span in zip(bars(log, symbol, edges, edges[-1]), pairwise(edges), strict=True):
        expected = naive(rows, span, before)
        assert made == expected
        assert bar(log, symbol, span, span[1]) == expected
        before = expected.close


KEPT_LOG = market()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([i for i in INTERVALS if i not in ("1s", "1m", "3m")]),
    st.integers(0, 80),
    st.integers(1, 12),
    st.sampled_from([0, 330 * 60_000, 345 * 60_000, -12 * 3_600_000]),
    st.sampled_from([SPECS[20], QUIET]),
)
def test_kept_bars_are_those_of_the_trades(interval: str, back: int, count: int, zone_ms: int, spec: object) -> None:
    """Also while the newest one forms, as it is over, and when time is a moment earlier again."""
    kept = KeptBars(KEPT_LOG, hours_max=30)
    edges = [open_of(interval, NOW_MS - back * 1_800_000, zone_ms)]
    for _ in range(min(count, 2) if interval in ("3d", "1w", "1M") else count):
        edges.append(next_open(interval, edges[-1], zone_ms))
    # Weeks of a busy symbol would take minutes.
    symbol = QUIET if spec is QUIET or edges[-1] - edges[0] > 86_400_000 else SPECS[20]
    hour_ms = NOW_MS - NOW_MS % 3_600_000
    for until_ms in (hour_ms - 1, hour_ms, hour_ms + 1, NOW_MS, hour_ms + 3_600_000, hour_ms - 1):
        if edges[0] >= until_ms:
            continue
        assert kept.bars(symbol, edges, until_ms) == bars(KEPT_LOG, symbol, edges, until_ms)


def test_kept_bars_are_made_once_and_not_too_many() -> None:
    kept = KeptBars(KEPT_LOG, hours_max=4)
    hour_ms = NOW_MS - NOW_MS % 3_600_000
    first, second = ([hour_ms - n * 3_600_000, hour_ms - (n - 3) * 3_600_000] for n in (8, 5))
    for edges in (first, first, second):
        assert kept.bars(QUIET, edges, NOW_MS) == bars(KEPT_LOG, QUIET, edges, NOW_MS)
    counts = kept.hours_kept()
    assert (counts.misses, counts.hits, counts.currsize) == (6, 3, 4)


def test_seconds_chain_by_trade_ids_and_quiet_ones_are_flat() -> None:
    log = market()
    start = open_of("1m", NOW_MS - 3_600_000)
    edges = list(range(start, start + 601_000, 1000))
    seconds = bars(log, SPECS[20], edges, NOW_MS)
    last_id, close = None, None
    assert {True, False} == {second.trade_count == 0 for second in seconds}
    for second in seconds:
        if second.trade_count == 0:
            assert (second.first_id, second.last_id, second.base, second.quote) == (-1, -1, 0, 0)
            assert second.open == second.high == second.low == second.close
            assert close is None or second.close == close
        else:
            assert second.last_id - second.first_id + 1 == second.trade_count
            assert last_id is None or second.first_id == last_id + 1
            last_id = second.last_id
        close = second.close


def test_aggregate_trades_cover_the_trades_exactly() -> None:
    log = market()
    runs = list(log.slices(BUSY, NOW_MS - 7_200_000, NOW_MS))
    rows = [row for run in runs for row in run.rows()]
    found = list(aggregates(runs))
    assert [row[0] for row, _ in found] == list(range(found[0][0][0], found[0][0][0] + len(found)))
    assert sum(row[3] for row, _ in found) == sum(row[3] for row in rows)
    for (_, time_ms, price, quantity, sold), (first, last) in found:
        part = rows[first - rows[0][0] : last - rows[0][0] + 1]
        assert {(r[1], r[2], r[4]) for r in part} == {(time_ms, price, sold)}
        assert sum(r[3] for r in part) == quantity


def test_trade_ids_are_found_again() -> None:
    log = market()
    run = next(log.slices(BUSY, NOW_MS - 600_000, NOW_MS))
    assert next(next(log.from_id(BUSY, run.first_id, aggregate=False)).rows()) == next(run.rows())
    by_aggregate = next(log.from_id(BUSY, run.first_aggregate_id + 1, aggregate=True))
    assert by_aggregate.first_aggregate_id == run.first_aggregate_id + 1


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert open_of("1w", 1_723_161_300_000) == 1_722_816_000_000  # Monday 2024-08-05
    assert open_of("1M", 1_723_161_300_000) == 1_722_470_400_000  # 2024-08-01
    assert opens_between("1M", 0, 10**13, 3) == [0, 2_678_400_000, 5_097_600_000]


def test_two_thousand_symbols_with_their_own_steps() -> None:
    specs = catalogue(2000)
    assert len({spec.name for spec in specs}) == 2000
    assert [spec.name for spec in specs[:5]] == ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT"]
    assert all(spec.price_decimals + spec.quantity_decimals <= WIRE_DECIMALS for spec in specs)
    assert {spec.price_decimals for spec in specs} >= {2, 4, 6, 8}
    rates = [spec.trades_per_block / spec.block_s for spec in specs]
    assert rates == sorted(rates, reverse=True)
    assert catalogue(10) == specs[:10]


def test_the_five_leaders_are_the_most_traded() -> None:
    log = market()
    volumes = []
    for spec in SPECS[:10]:
        day = bar(log, spec, (NOW_MS - 86_400_000, NOW_MS), NOW_MS)
        assert day is not None
        volumes.append(day.quote / 10 ** (spec.price_decimals + spec.quantity_decimals))
    assert sorted(volumes[:5], reverse=True) == volumes[:5]
    assert min(volumes[:5]) > max(volumes[5:])


def test_text8() -> None:
    assert text8(6_283_763_000_000) == "62837.63000000"
    assert text8(0) == "0.00000000"
    assert text8(1234) == "0.00001234"
