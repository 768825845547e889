"""/udf/history: bars as columns of numbers."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from django.http import QueryDict

from webapp.api.caching import Settled
from webapp.api.udf import parameters
from webapp.api.udf.endpoint import endpoint
from webapp.api.udf.errors import UdfError
from webapp.kline_selectors import Page
from webapp.kline_text import SECONDS_AND_NUMBERS, klines_text, nearest_before_s
from webapp.selectors import symbol_exists

#: Bars of one answer: of more the newest. A client that knows is told by docs/HTTP.md.
MAX_BARS: Final = 10_000
_COLUMNS: Final = ("t", "o", "h", "l", "c", "v")


@endpoint(weight=2)
def history(query: QueryDict) -> Any:
    """Bars with from <= t <= to, oldest first, or the newest `countback` with t <= to, whatever `from` says. Where
    there are none: no_data, with the time of the nearest earlier bar if there is one."""
    symbol, interval = parameters.symbol(query), parameters.resolution(query)
    from_s, to_s, countback = (
        parameters.time_s(query, "from"),
        parameters.time_s(query, "to"),
        parameters.countback(query),
    )
    if to_s is None:
        raise UdfError("to is missing: seconds since 1970")
    if from_s is None and countback is None:
        raise UdfError("from or countback is missing")
    if from_s is not None and from_s > to_s and countback is None:
        raise UdfError("from lies after to")
    start_ms = None if countback is not None or from_s is None else from_s * 1000
    limit = MAX_BARS if countback is None else min(countback, MAX_BARS)
    text = klines_text(
        symbol, interval, Page(start_ms, to_s * 1000 + 999, limit, oldest_first=False), SECONDS_AND_NUMBERS
    )
    if text.count:
        columns = ",".join(f'"{name}":[{column}]' for name, column in zip(_COLUMNS, text.columns, strict=True))
        body = msgspec.Raw(f'{{"s":"ok",{columns}}}'.encode())
        return Settled(body) if text.is_settled else body
    earlier_s = None if start_ms is None else nearest_before_s(symbol, interval, start_ms)
    if earlier_s is not None:
        return {"s": "no_data", "nextTime": earlier_s}
    if not symbol_exists(symbol):
        raise UdfError(f"{symbol} is not a symbol of this system; /udf/search lists them", 404)
    return {"s": "no_data"}
