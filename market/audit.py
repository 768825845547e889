"""The audit's comparison: one of our minutes against the exchange's own kline of it, in nine columns.

Habits of the exchange that make the two differ though nothing is wrong are tolerances with a name; the audit writes
down which one it used.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from market.kline import Candle, Kline, differing_columns

#: Decimals of the quote amounts that the exchange prints; what price x quantity has beyond them it cuts off.
QUOTE_DECIMALS: Final = 8
QUOTE_STEP: Final = Decimal(1).scaleb(-QUOTE_DECIMALS)
QUOTE_TRUNCATION: Final = "quote_truncation"
_QUOTE_COLUMNS: Final = frozenset(("quote_volume", "taker_buy_quote_volume"))
_PRICE_COLUMNS: Final = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Comparison:
    """`differences`: per column [ours, theirs] as decimal texts; `tolerances`: names of the habits that were let by."""

    differences: dict[str, list[str]]
    tolerances: tuple[str, ...] = ()


def compare_minute(ours: Candle, theirs: Kline) -> Comparison:
    """Our complete candle against the exchange's kline of the same bar."""
    names = differing_columns(ours, theirs)
    is_truncated = (
        bool(names) and _QUOTE_COLUMNS.issuperset(names) and all(_is_truncation(ours, theirs, n) for n in names)
    )
    if is_truncated:
        return Comparison({}, (QUOTE_TRUNCATION,))
    return Comparison({name: [_text(getattr(ours, name)), _text(getattr(theirs, name))] for name in names})


def _is_truncation(ours: Candle, theirs: Kline, name: str) -> bool:
    """True when cutting off decimals explains it: we add up seconds that were each cut off, the exchange cuts the
    minute off once; seconds built from trades were not cut off at all. Only where price x quantity can have more
    decimals than are printed."""
    quantity_decimals = max(_decimals(ours.base_volume), _decimals(ours.taker_buy_base_volume))
    if max(_decimals(getattr(ours, column)) for column in _PRICE_COLUMNS) + quantity_decimals <= QUOTE_DECIMALS:
        return False
    missing: Decimal = getattr(theirs, name) - getattr(ours, name)
    return -QUOTE_STEP < missing < ours.row_count * QUOTE_STEP


def _decimals(value: Decimal) -> int:
    """Decimals that say something: 1.500 has one."""
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _text(value: Decimal | int) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
