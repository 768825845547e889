"""Symbols: their spelling, and what the exchange says of them (binance.md 5, exchangeInfo)."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from market.errors import UnknownSymbol

MAX_SYMBOL_CHARS = 40


class SymbolInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One tradable pair. `tick_size` is the price step, `step_size` the quantity step (exchangeInfo filters)."""

    symbol: str
    base_asset: str
    quote_asset: str
    status: str
    tick_size: Decimal
    step_size: Decimal


def parse_symbol(text: str) -> str:
    """Upper-case symbol from user input. Raises UnknownSymbol for what no exchange symbol can be.

    Binance allows UTF-8 symbols since 2025-12, so letters and digits of any script pass.
    """
    symbol = text.strip().upper()
    if not symbol or len(symbol) > MAX_SYMBOL_CHARS or not symbol.replace("_", "").replace("-", "").isalnum():
        raise UnknownSymbol(f"{text!r} is not a symbol; write it like BTCUSDT (letters and digits)")
    return symbol


def decimals_of(step: Decimal) -> int:
    """Digits after the point that a price or quantity with this step needs: 0.01000000 -> 2, 1 -> 0."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
