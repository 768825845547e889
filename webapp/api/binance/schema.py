"""What OpenAPI tells of /api/v3. Its views are plain functions, so the paths are written down here."""

from __future__ import annotations

from typing import Any, Final

from market.odd_intervals import EXCHANGE_INTERVALS

Document = dict[str, Any]


def _parameter(
    name: str, about: str, example: object, *, required: bool = False, schema: Document | None = None
) -> Document:
    return {
        "in": "query",
        "name": name,
        "required": required,
        "description": about,
        "schema": schema or {"type": "string"},
        "example": example,
    }


_INTEGER: Final = {"type": "integer", "minimum": 0}
_SYMBOL: Final = _parameter("symbol", "one symbol, upper case; the answer is one object", "BTCUSDT")
_SYMBOLS: Final = _parameter("symbols", "JSON array of symbols; not together with symbol", '["BTCUSDT","ETHUSDT"]')
_STATUSES: Final = ["TRADING", "HALT", "BREAK", "END_OF_DAY", "CANCEL_ONLY"]
_STATUS: Final = _parameter("symbolStatus", "only symbols of this status", "TRADING", schema={"enum": _STATUSES})
_ROW: Final = (
    "open time, open, high, low, close, base volume, close time, quote volume, trade count, "
    "taker buy base volume, taker buy quote volume, unused"
)
_ENDPOINTS: Final[dict[str, tuple[str, str, list[Document], Document]]] = {
    "ping": ("Is the API there", "weight 1", [], {"type": "object"}),
    "time": (
        "Our clock",
        "weight 1",
        [],
        {"type": "object", "required": ["serverTime"], "properties": {"serverTime": {"type": "integer"}}},
    ),
    "exchangeInfo": (
        "Symbols with their filters, and the rate limit",
        "weight 20; `source` is ours: where the data come from",
        [
            _SYMBOL,
            _SYMBOLS,
            _parameter("permissions", "SPOT, or a JSON array", "SPOT"),
            _parameter("showPermissionSets", "false leaves the sets out", "false", schema={"enum": ["true", "false"]}),
            _STATUS,
        ],
        {"type": "object", "required": ["timezone", "serverTime", "rateLimits", "exchangeFilters", "symbols"]},
    ),
    "klines": (
        "Klines, oldest first, the forming one last",
        "weight 2. Without bounds the newest; with startTime the oldest from it. 3m, 30m, 2h, 6h, 8h, 12h, 3d, 1w, 1M "
        "and bars of other time zones are made of stored bars.",
        [
            _parameter("symbol", "symbol in upper case", "BTCUSDT", required=True),
            _parameter(
                "interval",
                "case-sensitive",
                "1m",
                required=True,
                schema={"enum": list(EXCHANGE_INTERVALS)},
            ),
            _parameter("startTime", "oldest open time, ms (or us), inclusive", 1_700_000_000_000, schema=_INTEGER),
            _parameter("endTime", "newest open time, ms (or us), inclusive", 1_800_000_000_000, schema=_INTEGER),
            _parameter("timeZone", "offset of the bars' grid, -12:00 to +14:00; times stay UTC", "5:30"),
            _parameter(
                "limit",
                "rows; more than 1000 is cut to it",
                500,
                schema={"type": "integer", "minimum": 1, "default": 500},
            ),
        ],
        {"type": "array", "items": {"type": "array", "minItems": 12, "maxItems": 12, "description": _ROW}},
    ),
    "ticker/price": (
        "Last price",
        "weight 2 for one symbol, else 4",
        [_SYMBOL, _SYMBOLS, _STATUS],
        {"type": ["object", "array"]},
    ),
    "ticker/24hr": (
        "Rolling 24 h",
        "weight 2 up to 20 symbols, 40 up to 100, else 80. Best bid, best ask and last quantity are not stored: zero.",
        [
            _SYMBOL,
            _SYMBOLS,
            _parameter(
                "type", "MINI leaves out what is not in the mini ticker", "FULL", schema={"enum": ["FULL", "MINI"]}
            ),
            _STATUS,
        ],
        {"type": ["object", "array"]},
    ),
}
_ERROR: Final = {
    "type": "object",
    "required": ["code", "msg"],
    "properties": {"code": {"type": "integer"}, "msg": {"type": "string"}},
}


def _answer(about: str, schema: Document) -> Document:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def add_binance_paths(result: Document, generator: object, request: object, public: bool) -> Document:
    """Hook of drf-spectacular: the paths of /api/v3."""
    for name, (summary, about, parameters, shape) in _ENDPOINTS.items():
        result["paths"][f"/api/v3/{name}"] = {
            "get": {
                "operationId": "binance_" + name.replace("/", "_"),
                "summary": summary,
                "description": about,
                "tags": ["v3, Binance's dialect"],
                "parameters": parameters,
                "responses": {
                    "200": _answer("as Binance answers; X-MBX-USED-WEIGHT-1M tells the used weight", shape),
                    "400": _answer("the request cannot be used", _ERROR),
                    "429": _answer("weight used up; Retry-After says for how many seconds", _ERROR),
                    "503": _answer("the database does not answer", _ERROR),
                },
            }
        }
    return result
