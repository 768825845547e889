"""Requests that nobody sane would send, drawn from one seed, and what every answer to them must be.

Every dialect, with parameters that are right, nearly right, of another dialect, huge, negative, doubled, of other
scripts, or bytes. The answer is never a 500, always in the caller's own dialect, and never late.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes

from runtime.clock import SystemClock, new_random

THREADS: Final = 4
#: The database ends a query after 5 s.
LATE_S: Final = 5.0
TIMEOUT_S: Final = 30.0
BURST: Final = 50

_UDF_RANGE: Final = "symbol resolution from to"
#: The parameters that each path has; any other is refused before the rest is looked at (UDF alone lets it pass).
_OWN_NAMES: Final = {
    "/api/v3/ping": "",
    "/api/v3/time": "",
    "/api/v3/exchangeInfo": "symbol symbols permissions symbolStatus",
    "/api/v3/klines": "symbol interval startTime endTime timeZone limit",
    "/api/v3/depth": "symbol limit symbolStatus",
    "/api/v3/trades": "symbol limit",
    "/api/v3/aggTrades": "symbol startTime endTime limit",
    "/api/v3/historicalTrades": "symbol limit",
    "/api/v3/ticker/price": "symbol symbols symbolStatus",
    "/api/v3/ticker/24hr": "symbol symbols type symbolStatus",
    "/api/v3/ticker/bookTicker": "symbol symbols symbolStatus",
    "/udf/config": "",
    "/udf/time": "",
    "/udf/symbols": "symbol",
    "/udf/search": "query type limit",
    "/udf/symbol_info": "group",
    "/udf/history": f"{_UDF_RANGE} countback",
    "/udf/marks": _UDF_RANGE,
    "/udf/timescale_marks": _UDF_RANGE,
    "/udf/quotes": "symbols",
    "/api/v1/klines": "symbol interval limit start end cursor known_at",
    "/api/v1/symbols": "",
    "/api/v1/gaps": "symbol from to",
    "/api/v1/minutes": "symbol interval from to",
    "/api/v1/completeness": "symbol from to",
    "/api/v1/audit": "symbol from to state",
    "/api/v1/revisions": "symbol interval from to",
    "/api/v1/checkpoints": "",
}
PATHS: Final = tuple(_OWN_NAMES)
_NEEDED: Final = ("symbol", "interval", "resolution")
_NAMES: Final = (
    "symbol", "symbols", "interval", "resolution", "startTime", "endTime", "start", "end", "from", "to", "limit",
    "countback", "timeZone", "known_at", "cursor", "state", "query", "group", "type", "symbolStatus", "permissions",
)  # fmt: skip
_SYMBOLS: Final = (
    "BTCUSDT",
    "ETHUSDT",
    "btcusdt",
    "NOTHING",
    "SIM:BTCUSDT",
    '["BTCUSDT"]',
    "BTCUSDT,ETHUSDT",
    "币安",
    "A" * 60,
)
_INTERVALS: Final = (
    "1s",
    "1m",
    "5m",
    "1h",
    "1d",
    "3m",
    "3d",
    "1w",
    "1M",
    "1S",
    "1",
    "15",
    "240",
    "1D",
    "D",
    "60",
    "7m",
    "1H",
)
_TIMES: Final = (
    "0", "1", "-1", "1795219200", "1795219200000", "1795219200000000", "253402300799999", "9" * 15, "9" * 19, "9" * 60,
    "2026-11-21", "2026-11-21T12:00:00Z", "2026-13-45", "0001-01-01", "9999-12-31T23:59:59Z", "1e9", "NaN", "0x10",
)  # fmt: skip
_ODD: Final = (
    "", " ", "null", "undefined", "true", "-0", "1.5", "+5", "٣", "1;drop table kline_1s", "' or 1=1 --", "%s", "{}",
    "[]", "[[[[", '{"a":1}', "../../etc/passwd", "\u202e", "\ufeff1m", "😀", "a\tb", "a\nb", "\x00", "A" * 3000,
    "-12:00", "+14:00", "5:30", "14:01", "500", "1000", "1000000", "FULL", "MINI", "TRADING", "equal", "SPOT",
)  # fmt: skip


def targets(seed: int, count: int) -> Iterator[str]:
    """Paths with their queries."""
    random = new_random(seed)
    for _ in range(count):
        path = random.choice(PATHS)
        own = _OWN_NAMES[path].split()
        chosen = [name for name in own if random.random() < (0.95 if name in _NEEDED else 0.5)]
        if random.random() < 0.25:
            chosen += random.sample(_NAMES, random.randint(1, 4))
        if random.random() < 0.03:
            path += random.choice(("/", "x", "/../", "%00", "//", ";a=1"))
        if random.random() < 0.9:
            chosen = list(dict.fromkeys(chosen))
        yield f"{path}?{'&'.join(f'{name}={_value(random, name)}' for name in chosen)}"


def _value(random: Random, name: str) -> str:
    draw = random.random()
    if draw < 0.02:
        return quote_from_bytes(random.randbytes(random.randint(1, 20)))
    if draw < 0.05:
        return str(random.randint(-(10**20), 10**20))
    if draw < 0.15:
        return quote(random.choice(_ODD))
    if name in ("symbol", "symbols"):
        return quote("BTCUSDT" if random.random() < 0.6 else random.choice(_SYMBOLS))
    if name in ("interval", "resolution"):
        return quote(random.choice(_INTERVALS))
    if name in ("limit", "countback"):
        return quote(random.choice(("1", "10", "500", "1000", "5000", *_ODD)))
    return quote(random.choice(_TIMES))


@dataclass
class Result:
    """What came of a run. `complaints` name the request that was answered wrongly."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    complaints: list[str] = field(default_factory=list)


def complaint(target: str, status: int, content_type: str, body: bytes) -> str | None:
    """What is wrong with an answer; None when nothing is."""
    try:
        decoded: Any = json.loads(body)
    except ValueError:
        return f"{status}, {content_type}: no JSON"
    if status < 400:
        return None
    if target.startswith("/api/v3/"):
        is_own = isinstance(decoded, dict) and sorted(decoded) == ["code", "msg"]
    elif target.startswith("/udf/"):
        is_own = isinstance(decoded, dict) and sorted(decoded) == ["errmsg", "s"]
    else:
        is_own = content_type == "application/problem+json" and decoded.get("status") == status
    if not is_own:
        return f"{status}, {content_type}: not an error of this dialect: {body[:200]!r}"
    # The best levels may not be known: nothing feeds them here.
    is_unknown_book = status == 503 and decoded.get("code") == -1001 and "not known" in decoded["msg"]
    return None if status < 500 or is_unknown_book else f"{status}: {body[:200]!r}"


def run(port: int, seed: int, count: int, late_s: float = LATE_S) -> Result:
    """Send them all to a server on loopback; an answer that takes longer than `late_s` is a complaint."""
    waiting = list(targets(seed, count))
    result, lock = Result(), threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        while True:
            with lock:
                if not waiting:
                    return
                taken = [waiting.pop() for _ in range(min(BURST, len(waiting)))]
            for target in taken:
                _send(connection, target, result, lock, late_s)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def _send(
    connection: http.client.HTTPConnection, target: str, result: Result, lock: threading.Lock, late_s: float
) -> None:
    clock = SystemClock()
    start_s = clock.monotonic_s()
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        status, wrong = (
            response.status,
            complaint(target, response.status, response.headers["Content-Type"], response.read()),
        )
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        status, wrong = 0, f"no answer: {error!r}"
    took_s = clock.monotonic_s() - start_s
    if took_s > late_s:
        wrong = wrong or f"took {took_s:.1f} s"
    with lock:
        result.statuses[status] += 1
        result.slowest_s = max(result.slowest_s, took_s)
        if wrong is not None:
            result.complaints.append(f"{target}: {wrong}")
