"""1 s klines built from trades: the exchange's rules, and the exchange's own candle of the recorded tape."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.binance_codec import decode_event
from market.interval import Interval
from market.kline import VALUE_COLUMNS, require_sane_kline
from market.rollup import roll_up
from market.trade import Trade
from market.trade_klines import broken_spans, klines_of_trades

START_MS = 1_700_000_000_000
SECONDS = 20
END_MS = START_MS + SECONDS * 1000


def trade(trade_id: int, after_ms: int, price: str = "100.01", quantity: str = "0.5", *, sold: bool = False) -> Trade:
    return Trade(
        symbol="BTCUSDT",
        trade_id=trade_id,
        price=Decimal(price),
        quantity=Decimal(quantity),
        trade_time_ms=START_MS + after_ms,
        is_buyer_maker=sold,
        event_time_ms=START_MS + after_ms,
    )


@st.composite
def runs_of_trades(draw: st.DrawFn) -> list[Trade]:
    """Trades with chained ids and times that never step back."""
    times = sorted(draw(st.lists(st.integers(0, SECONDS * 1000 - 1), max_size=60)))
    cents = st.integers(1, 10_000)
    return [
        trade(
            7 + index,
            after_ms,
            str(Decimal(draw(cents)) / 100),
            str(Decimal(draw(st.integers(1, 10**6))) / 10**5),
            sold=draw(st.booleans()),
        )
        for index, after_ms in enumerate(times)
    ]


@given(runs_of_trades(), st.data())
def test_every_second_once_whatever_the_order_and_the_doubles(trades: list[Trade], data: st.DataObject) -> None:
    klines = klines_of_trades("BTCUSDT", trades, START_MS, END_MS, Decimal(5))
    shuffled = data.draw(st.permutations([*trades, *trades[::3]]))
    assert klines_of_trades("BTCUSDT", shuffled, START_MS, END_MS, Decimal(5)) == klines
    assert [k.open_time_ms for k in klines] == list(range(START_MS, END_MS, 1000))
    for kline in klines:
        require_sane_kline(kline)


@given(runs_of_trades())
def test_the_seconds_hold_all_that_the_trades_hold(trades: list[Trade]) -> None:
    klines = klines_of_trades("BTCUSDT", trades, START_MS, END_MS, Decimal(5))
    assert sum(k.base_volume for k in klines) == sum(t.quantity for t in trades)
    assert sum(k.quote_volume for k in klines) == sum(t.price * t.quantity for t in trades)
    assert sum(k.taker_buy_base_volume for k in klines) == sum(t.quantity for t in trades if not t.is_buyer_maker)
    close, next_id = Decimal(5), 7
    for kline in klines:
        if kline.trade_count == 0:
            assert (kline.open, kline.high, kline.low, kline.close) == (close,) * 4
            assert (kline.first_trade_id, kline.last_trade_id) == (-1, -1)
        else:
            assert kline.first_trade_id == next_id
            next_id = kline.last_trade_id + 1
            assert next_id - kline.first_trade_id == kline.trade_count
        close = kline.close
    assert next_id == 7 + len(trades)


@given(runs_of_trades(), st.integers(0, SECONDS))
def test_two_halves_joined_by_the_close_are_the_whole(trades: list[Trade], cut_s: int) -> None:
    cut_ms = START_MS + cut_s * 1000
    first = klines_of_trades("BTCUSDT", trades, START_MS, cut_ms, None)
    close = first[-1].close if first else None
    second = klines_of_trades("BTCUSDT", trades, cut_ms, END_MS, close)
    assert first + second == klines_of_trades("BTCUSDT", trades, START_MS, END_MS, None)


def test_without_a_close_before_nothing_is_made_up() -> None:
    klines = klines_of_trades("BTCUSDT", [trade(1, 3_500)], START_MS, START_MS + 6_000, None)
    assert [k.open_time_ms - START_MS for k in klines] == [3_000, 4_000, 5_000]


def test_the_quote_amount_is_cut_where_it_has_more_decimals() -> None:
    trades = [trade(1, 10, "0.123456", "0.111"), trade(2, 20, "0.123457", "0.111")]
    (kline,) = klines_of_trades("BTCUSDT", trades, START_MS, START_MS + 1000, None)
    exact = Decimal("0.123456") * Decimal("0.111") + Decimal("0.123457") * Decimal("0.111")
    assert kline.quote_volume == exact.quantize(Decimal("1e-8"), rounding=ROUND_DOWN) != exact
    (coarse,) = klines_of_trades("BTCUSDT", trades, START_MS, START_MS + 1000, None, quote_decimals=2)
    assert coarse.quote_volume == Decimal("0.02")


def test_a_time_that_steps_back_does_not_break_the_chain() -> None:
    klines = klines_of_trades("BTCUSDT", [trade(1, 1_000), trade(2, 999)], START_MS, START_MS + 2_000, Decimal(1))
    assert [(k.trade_count, k.first_trade_id, k.last_trade_id) for k in klines] == [(0, -1, -1), (2, 1, 2)]


def test_missing_ids_name_the_seconds_they_may_lie_in() -> None:
    assert broken_spans([trade(1, 100), trade(2, 200), trade(3, 1500)]) == []
    broken = [trade(1, 100), trade(3, 2500), trade(4, 2600)]
    assert broken_spans(broken) == [(START_MS, START_MS + 3_000)]
    assert broken_spans(broken[1:], last_id=1) == [(START_MS + 2_000, START_MS + 3_000)]


def test_a_range_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="grid"):
        klines_of_trades("BTCUSDT", [], START_MS + 1, START_MS + 1000, None)


def recorded_trades(path: Path) -> Iterator[Trade]:
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if '"btcusdt@trade"' in line:
                frame = json.loads(line.partition(" ")[2])
                event = decode_event(frame["stream"], json.dumps(frame["data"]).encode(), 0)
                assert isinstance(event, Trade)
                yield event


def test_recorded_trades_make_the_exchanges_own_five_minutes(shared_data: Path) -> None:
    open_ms = 1_723_161_300_000
    trades = list(recorded_trades(shared_data / "captures/hftbacktest_spot_btcusdt_20240808.gz"))
    before = [t for t in trades if t.trade_time_ms < open_ms]
    assert broken_spans(trades) == []
    klines = klines_of_trades("BTCUSDT", trades, open_ms, open_ms + 300_000, before[-1].price)
    minutes = [roll_up(klines[start : start + 60], Interval.M1) for start in range(0, 300, 60)]
    candle = roll_up(minutes, Interval.M5)
    with gzip.open(shared_data / "klines/BTCUSDT-5m-2024-08.days01-08.csv.gz", "rt") as rows:
        row = next(row for row in csv.reader(rows) if row[0] == str(open_ms))
    assert [getattr(candle, name) for name in VALUE_COLUMNS] == [Decimal(v) for v in (*row[1:6], *row[7:11])]
    assert candle.row_count == 300
    assert candle.trade_count == 8863
