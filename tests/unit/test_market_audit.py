"""Comparing a minute with the exchange's: exact, but for habits of the exchange that have a name."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from market.audit import QUOTE_STEP, QUOTE_TRUNCATION, compare_minute
from market.interval import MINUTE_MS, Interval
from market.kline import VALUE_COLUMNS, Candle, Kline
from market.rollup import roll_up
from tests.klines_of import seconds_of

START_MS = 1_799_971_200_000 - 1_799_971_200_000 % MINUTE_MS


def minute(scale: int = 0) -> tuple[Candle, Kline]:
    """A minute of ours and the exchange's equal one; prices divided by 10 ** `scale`."""
    seconds = [
        msgspec.structs.replace(
            kline, **{name: getattr(kline, name).scaleb(-scale) for name in ("open", "high", "low", "close")}
        )
        for kline in seconds_of("BTCUSDT", START_MS, 60, quiet_share=0.0)
    ]
    ours = roll_up(seconds, Interval.M1)
    return ours, msgspec.structs.replace(seconds[0], **{name: getattr(ours, name) for name in VALUE_COLUMNS})


def test_equal_whatever_the_trailing_zeros() -> None:
    ours, theirs = minute()
    assert compare_minute(ours, theirs).differences == {}
    padded = msgspec.structs.replace(theirs, close=theirs.close + Decimal("0.00000000"))
    assert compare_minute(ours, padded).differences == {}


@pytest.mark.parametrize("name", VALUE_COLUMNS)
def test_each_of_the_nine_columns_is_compared(name: str) -> None:
    ours, theirs = minute()
    changed = msgspec.structs.replace(theirs, **{name: getattr(theirs, name) + 1})
    found = compare_minute(ours, changed)
    assert list(found.differences) == [name]
    assert [Decimal(text) for text in found.differences[name]] == [getattr(ours, name), getattr(changed, name)]
    assert found.tolerances == ()


@pytest.mark.parametrize(
    ("scale", "steps", "is_tolerated"),
    [
        (6, 59, True),
        (6, 60, False),
        (6, Decimal("-0.5"), True),
        (6, -1, False),
        # Prices and quantities whose product has no more decimals than are printed: nothing can have been cut off.
        (0, 1, False),
    ],
)
def test_cut_off_quote_amounts_are_a_named_tolerance(scale: int, steps: int | Decimal, is_tolerated: bool) -> None:
    ours, theirs = minute(scale)
    cut = msgspec.structs.replace(theirs, quote_volume=theirs.quote_volume + steps * QUOTE_STEP)
    found = compare_minute(ours, cut)
    assert found.tolerances == ((QUOTE_TRUNCATION,) if is_tolerated else ())
    assert bool(found.differences) == (not is_tolerated)


def test_a_tolerance_explains_nothing_beside_another_difference() -> None:
    ours, theirs = minute(6)
    changed = msgspec.structs.replace(
        theirs, quote_volume=theirs.quote_volume + QUOTE_STEP, trade_count=theirs.trade_count + 1
    )
    assert set(compare_minute(ours, changed).differences) == {"quote_volume", "trade_count"}
