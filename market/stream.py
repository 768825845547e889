"""The streams a user may ask for (contract.md, STREAMS) and their names at the exchange (binance.md 3)."""

from __future__ import annotations

from enum import StrEnum


class Stream(StrEnum):
    """Names as contract.md spells them."""

    KLINE_1S = "kline_1s"
    KLINE_1M = "kline_1m"
    TRADE = "trade"
    DEPTH = "depth"
    DEPTH20 = "depth20"
    BOOK_TICKER = "bookTicker"
    MINI_TICKER = "miniTicker"

    def exchange_name(self, symbol: str) -> str:
        """Stream name at the exchange: symbol in lower case, the 100 ms variants for depth."""
        return f"{symbol.lower()}@{_SUFFIX.get(self, self.value)}"


_SUFFIX = {Stream.DEPTH: "depth@100ms", Stream.DEPTH20: "depth20@100ms"}
