"""Candles, gaps and completeness of a Candlewire server as pandas, polars or Arrow; live messages as an iterator.

    client = Client("http://127.0.0.1:8000")
    candles = client.klines("BTCUSDT", "1m", "2026-11-20", "2026-11-21", frame="polars")

Ranges begin inclusively and end exclusively. A time is a datetime or date (UTC without a zone), ISO 8601 text, or int
ms since 1970. Times in frames are timestamps in UTC; money is decimal, or floating point with `exact=False`. Needs
pyarrow, and pandas or polars for their frames. What goes wrong is a ClientError (candlewire/errors.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from operator import index
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload
from urllib.parse import urlsplit

import httpx
import msgspec

from candlewire.errors import BadArgument, RateLimited, Refused, Unavailable
from candlewire.frames import ArrowBody, Frame, Kind, arrow, as_frame, of_kinds, require_frame, table_of
from candlewire.live import Message, live_messages
from market.interval import DAY_MS, Interval
from runtime.clock import new_random, sleep_s
from runtime.retry import Backoff
from runtime.time_text import EPOCH, LAST_MS, parse_time_ms

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Time = datetime | date | str | int
DEFAULT_STREAM_PORT: Final = 5000
#: A smaller int (before 1973) is seconds by mistake.
LEAST_MS: Final = 100_000_000_000
PAGE_ROWS: Final = 1_000
#: Up to so many candles pages cost the server less than an export.
PAGED_ROWS: Final = 5_000
#: Ranges that one answer of the server may span.
COMPLETENESS_PAGE_MS: Final = 31 * DAY_MS
GAPS_PAGE_MS: Final = 366 * DAY_MS
#: A call waits so long for a used-up weight, not longer.
MAX_RETRY_AFTER_S: Final = 60
#: Answers that may be right in a moment.
TRANSIENT: Final = frozenset((429, 502, 503, 504))

#: Columns of klines; docs/ANALYSTS.md says what they mean.
KLINES: Final[dict[str, Kind]] = {
    "open_time": "time",
    "close_time": "time",
    **dict.fromkeys(("open", "high", "low", "close", "base_volume", "quote_volume"), "money"),
    "trade_count": "whole",
    **dict.fromkeys(("taker_buy_base_volume", "taker_buy_quote_volume"), "money"),
    "is_complete": "flag",
    "source": "text",
    "revision": "whole",
}
COMPLETENESS: Final[dict[str, Kind]] = {
    "symbol": "text",
    "hour": "time",
    **dict.fromkeys(("expected", "stream", "rest", "trades", "absent", "open"), "whole"),
    "updated_at": "time",
}
GAPS: Final[dict[str, Kind]] = {
    "id": "whole",
    **dict.fromkeys(("symbol", "interval"), "text"),
    **dict.fromkeys(("from_time", "to_time"), "time"),
    **dict.fromkeys(("cause", "state", "detector"), "text"),
    **dict.fromkeys(("detected_at", "resolved_at"), "time"),
    "resolved_by": "text",
    "attempts": "whole",
    "last_error": "text",
}
_T = TypeVar("_T")


class _TryAgain(Exception):
    """The call may work in a moment; `delay_s` where the server said when."""

    def __init__(self, reason: str, delay_s: int | None = None) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class Client:
    """A server's read-only interfaces. May be shared by threads; usable as a context manager."""

    def __init__(self, url: str, *, stream_url: str | None = None, timeout_s: float = 30.0, tries: int = 4) -> None:
        """`url` of the web pages; `stream_url` of the live WebSocket, by default /live of the same host's port 5000.
        A call is silent for `timeout_s` at most, and tried `tries` times."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadArgument("url", f"{url!r} is not an address", "http://HOST:PORT or https://HOST:PORT")
        scheme, host = parts.scheme.replace("http", "ws"), parts.hostname
        host = f"[{host}]" if ":" in host else host
        self.stream_url = stream_url or f"{scheme}://{host}:{DEFAULT_STREAM_PORT}/live"
        self._timeout_s, self._tries = timeout_s, tries
        self._http = httpx.Client(base_url=url, timeout=timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @overload
    def klines(
        self, symbol: str, interval: str, start: Time, end: Time, *, frame: Literal["pandas"] = "pandas",
        exact: bool = True, known_at: Time | None = None,
    ) -> pd.DataFrame: ...  # fmt: skip
    @overload
    def klines(
        self, symbol: str, interval: str, start: Time, end: Time, *, frame: Literal["polars"],
        exact: bool = True, known_at: Time | None = None,
    ) -> pl.DataFrame: ...  # fmt: skip
    @overload
    def klines(
        self, symbol: str, interval: str, start: Time, end: Time, *, frame: Literal["arrow"],
        exact: bool = True, known_at: Time | None = None,
    ) -> pa.Table: ...  # fmt: skip
    def klines(
        self,
        symbol: str,
        interval: str,
        start: Time,
        end: Time,
        *,
        frame: Frame = "pandas",
        exact: bool = True,
        known_at: Time | None = None,
    ) -> Any:
        """Closed candles, oldest first, with the columns of KLINES; what is still forming is not among them.

        Any interval of the exchange, 1s to 1M. With `known_at` as they stood at that moment (stored intervals, not
        1s). `exact=False` gives the floating point numbers nearest to the decimals."""
        require_frame(frame)
        start_ms, end_ms = _span(start, end)
        query: dict[str, Any] = {"symbol": symbol, "interval": interval, "start": start_ms, "end": end_ms}
        if known_at is not None:
            table = self._paged({**query, "known_at": _ms("known_at", known_at)})
        elif interval in tuple(Interval) and end_ms - start_ms <= PAGED_ROWS * Interval(interval).length_ms:
            table = self._paged(query)
        else:
            table = self._exported(query)
        return as_frame(table, frame, exact=exact)

    @overload
    def completeness(
        self, symbol: str | None, start: Time, end: Time, *, frame: Literal["pandas"] = "pandas"
    ) -> pd.DataFrame: ...
    @overload
    def completeness(self, symbol: str | None, start: Time, end: Time, *, frame: Literal["polars"]) -> pl.DataFrame: ...
    @overload
    def completeness(self, symbol: str | None, start: Time, end: Time, *, frame: Literal["arrow"]) -> pa.Table: ...
    def completeness(self, symbol: str | None, start: Time, end: Time, *, frame: Frame = "pandas") -> Any:
        """Seconds by whole hour that overlaps the range: expected, by source, absent at the exchange, open (missing).
        `symbol` None = all."""
        require_frame(frame)
        rows: dict[tuple[Any, Any], list[Any]] = {}
        for query in _slices(symbol, start, end, COMPLETENESS_PAGE_MS):
            for hour in self._get("/api/v1/completeness", query)["hours"]:
                rows[hour["symbol"], hour["hour"]] = _row(hour, COMPLETENESS)
        return as_frame(table_of(COMPLETENESS, [rows[key] for key in sorted(rows)]), frame)

    @overload
    def gaps(
        self, symbol: str | None, start: Time, end: Time, *, frame: Literal["pandas"] = "pandas"
    ) -> pd.DataFrame: ...
    @overload
    def gaps(self, symbol: str | None, start: Time, end: Time, *, frame: Literal["polars"]) -> pl.DataFrame: ...
    @overload
    def gaps(self, symbol: str | None, start: Time, end: Time, *, frame: Literal["arrow"]) -> pa.Table: ...
    def gaps(self, symbol: str | None, start: Time, end: Time, *, frame: Frame = "pandas") -> Any:
        """Holes that overlap the range, open and settled, oldest first. `symbol` None = all."""
        require_frame(frame)
        rows: dict[int, list[Any]] = {}
        waiting = list(_slices(symbol, start, end, GAPS_PAGE_MS))
        while waiting:
            query = waiting.pop()
            found = self._get("/api/v1/gaps", query)
            middle = (query["from"] + query["to"]) // 2
            if found["is_cut"] and query["from"] < middle:
                waiting += [{**query, "to": middle}, {**query, "from": middle}]
            else:
                rows |= {gap["id"]: _row(gap, GAPS) for gap in found["gaps"]}
        oldest_first = sorted(rows.values(), key=lambda row: (row[3], row[0]))
        return as_frame(table_of(GAPS, oldest_first), frame)

    def stream(self, channels: Sequence[str], since: Mapping[str, int] | None = None) -> Generator[Message, None, None]:
        """Live messages of the channels ("kline:BTCUSDT:1m", "trade:BTCUSDT", ...; docs/LIVE.md), without end. Lost
        connections are made again and resumed after the last `seq`; `since` resumes an earlier iterator.

        Raises Refused for what is no channel, Unavailable when connecting fails `tries` times in a row."""
        if isinstance(channels, str) or not channels:
            raise BadArgument("channels", "a list of channels is needed", ["kline:SYMBOL:INTERVAL", "trade:SYMBOL"])
        return live_messages(self.stream_url, channels, since or {}, self._timeout_s, self._tries)

    def _exported(self, query: dict[str, Any]) -> Any:
        """All rows of the range by /api/v1/export, which streams them; what broke off goes on after the last row."""
        pa = arrow()
        batches: list[Any] = []

        def read() -> Any:
            start_ms = query["start"]
            if batches:
                last = batches[-1].column(batches[-1].schema.get_field_index("open_time"))[-1].as_py()
                start_ms = (last - EPOCH) // timedelta(milliseconds=1) + 1
            schema = self._read_export({**query, "start": start_ms}, batches)
            return pa.Table.from_batches(batches, schema=schema)

        table = self._retried(read)
        if "is_closed" in table.column_names:
            table = table.filter(table.column("is_closed"))
        return of_kinds(table, KLINES)

    def _read_export(self, query: dict[str, Any], batches: list[Any]) -> Any:
        """Append the batches of one answer as they come; its schema."""
        query = {**query, "table": "klines", "format": "arrow"}
        with self._http.stream("GET", "/api/v1/export", params=query) as response:
            if response.status_code != 200:
                response.read()
                _raise_for(response)
            body = ArrowBody(response.iter_bytes())
            try:
                with arrow().ipc.open_stream(body) as reader:
                    for batch in reader:
                        if batch.num_rows:
                            batches.append(batch)
                    schema = reader.schema
            except arrow().ArrowInvalid as error:
                raise _TryAgain(f"the answer was broken off: {error}") from error
            if not body.is_whole:
                raise _TryAgain("the answer was broken off")
            return schema

    def _paged(self, query: dict[str, Any]) -> Any:
        """All rows of the range by the pages of /api/v1/klines, newest page first."""
        pages: list[list[list[Any]]] = []
        while True:
            answer = self._get("/api/v1/klines", {**query, "limit": PAGE_ROWS})
            columns = answer["columns"]
            places = [columns.index(f"{name}_ms" if kind == "time" else name) for name, kind in KLINES.items()]
            is_closed, revision = columns.index("is_closed"), columns.index("revision")
            # A negative revision is a candle that is over but not stored yet.
            stored = [row for row in answer["rows"] if row[is_closed] and row[revision] >= 0]
            pages.append([[row[place] for place in places] for row in stored])
            if answer["next_cursor"] is None:
                return table_of(KLINES, [row for page in reversed(pages) for row in page])
            query = {**query, "cursor": answer["next_cursor"]}

    def _get(self, path: str, query: dict[str, Any]) -> Any:
        """JSON of an answer; what may pass is tried again."""
        given = {name: value for name, value in query.items() if value is not None}

        def ask() -> Any:
            response = self._http.get(path, params=given)
            if response.status_code != 200:
                _raise_for(response)
            return msgspec.json.decode(response.content)

        return self._retried(ask)

    def _retried(self, call: Callable[[], _T]) -> _T:
        backoff = Backoff(new_random(), first_delay_s=0.5, max_delay_s=10.0, min_delay_s=0.1)
        for left in reversed(range(self._tries)):
            try:
                return call()
            except (httpx.TransportError, _TryAgain) as error:
                delay_s = error.delay_s if isinstance(error, _TryAgain) else None
                if not left:
                    reason = str(error) or type(error).__name__
                    raise Unavailable(f"{self._http.base_url}: {reason}, {self._tries} times") from error
            sleep_s(backoff.next_delay_s() if delay_s is None else delay_s)
        raise BadArgument("tries", "at least one try is needed", {"minimum": 1})


def _raise_for(response: httpx.Response) -> None:
    """Raises what an answer other than 200 means."""
    try:
        problem = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        problem = {}
    detail = str(problem.get("detail") or response.reason_phrase)
    if response.status_code not in TRANSIENT:
        raise Refused(
            problem.get("parameter") or str(response.url.path), detail, problem.get("allowed"), response.status_code
        )
    header = response.headers.get("Retry-After", "")
    wait_s = int(header) if header.isdigit() else None
    if response.status_code == 429 and wait_s is not None and wait_s > MAX_RETRY_AFTER_S:
        raise RateLimited(wait_s)
    raise _TryAgain(f"HTTP {response.status_code}: {detail}", wait_s)


def _row(found: dict[str, Any], kinds: dict[str, Kind]) -> list[Any]:
    """Values of an object in the order of `kinds`."""
    return [found[name] if name in found else found[f"{name}_ms"] for name in kinds]


def _slices(symbol: str | None, start: Time, end: Time, longest_ms: int) -> Iterator[dict[str, Any]]:
    """Queries that together span the range, none longer than the server takes."""
    from_ms, end_ms = _span(start, end)
    for first_ms in range(from_ms, end_ms, longest_ms):
        yield {"symbol": symbol, "from": first_ms, "to": min(first_ms + longest_ms, end_ms)}


def _span(start: Time, end: Time) -> tuple[int, int]:
    start_ms, end_ms = _ms("start", start), _ms("end", end)
    if start_ms >= end_ms:
        raise BadArgument("end", "the end must lie after the start")
    return start_ms, end_ms


def _ms(name: str, time: Time) -> int:
    """The time in ms. Raises BadArgument."""
    allowed = "datetime, date, ISO 8601 text (UTC without a zone), or int ms since 1970"
    if isinstance(time, date) and not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day, tzinfo=UTC)
    try:
        if isinstance(time, bool):
            raise ValueError("a flag is not a time")
        if isinstance(time, datetime):
            time_ms = ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
        else:
            time_ms = parse_time_ms(time) if isinstance(time, str) else index(time)
    except (TypeError, ValueError) as error:
        raise BadArgument(name, str(error), allowed) from None
    if not 0 <= time_ms <= LAST_MS or 0 < time_ms < LEAST_MS:
        raise BadArgument(name, f"{time!r} is not a time in ms", allowed)
    return time_ms
