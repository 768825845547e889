"""What OpenAPI tells of /api/v3. Its views are plain functions, so the paths are written down here."""

from __future__ import annotations

from typing import Final

import msgspec

from market.odd_intervals import EXCHANGE_INTERVALS
from webapp.api.openapi import INTEGER, TEXT, Document, answer, array, fields, parameter

_SYMBOL: Final = parameter("symbol", "one symbol, upper case; the answer is one object", "BTCUSDT")
_ONE_SYMBOL: Final = parameter("symbol", "symbol in upper case", "BTCUSDT", required=True)
_SYMBOLS: Final = parameter("symbols", "JSON array of symbols; not together with symbol", '["BTCUSDT","ETHUSDT"]')
_STATUSES: Final = ["TRADING", "HALT", "BREAK", "END_OF_DAY", "CANCEL_ONLY"]
_STATUS: Final = parameter("symbolStatus", "only symbols of this status", "TRADING", schema={"enum": _STATUSES})
_LIMIT: Final = {"type": "integer", "minimum": 1}
_ID: Final = {"type": "integer"}
_ROW: Final = (
    "open time, open, high, low, close, base volume, close time, quote volume, trade count, "
    "taker buy base volume, taker buy quote volume, unused"
)
_KLINE: Final = array({"type": ["integer", "string"]}, minItems=12, maxItems=12, description=_ROW)
_KLINE_EXAMPLE: Final = [
    1795219140000, "97000.12000000", "97100.55000000", "96900.01000000", "97050.22000000", "12.34567000",
    1795219199999, "1197812.11223344", 345, "6.12345000", "594120.45678901", "0",
]  # fmt: skip
_LEVELS: Final = array(array(TEXT, minItems=2, maxItems=2, description="price, quantity"), maxItems=20)
_BEST: Final = dict.fromkeys(("symbol", "bidPrice", "bidQty", "askPrice", "askQty"), TEXT)
_BEST_EXAMPLE: Final = {
    "symbol": "BTCUSDT", "bidPrice": "97050.21000000", "bidQty": "1.50000000",
    "askPrice": "97050.22000000", "askQty": "0.25000000",
}  # fmt: skip
_TRADE: Final = fields(
    {
        "id": _ID, "price": TEXT, "qty": TEXT, "quoteQty": TEXT, "time": INTEGER, "isBuyerMaker": {"type": "boolean"},
        "isBestMatch": {"type": "boolean"},
    }
)  # fmt: skip
_TRADE_EXAMPLE: Final = {
    "id": 28457, "price": "97050.22000000", "qty": "0.01200000", "quoteQty": "1164.60264000", "time": 1795219199123,
    "isBuyerMaker": True, "isBestMatch": True,
}  # fmt: skip
_MINI: Final = {
    **dict.fromkeys(("symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume"), TEXT),
    **dict.fromkeys(("openTime", "closeTime", "firstId", "lastId", "count"), _ID),
}
_FULL_ONLY: Final = (
    "priceChange",
    "priceChangePercent",
    "weightedAvgPrice",
    "prevClosePrice",
    "lastQty",
    *list(_BEST)[1:],
)
_DAY: Final = fields({**_MINI, **dict.fromkeys(_FULL_ONLY, TEXT)}, *_FULL_ONLY)
_DAY_EXAMPLE: Final = {
    "symbol": "BTCUSDT", "priceChange": "500.00000000", "priceChangePercent": "0.518",
    "weightedAvgPrice": "96800.11000000", "prevClosePrice": "96550.22000000", "lastQty": "0.01200000",
    "bidPrice": "97050.21000000", "bidQty": "1.50000000", "askPrice": "97050.22000000", "askQty": "0.25000000",
    "openPrice": "96550.22000000", "highPrice": "97500.00000000", "lowPrice": "96000.00000000",
    "lastPrice": "97050.22000000", "volume": "12345.67800000", "quoteVolume": "1195063000.00000000",
    "openTime": 1795132800000, "closeTime": 1795219200000, "firstId": 100, "lastId": 28457, "count": 28358,
}  # fmt: skip
_PRICE: Final = fields({"symbol": TEXT, "price": TEXT})


def _one_or_many(one: Document) -> Document:
    return {"anyOf": [one, array(one)]}


_TIMES: Final = [
    parameter("startTime", "oldest open time, ms (or us), inclusive", 1_700_000_000_000, schema=INTEGER),
    parameter("endTime", "newest open time, ms (or us), inclusive", 1_800_000_000_000, schema=INTEGER),
]


class _Read(msgspec.Struct, frozen=True, kw_only=True):
    """One path; without a `shape` it is always refused."""

    summary: str
    about: str
    parameters: list[Document] = []
    shape: Document | None = None
    example: object = None


_READS: Final = {
    "ping": _Read(summary="Is the API there", about="weight 1", shape={"type": "object"}, example={}),
    "time": _Read(
        summary="Our clock",
        about="weight 1",
        shape=fields({"serverTime": INTEGER}),
        example={"serverTime": 1795219200000},
    ),
    "exchangeInfo": _Read(
        summary="Symbols with their filters, and the rate limit",
        about="weight 20; `source` is ours: where the data come from",
        parameters=[
            _SYMBOL,
            _SYMBOLS,
            parameter("permissions", "SPOT, or a JSON array", "SPOT"),
            parameter("showPermissionSets", "false leaves the sets out", "false", schema={"enum": ["true", "false"]}),
            _STATUS,
        ],
        shape=fields(
            {
                "timezone": TEXT,
                "serverTime": INTEGER,
                "source": TEXT,
                "rateLimits": array({"type": "object"}),
                "exchangeFilters": array({"type": "object"}),
                "symbols": array({"type": "object"}),
            }
        ),
        example={
            "timezone": "UTC",
            "serverTime": 1795219200000,
            "exchangeFilters": [],
            "source": "sim",
            "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}],
            "symbols": [{"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}],
        },
    ),
    "klines": _Read(
        summary="Klines, oldest first, the forming one last",
        about="weight 2. Without bounds the newest; with startTime the oldest from it. 3m, 30m, 2h, 6h, 8h, 12h, 3d, "
        "1w and 1M, and time zones off the stored grid, are rolled up from stored bars. An answer about what is over "
        "has an ETag and may be kept for 30 s.",
        parameters=[
            _ONE_SYMBOL,
            parameter("interval", "case-sensitive", "1m", required=True, schema={"enum": list(EXCHANGE_INTERVALS)}),
            *_TIMES,
            parameter("timeZone", "offset of the bars' grid, -12:00 to +14:00; times stay UTC", "5:30"),
            parameter("limit", "rows; more than 1000 is cut to it", 500, schema={**_LIMIT, "default": 500}),
        ],
        shape=array(_KLINE, maxItems=1000),
        example=[_KLINE_EXAMPLE],
    ),
    "depth": _Read(
        summary="The best levels of the order book",
        about="weight 5 up to limit 100, 25 up to 500, 50 up to 1000, else 250. As the stream depth20 sent them last: "
        "at most 20 levels a side, none older than a minute (then 503).",
        parameters=[
            _ONE_SYMBOL,
            parameter("limit", "levels of each side; more than 20 is cut to it", 20, schema={**_LIMIT, "default": 100}),
            _STATUS,
        ],
        shape=fields({"lastUpdateId": _ID, "bids": _LEVELS, "asks": _LEVELS}),
        example={
            "lastUpdateId": 9001,
            "bids": [["97050.21000000", "1.50000000"]],
            "asks": [["97050.22000000", "0.25000000"]],
        },
    ),
    "trades": _Read(
        summary="The newest trades, oldest first",
        about="weight 25. Single trades are not stored in the database: these are the ones that the broker still "
        "holds, so there may be fewer than asked for.",
        parameters=[
            _ONE_SYMBOL,
            parameter("limit", "rows; more than 1000 is cut to it", 500, schema={**_LIMIT, "default": 500}),
        ],
        shape=array(_TRADE, maxItems=1000),
        example=[_TRADE_EXAMPLE],
    ),
    "aggTrades": _Read(
        summary="Not served",
        about="weight 4. The exchange's ids of aggregate trades cannot be known from single trades: 404 and -1020.",
        parameters=[_ONE_SYMBOL],
    ),
    "historicalTrades": _Read(
        summary="Not served", about="weight 25. Single trades are not stored: 404 and -1020.", parameters=[_ONE_SYMBOL]
    ),
    "ticker/price": _Read(
        summary="Last price",
        about="weight 2 for one symbol, else 4",
        parameters=[_SYMBOL, _SYMBOLS, _STATUS],
        shape=_one_or_many(_PRICE),
        example={"symbol": "BTCUSDT", "price": "97050.22000000"},
    ),
    "ticker/bookTicker": _Read(
        summary="Best bid and ask",
        about="weight 2 for one symbol, else 4. From the newest best levels; symbols of which none younger than a "
        "minute are known are left out of a list, asked for alone they are 503.",
        parameters=[_SYMBOL, _SYMBOLS, _STATUS],
        shape=_one_or_many(fields(_BEST)),
        example=_BEST_EXAMPLE,
    ),
    "ticker/24hr": _Read(
        summary="Rolling 24 h",
        about="weight 2 up to 20 symbols, 40 up to 100, else 80. Best bid, best ask and last quantity are what the "
        "streams said last, zero where that is not known.",
        parameters=[
            _SYMBOL,
            _SYMBOLS,
            parameter(
                "type", "MINI leaves out what is not in the mini ticker", "FULL", schema={"enum": ["FULL", "MINI"]}
            ),
            _STATUS,
        ],
        shape=_one_or_many(_DAY),
        example=_DAY_EXAMPLE,
    ),
}
_ERROR: Final = fields({"code": {"type": "integer"}, "msg": TEXT})
_HEADERS: Final = {
    "X-MBX-USED-WEIGHT-1M": {"description": "weight used in this clock minute", "schema": INTEGER},
}
_ERRORS: Final = {
    "400": answer("the request cannot be used", _ERROR, {"code": -1121, "msg": "Invalid symbol."}),
    "429": {
        **answer("weight used up", _ERROR, {"code": -1003, "msg": "Too much request weight used"}),
        "headers": {"Retry-After": {"description": "come again in so many seconds", "schema": INTEGER}},
    },
    "503": answer(
        "the database, or what the streams said last, cannot be asked", _ERROR, {"code": -1001, "msg": "Internal error"}
    ),
}


def add_binance_paths(result: Document, generator: object, request: object, public: bool) -> Document:
    """Hook of drf-spectacular: the paths of /api/v3."""
    for name, read in _READS.items():
        if read.shape is None:
            refusal = answer("not supported", _ERROR, {"code": -1020, "msg": "This operation is not supported."})
            told = {"404": refusal}
        else:
            told = {"200": {**answer("as Binance answers", read.shape, read.example), "headers": _HEADERS}}
        result["paths"][f"/api/v3/{name}"] = {
            "get": {
                "operationId": "binance_" + name.replace("/", "_"),
                "summary": read.summary,
                "description": read.about,
                "tags": ["v3, Binance's dialect"],
                "parameters": read.parameters,
                "responses": {**told, **_ERRORS},
            }
        }
    return result
