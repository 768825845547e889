"""Query parameters, judged as Binance judges them."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from django.http import QueryDict

from webapp.api.binance import errors

_SYMBOL: Final = r"^[\w\-._&&[^a-z]]{1,50}$"
_SYMBOLS: Final = r'^\[("[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}"){0,}){0,1}\]$'
_INTEGER: Final = r"^[0-9]{1,20}$"
_WORD: Final = r"^[a-zA-Z0-9]{1,36}$"
_LEGAL_SYMBOL = re.compile(r"[\w\-.]{1,50}")
_TIME_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::(\d{2}))?")
STATUSES: Final = ("TRADING", "HALT", "BREAK", "END_OF_DAY", "CANCEL_ONLY")
MAX_SYMBOLS: Final = 2000
#: Larger numbers are microseconds (the year 5138 in milliseconds).
MICROSECONDS_FROM: Final = 10**14
LAST_MS: Final = 253_402_300_799_000
MINUTE_MS: Final = 60_000


class Parameters:
    """The query of one request; `names` are those that the endpoint reads."""

    def __init__(self, query: QueryDict, names: tuple[str, ...]) -> None:
        if any(len(values) > 1 for _, values in query.lists()):
            raise errors.duplicate_parameter()
        read = sum(name in names for name in query)
        if read < len(query):
            raise errors.unread(read, len(query))
        self._query = query

    def text(self, name: str) -> str | None:
        """The value, None when not sent. An empty one is refused."""
        value = self._query.get(name)
        if value == "":
            raise errors.empty(name)
        return value

    def symbol(self) -> str:
        """The mandatory `symbol`."""
        symbol = self.optional_symbol()
        if symbol is None:
            raise errors.missing("symbol")
        return symbol

    def optional_symbol(self) -> str | None:
        """`symbol`, None when not sent."""
        symbol = self.text("symbol")
        if symbol is not None and not _is_legal_symbol(symbol):
            raise errors.illegal_characters("symbol", _SYMBOL)
        return symbol

    def symbols(self) -> list[str] | None:
        """What `symbol` or `symbols` (a JSON array) ask for; None when neither was sent."""
        symbol, several = self.optional_symbol(), self.text("symbols")
        if symbol is not None and several is not None:
            raise errors.bad_combination()
        if symbol is not None:
            return [symbol]
        if several is None:
            return None
        try:
            symbols = msgspec.json.decode(several, type=list[str])
        except msgspec.DecodeError:
            raise errors.illegal_characters("symbols", _SYMBOLS) from None
        if not symbols or len(symbols) > MAX_SYMBOLS or not all(map(_is_legal_symbol, symbols)):
            raise errors.illegal_characters("symbols", _SYMBOLS)
        if len(set(symbols)) < len(symbols):
            raise errors.duplicate_symbols()
        return symbols

    def integer(self, name: str) -> int | None:
        """A whole number, None when not sent."""
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,20}", value, re.ASCII):
            raise errors.illegal_characters(name, _INTEGER)
        return int(value)

    def time_ms(self, name: str) -> int | None:
        """A time in ms or us, as ms; None when not sent."""
        value = self.integer(name)
        if value is None:
            return None
        return min(value // 1000 if value >= MICROSECONDS_FROM else value, LAST_MS)

    def limit(self, default: int, maximum: int) -> int:
        """How many rows: more than the maximum is cut to it, as the exchange does."""
        value = self.integer("limit")
        if value is None:
            return default
        if value < 1:
            raise errors.invalid_value("limit")
        return min(value, maximum)

    def interval(self) -> str:
        """The mandatory `interval`, not yet known to exist."""
        value = self.text("interval")
        if value is None:
            raise errors.missing("interval")
        if not re.fullmatch(r"[a-zA-Z0-9]{1,36}", value, re.ASCII):
            raise errors.illegal_characters("interval", _WORD)
        return value

    def time_zone_ms(self) -> int:
        """`timeZone` (hours, or hours:minutes, -12:00 to +14:00) as an offset from UTC in ms."""
        value = self.text("timeZone")
        if value is None:
            return 0
        match = _TIME_ZONE.fullmatch(value.strip())
        if match is None or int(match[3] or 0) > 59:
            raise errors.invalid_value("timeZone")
        minutes = (int(match[2]) * 60 + int(match[3] or 0)) * (-1 if match[1] == "-" else 1)
        if not -12 * 60 <= minutes <= 14 * 60:
            raise errors.invalid_value("timeZone")
        return minutes * MINUTE_MS

    def symbol_status(self) -> str | None:
        """`symbolStatus`, None when not sent."""
        value = self.text("symbolStatus")
        if value is not None and value not in STATUSES:
            raise errors.invalid_symbol_status()
        return value


def _is_legal_symbol(text: str) -> bool:
    return _LEGAL_SYMBOL.fullmatch(text) is not None and not re.search(r"[a-z]", text)


def time_unit(header: str | None) -> int:
    """Factor for times in the answer: 1 for ms, 1000 when X-MBX-TIME-UNIT asks for microseconds."""
    if header is None or header.upper() == "MILLISECOND":
        return 1
    if header.upper() == "MICROSECOND":
        return 1000
    raise errors.invalid_time_unit()
