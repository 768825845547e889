"""The error tree of the market's facts.

MarketError
├── BadFrame        a message of the exchange that can never work (dead letter)
├── BadRecord       a record of ours that can never work (dead letter)
├── UnknownSymbol   a symbol that nobody declared
└── UnknownInterval an interval outside the fixed list
"""

from __future__ import annotations


class MarketError(ValueError):
    """Base of all errors that come from the content of market data, never from its transport."""


class BadFrame(MarketError):
    """The exchange sent bytes that the documented protocol does not allow."""


class BadRecord(MarketError):
    """A Kafka record cannot be decoded as the type of its topic."""


class UnknownSymbol(MarketError):
    """The symbol is not one that this system follows."""


class UnknownInterval(MarketError):
    """The interval is not one of Binance's (they are case-sensitive: 1m is a minute, 1M a month)."""
