"""Query parameters as the exchange reads them, with its error codes (binance.md 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from exchange_sim.klines import INTERVALS
from exchange_sim.symbols import SymbolSpec

_MICROSECONDS_FROM: Final = 10**14
_ZONE: Final = re.compile(r"^([+-]?)(\d{1,2})(?::([0-5]\d))?$")
ILLEGAL_SYMBOL: Final = "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'."


class RestError(Exception):
    """An answer with an error body {code, msg}."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class Query:
    """Reads one request's parameters. Every method raises RestError for a value the exchange refuses."""

    def __init__(self, values: Mapping[str, str], symbols: Mapping[str, SymbolSpec]) -> None:
        self._values = values
        self._symbols = symbols

    def symbol(self) -> SymbolSpec:
        """The mandatory symbol."""
        return self._listed(self._mandatory("symbol"))

    def symbols(self) -> tuple[list[SymbolSpec], bool]:
        """(symbols asked for, true when one was named by `symbol`); all when none was named."""
        if "symbol" in self._values and "symbols" in self._values:
            raise RestError(400, -1128, "Combination of optional parameters invalid.")
        if "symbol" in self._values:
            return [self.symbol()], True
        if "symbols" not in self._values:
            return list(self._symbols.values()), False
        try:
            names = json.loads(self._values["symbols"])
        except ValueError:
            names = None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise RestError(
                400,
                -1100,
                "Illegal characters found in parameter 'symbols'; legal range is a JSON list of symbols.",
            )
        return [self._listed(name) for name in dict.fromkeys(names)], False

    def interval(self) -> str:
        """The mandatory kline interval."""
        value = self._mandatory("interval")
        if value not in INTERVALS:
            raise RestError(400, -1120, "Invalid interval.")
        return value

    def limit(self, default: int, largest: int) -> int:
        """`limit`, at most `largest` (a larger one is lowered, as there)."""
        value = self.integer("limit")
        if value is None:
            return default
        if value < 1:
            raise RestError(400, -1130, "Data sent for parameter 'limit' is not valid.")
        return min(value, largest)

    def integer(self, name: str) -> int | None:
        """An optional integer."""
        value = self._values.get(name)
        if value is None:
            return None
        if value == "":
            raise RestError(400, -1105, f"Parameter '{name}' was empty.")
        if not re.fullmatch(r"-?\d{1,20}", value):
            raise RestError(
                400,
                -1100,
                f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
            )
        return int(value)

    def time_ms(self, name: str) -> int | None:
        """An optional time, given in ms or in microseconds."""
        value = self.integer(name)
        if value is None:
            return None
        if value < 0:
            raise RestError(
                400,
                -1100,
                f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
            )
        return value // 1000 if value >= _MICROSECONDS_FROM else value

    def span_ms(self) -> tuple[int | None, int | None]:
        """(startTime, endTime); a start after the end is refused."""
        start, end = self.time_ms("startTime"), self.time_ms("endTime")
        if start is not None and end is not None and start > end:
            raise RestError(400, -1127, "startTime must not be after endTime.")
        return start, end

    def zone_ms(self) -> int:
        """`timeZone` as ms east of UTC, -12:00 to +14:00."""
        text = self._values.get("timeZone", "0")
        match = _ZONE.match(text)
        minutes = (int(match[2]) * 60 + int(match[3] or 0)) * (-1 if match[1] == "-" else 1) if match else None
        if minutes is None or not -720 <= minutes <= 840:
            raise RestError(400, -1100, "Illegal characters found in parameter 'timeZone'.")
        return minutes * 60_000

    def has(self, name: str) -> bool:
        """True when the parameter is given."""
        return name in self._values

    def text(self, name: str, default: str) -> str:
        """An optional text."""
        return self._values.get(name, default)

    def _mandatory(self, name: str) -> str:
        value = self._values.get(name)
        if value is None:
            raise RestError(400, -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        if value == "":
            raise RestError(400, -1105, f"Parameter '{name}' was empty.")
        return value

    def _listed(self, name: str) -> SymbolSpec:
        spec = self._symbols.get(name)
        if spec is not None:
            return spec
        if not re.fullmatch(r"[A-Z0-9_.\-]{1,20}", name):
            raise RestError(400, -1100, ILLEGAL_SYMBOL)
        raise RestError(400, -1121, "Invalid symbol.")
