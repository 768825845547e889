"""Client of the exchange's REST market data (binance.md 5 and 6): weight budget, 429/418 obeyed, host fail-over.

Synchronous; asyncio callers use asyncio.to_thread. One instance is one budget: share it in a process.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, TypeVar

import httpx
import msgspec

from market.aggregate_trades import AggregateTrade, decode_aggregate_trades
from market.binance_codec import decode_exchange_info, decode_rest_klines
from market.interval import Interval
from market.kline import Kline
from market.symbol import SymbolInfo, parse_symbol
from runtime.clock import Clock, sleep_s
from runtime.errors import Retryable
from runtime.logs import get_logger

TIMEOUT_S: Final = 10.0
#: The whole of an answer may take so many time-outs (one is the longest silence), and so many bytes: all symbols of
#: the exchange with their rules are some 20 MB.
ANSWER_MAX_TIMEOUTS: Final = 2
ANSWER_MAX_BYTES: Final = 128_000_000
#: The day's figures of every symbol are a large answer, and a cold one for the simulated exchange.
ALL_TICKERS_TIMEOUT_S: Final = 60.0
MAX_KLINE_ROWS: Final = 1000
WEIGHTS: Final = {
    "klines": 2,
    "aggTrades": 4,
    "exchangeInfo": 20,
    "time": 1,
    "ping": 1,
    "ticker/24hr": 80,
    "depth": 250,
}
#: What the exchange allows an address in a minute unless its exchangeInfo says otherwise; budgets are shares of it.
EXCHANGE_WEIGHT_PER_MINUTE: Final = 6_000
#: For what the live line needs (symbols, order book snapshots). Background work has a smaller one (settings of the
#: aggregator), so that it stops first; the exchange's header makes both count everything this address does.
LIVE_WEIGHT_PER_MINUTE: Final = 5_000
DEFAULT_RETRY_AFTER_S: Final = 30
MAX_RETRY_AFTER_S: Final = 3 * 24 * 3600
WINDOW_MS: Final = 60_000
#: No such symbol, and a spelling that no symbol has.
UNKNOWN_SYMBOL_CODES: Final = frozenset({-1121, -1100})

log = get_logger(__name__)
_T = TypeVar("_T")


class RestUnavailable(Retryable):
    """No host answered, or the exchange told us to wait; `retry_after_s` says how long at least."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RestRefused(Exception):
    """The exchange refused the request itself: its own `code` and `msg` (binance.md 6)."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.status, self.code, self.message = status, code, message


class _ServerTime(msgspec.Struct):
    server_time: int = msgspec.field(name="serverTime")


class _RateLimit(msgspec.Struct):
    kind: str = msgspec.field(name="rateLimitType")
    interval: str
    every: int = msgspec.field(name="intervalNum")
    limit: int


class _RateLimits(msgspec.Struct):
    limits: list[_RateLimit] = msgspec.field(name="rateLimits", default_factory=list)


class _DayTurnover(msgspec.Struct):
    symbol: str
    quote_volume: Decimal = msgspec.field(name="quoteVolume")


def _decoded(body: bytes, kind: type[_T]) -> _T:
    """A captive portal or a proxy answers 200 too: not the exchange, so try again later."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RestUnavailable(f"not an answer of the exchange: {error}") from error


class ExchangeRest:
    """Market data over REST, within `weight_per_minute` of the exchange's request weight (of 6000; where the exchange
    allows less, the same share of that)."""

    def __init__(self, base_urls: Sequence[str], clock: Clock, weight_per_minute: int = LIVE_WEIGHT_PER_MINUTE) -> None:
        if not base_urls:
            raise ValueError("no REST base URL given")
        self._base_urls = [url.rstrip("/") for url in base_urls]
        self._clock = clock
        self._share = weight_per_minute
        self._weight_per_minute = weight_per_minute
        self._client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)
        self._lock = threading.Lock()
        self._window_start_ms = 0
        self._used_weight = 0
        self._blocked_until_ms = 0
        self._host = 0

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def server_time_ms(self) -> int:
        """The exchange's clock. Raises RestUnavailable for an answer that is none of the exchange's."""
        return _decoded(self.get("time", {}), _ServerTime).server_time

    def symbol_infos(self) -> list[SymbolInfo]:
        """All symbols with their steps and status."""
        body = self.get("exchangeInfo", {"showPermissionSets": "false"})
        for limit in _decoded(body, _RateLimits).limits:
            if (limit.kind, limit.interval, limit.every) == ("REQUEST_WEIGHT", "MINUTE", 1):
                allowed = min(limit.limit, EXCHANGE_WEIGHT_PER_MINUTE)
                self._weight_per_minute = max(1, self._share * allowed // EXCHANGE_WEIGHT_PER_MINUTE)
        return decode_exchange_info(body)

    def symbol_info(self, symbol: str) -> SymbolInfo | None:
        """One symbol; None when the exchange does not know it."""
        try:
            body = self.get("exchangeInfo", {"symbol": symbol, "showPermissionSets": "false"})
        except RestRefused as error:
            if error.code in UNKNOWN_SYMBOL_CODES:
                return None
            raise
        return next((info for info in decode_exchange_info(body) if info.symbol == symbol), None)

    def has_room(self, weight: int) -> bool:
        """True when requests of so much weight can be sent at once: neither the budget nor a ban is in the way."""
        with self._lock:
            now_ms = self._clock.now_ms()
            self._begin_window(now_ms)
            return now_ms >= self._blocked_until_ms and self._fits(weight)

    def klines(
        self,
        symbol: str,
        interval: Interval,
        start_ms: int | None,
        end_ms: int | None,
        limit: int = MAX_KLINE_ROWS,
    ) -> list[Kline]:
        """Rows from `start_ms` to `end_ms` (open times, both inclusive, either may be None), oldest first.

        The forming kline, which the exchange sends last, is marked `is_closed=False`.
        """
        query: dict[str, str | int] = {"symbol": symbol, "interval": interval.value, "limit": limit}
        if start_ms is not None:
            query["startTime"] = start_ms
        if end_ms is not None:
            query["endTime"] = end_ms
        return decode_rest_klines(self.get("klines", query), symbol, interval, self._clock.now_ms())

    def aggregate_trades(self, symbol: str, **bounds: int) -> list[AggregateTrade]:
        """At most MAX_KLINE_ROWS rows by `startTime`, `endTime` (trade times, inclusive) or `fromId`, oldest first.

        Raises RestUnavailable, RestRefused, and BadFrame for rows that cannot be.
        """
        query: dict[str, str | int] = {"symbol": symbol, "limit": MAX_KLINE_ROWS, **bounds}
        return decode_aggregate_trades(self.get("aggTrades", query), symbol)

    def most_traded(self, count: int, quote_asset: str = "USDT") -> list[str]:
        """The `count` symbols of this quote asset with the largest 24 h turnover, largest first.

        Raises RestUnavailable for an answer that is none of the exchange's.
        """
        entries = _decoded(self.get("ticker/24hr", {}), list[_DayTurnover])
        ours = [entry for entry in entries if entry.symbol.endswith(quote_asset)]
        ours.sort(key=lambda entry: entry.quote_volume, reverse=True)
        return [entry.symbol for entry in ours[:count]]

    def get(self, endpoint: str, query: dict[str, str | int]) -> bytes:
        """Body of GET /api/v3/`endpoint`. Raises RestUnavailable (try later) or RestRefused (never works)."""
        self._take_weight(WEIGHTS.get(endpoint, 2))
        errors = []
        for _ in self._base_urls:
            base_url = self._base_urls[self._host]
            try:
                timeout_s = ALL_TICKERS_TIMEOUT_S if endpoint == "ticker/24hr" else TIMEOUT_S
                window_ms = self._window_start_ms
                response, body = self._ask(f"{base_url}/api/v3/{endpoint}", query, timeout_s)
            except httpx.HTTPError as error:
                errors.append(f"{base_url}: {error!r}")
            else:
                self._note_used_weight(response, window_ms)
                if response.status_code == 200:
                    return body
                if response.status_code in (418, 429):
                    raise self._told_to_wait(response)
                if 400 <= response.status_code < 500 and response.status_code not in (403, 451):
                    raise _refusal(response.status_code, body)
                errors.append(f"{base_url}: HTTP {response.status_code}")
            self._host = (self._host + 1) % len(self._base_urls)
        raise RestUnavailable("; ".join(errors))

    def _ask(self, url: str, query: dict[str, str | int], timeout_s: float) -> tuple[httpx.Response, bytes]:
        """The answer and its body, bounded in time and size as a whole: a peer that sends a byte now and then, or
        without end, holds nobody up. Raises httpx.HTTPError."""
        end_s = self._clock.monotonic_s() + ANSWER_MAX_TIMEOUTS * timeout_s
        body = bytearray()
        with self._client.stream("GET", url, params=query, timeout=timeout_s) as response:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > ANSWER_MAX_BYTES:
                    raise httpx.ReadError(f"more than {ANSWER_MAX_BYTES} bytes")
                if self._clock.monotonic_s() > end_s:
                    raise httpx.ReadTimeout(f"still sending after {ANSWER_MAX_TIMEOUTS * timeout_s:.0f} s")
        return response, bytes(body)

    def _take_weight(self, weight: int) -> None:
        """Wait until the budget of the running clock minute has room; refuse while the exchange bans us."""
        while True:
            with self._lock:
                now_ms = self._clock.now_ms()
                if now_ms < self._blocked_until_ms:
                    wait_s = (self._blocked_until_ms - now_ms) / 1000
                    raise RestUnavailable(f"the exchange asked us to wait {wait_s:.0f} s more", wait_s)
                self._begin_window(now_ms)
                if self._fits(weight):
                    self._used_weight += weight
                    return
                wait_s = (self._window_start_ms + WINDOW_MS - now_ms) / 1000
            sleep_s(min(wait_s, 1.0))

    def _begin_window(self, now_ms: int) -> None:
        """A new clock minute begins with nothing used. The lock is held."""
        if now_ms - now_ms % WINDOW_MS != self._window_start_ms:
            self._window_start_ms, self._used_weight = now_ms - now_ms % WINDOW_MS, 0

    def _fits(self, weight: int) -> bool:
        """A request that outweighs the whole budget may be the first of its minute. The lock is held."""
        return self._used_weight + weight <= self._weight_per_minute or self._used_weight == 0

    def _note_used_weight(self, response: httpx.Response, window_ms: int) -> None:
        """The header counts everybody on this address; it outranks our own count. Of an answer that was asked for in
        the minute before (`window_ms`) it may still be that minute's."""
        header = response.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if header.isdigit():
            with self._lock:
                if self._window_start_ms == window_ms and self._clock.now_ms() < window_ms + WINDOW_MS:
                    self._used_weight = max(self._used_weight, int(header))

    def _told_to_wait(self, response: httpx.Response) -> RestUnavailable:
        header = response.headers.get("Retry-After", "")
        seconds = min(int(header), MAX_RETRY_AFTER_S) if header.isdigit() else DEFAULT_RETRY_AFTER_S
        with self._lock:
            self._blocked_until_ms = self._clock.now_ms() + seconds * 1000
        log.warning("exchange_limits_us", status=response.status_code, retry_after_s=seconds)
        return RestUnavailable(f"HTTP {response.status_code}: wait {seconds} s", seconds)


def _refusal(status: int, body: bytes) -> RestRefused:
    try:
        said = msgspec.json.decode(body)
        return RestRefused(status, int(said["code"]), str(said["msg"]))
    except (ValueError, KeyError, TypeError):
        return RestRefused(status, 0, body[:200].decode("utf-8", "replace"))


def resolve_symbols(wanted: str, rest: ExchangeRest) -> list[str]:
    """The SYMBOLS setting as a list: a comma list as it stands, `top:N` asked from the exchange.

    Raises UnknownSymbol for a bad spelling, ValueError for a bad N.
    """
    if wanted.lower().startswith("top:"):
        count = wanted[4:].strip()
        if not count.isdigit() or not 1 <= int(count) <= 5000:
            raise ValueError(f"SYMBOLS={wanted!r}: after top: comes a number from 1 to 5000")
        return rest.most_traded(int(count))
    return list(dict.fromkeys(parse_symbol(part) for part in wanted.split(",") if part.strip()))
