"""Roll-up rules (binance.md 0.5, 0.6) as properties, and against the exchange's own candles."""

from __future__ import annotations

import csv
import gzip
from decimal import Decimal
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.binance_codec import decode_rest_klines
from market.interval import Interval
from market.kline import Candle, Kline, Source, differing_columns
from market.rollup import Accumulator, roll_up, to_candle

MINUTE = 1_700_000_040_000


def second(index: int, prices: list[int], first_trade_id: int = 0, previous_close: int = 100) -> Kline:
    """The 1s kline of second `index` whose trades have these prices, one unit each; quiet without prices."""
    flat = [previous_close]
    traded = prices or flat
    open_time_ms = MINUTE + 1000 * index
    return Kline(
        symbol="BTCUSDT",
        interval=Interval.S1,
        open_time_ms=open_time_ms,
        close_time_ms=open_time_ms + 999,
        open=Decimal(traded[0]),
        high=Decimal(max(traded)),
        low=Decimal(min(traded)),
        close=Decimal(traded[-1]),
        base_volume=Decimal(len(prices)),
        quote_volume=Decimal(sum(prices)),
        trade_count=len(prices),
        taker_buy_base_volume=Decimal(0),
        taker_buy_quote_volume=Decimal(0),
        first_trade_id=first_trade_id if prices else -1,
        last_trade_id=first_trade_id + len(prices) - 1 if prices else -1,
        is_closed=True,
        event_time_ms=open_time_ms + 1010,
    )


def seconds_of(trades: list[list[int]]) -> list[Kline]:
    """Consecutive seconds with these trade prices; quiet ones flat at the close before."""
    klines, next_id, close = [], 1, 100
    for index, prices in enumerate(trades):
        klines.append(second(index, prices, next_id, close))
        next_id += len(prices)
        close = prices[-1] if prices else close
    return klines


minutes = st.lists(st.lists(st.integers(1, 200), max_size=4), min_size=1, max_size=60)


@given(minutes)
def test_a_minute_is_what_its_trades_say(trades: list[list[int]]) -> None:
    candle = roll_up(seconds_of(trades), Interval.M1)
    prices = [price for second_prices in trades for price in second_prices]
    flat = prices or [100]
    assert (candle.open, candle.high, candle.low) == (flat[0], max(flat), min(flat))
    assert candle.close == flat[-1]
    assert candle.trade_count == len(prices)
    assert candle.quote_volume == sum(prices)
    assert (candle.first_trade_id, candle.last_trade_id) == ((1, len(prices)) if prices else (-1, -1))
    assert candle.row_count == len(trades)
    assert candle.is_complete is (len(trades) == 60)


@given(minutes, st.integers(0, 60))
def test_adding_is_associative(trades: list[list[int]], cut: int) -> None:
    klines = seconds_of(trades)
    whole = roll_up(klines, Interval.M1)
    first, rest = klines[:cut], klines[cut:]
    if not first or not rest:
        return
    total = Accumulator.starting_with(roll_up(first, Interval.M1))
    for kline in rest:
        total.add(kline)
    assert to_candle(total, "BTCUSDT", Interval.M1, MINUTE, Source.SECONDS) == whole


@given(minutes, st.randoms(use_true_random=False))
def test_order_of_parts_does_not_matter(trades: list[list[int]], rng: Random) -> None:
    klines = seconds_of(trades)
    shuffled = list(klines)
    rng.shuffle(shuffled)
    assert roll_up(shuffled, Interval.M1) == roll_up(klines, Interval.M1)


def test_quiet_first_second_takes_no_part_in_the_open() -> None:
    candle = roll_up(seconds_of([[], [105], [103]]), Interval.M1)
    assert (candle.open, candle.high, candle.low, candle.close) == (105, 105, 103, 103)


def test_a_foreign_part_makes_the_source_foreign() -> None:
    minute = roll_up(seconds_of([[1]] * 60), Interval.M1)
    foreign = msgspec.structs.replace(minute, source=Source.REST)
    assert roll_up([minute], Interval.M5).source is Source.SECONDS
    assert roll_up([foreign], Interval.M5).source is Source.REST


def test_parts_of_two_bars_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one"):
        roll_up([second(0, [1]), second(60, [1])], Interval.M1)


def read_csv(path: Path, interval: Interval) -> list[Kline]:
    """Rows of an archive file of the exchange (12 columns, no header), through the REST codec."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    rows = [[int(r[0]), *r[1:6], int(r[6]), r[7], int(r[8]), *r[9:11], "0"] for r in csv.reader(text.splitlines())]
    return decode_rest_klines(msgspec.json.encode(rows), "BTCUSDT", interval, received_at_ms=2**52)


def test_recorded_seconds_make_the_exchanges_five_minutes(shared_data: Path) -> None:
    seconds = read_csv(shared_data / "klines/BTCUSDT-1s-2024-03-01.first300.csv", Interval.S1)
    fives = read_csv(shared_data / "klines/BTCUSDT-5m-2024-03.csv.gz", Interval.M5)
    by_minute = [roll_up(seconds[i : i + 60], Interval.M1) for i in range(0, 300, 60)]
    ours = roll_up(by_minute, Interval.M5)
    theirs = next(kline for kline in fives if kline.open_time_ms == ours.open_time_ms)
    assert differing_columns(ours, theirs) == ()
    assert ours.is_complete


def test_recorded_five_minutes_make_the_exchanges_hours(shared_data: Path) -> None:
    fives = read_csv(shared_data / "klines/BTCUSDT-5m-2024-01.csv.gz", Interval.M5)
    body = (shared_data / "klines/BTCUSDT-1h-2024-01-15.rest-klines.json").read_bytes()
    hours = decode_rest_klines(body, "BTCUSDT", Interval.H1, received_at_ms=2**52)
    assert len(hours) == 24
    for hour in hours:
        parts: list[Kline | Candle] = [k for k in fives if Interval.H1.floor(k.open_time_ms) == hour.open_time_ms]
        assert differing_columns(roll_up(parts, Interval.H1), hour) == ()
