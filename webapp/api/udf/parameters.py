"""Query parameters of UDF. Each function raises UdfError, which names what is allowed; unknown ones are left alone."""

from __future__ import annotations

import re
from typing import Final

from django.http import QueryDict

from market.errors import UnknownSymbol
from market.interval import Interval
from market.symbol import parse_symbol
from webapp.api.udf.errors import UdfError

#: What the charts call our intervals.
RESOLUTIONS: Final = {
    "1S": Interval.S1,
    "1": Interval.M1,
    "5": Interval.M5,
    "15": Interval.M15,
    "60": Interval.H1,
    "240": Interval.H4,
    "1D": Interval.D1,
}
_ALIASES: Final = {"S": "1S", "1H": "60", "H": "60", "4H": "240", "D": "1D", "24H": "1D", "1440": "1D"}
_WHOLE: Final = re.compile(r"-?[0-9]{1,15}", re.ASCII)
#: The year 9999.
LAST_S: Final = 253_402_300_799
MAX_SYMBOLS: Final = 500


def symbol(query: QueryDict) -> str:
    """The mandatory `symbol`, with or without an exchange before it; not yet known to exist."""
    text = query.get("symbol")
    if not text:
        raise UdfError("symbol is missing; /udf/search lists the symbols")
    return _parsed(text)


def symbols(query: QueryDict) -> list[str]:
    """The mandatory comma list `symbols`, as they were sent."""
    found = [part.strip() for part in query.get("symbols", "").split(",") if part.strip()]
    if not found or len(found) > MAX_SYMBOLS:
        raise UdfError(f"symbols is a comma list of 1 to {MAX_SYMBOLS} symbols")
    return found


def plain_symbol(text: str) -> str | None:
    """A symbol as it was sent, without the exchange before it; None when it cannot be one."""
    try:
        return _parsed(text)
    except UdfError:
        return None


def _parsed(text: str) -> str:
    try:
        found = parse_symbol(text.rsplit(":", 1)[-1])
    except UnknownSymbol as error:
        raise UdfError(str(error)) from None
    if "\0" in found:
        raise UdfError("a symbol has no NUL in it")
    return found


def resolution(query: QueryDict) -> Interval:
    """The mandatory `resolution`."""
    text = query.get("resolution", "")
    found = RESOLUTIONS.get(_ALIASES.get(text, text))
    if found is None:
        raise UdfError(f"resolution {text!r} is not served; allowed: {', '.join(RESOLUTIONS)}")
    return found


def time_s(query: QueryDict, name: str) -> int | None:
    """A time in seconds since 1970, before it 0; None when not sent."""
    value = _whole(query, name, "seconds since 1970")
    if value is not None and value > LAST_S:
        raise UdfError(f"{name} is in seconds since 1970, not milliseconds; at most {LAST_S}")
    return None if value is None else max(0, value)


def countback(query: QueryDict) -> int | None:
    """`countback`, at least 1; None when not sent."""
    value = _whole(query, "countback", "a number of bars")
    if value is not None and value < 1:
        raise UdfError("countback is a number of bars, at least 1")
    return value


def limit(query: QueryDict, default: int, maximum: int) -> int:
    """`limit`, 1 to the maximum; more is cut to it."""
    value = _whole(query, "limit", "a number of rows")
    if value is not None and value < 1:
        raise UdfError(f"limit is 1 to {maximum}")
    return default if value is None else min(value, maximum)


def _whole(query: QueryDict, name: str, what: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text):
        raise UdfError(f"{name} must be {what}: {text[:40]!r} is no whole number")
    return int(text)
