"""What OpenAPI tells of /udf. Its views are plain functions, so the paths are written down here."""

from __future__ import annotations

from typing import Final

from webapp.api.openapi import INTEGER, NUMBER, TEXT, Document, answer, array, fields, parameter
from webapp.api.udf.history import MAX_BARS
from webapp.api.udf.marks import MAX_MARKS
from webapp.api.udf.parameters import RESOLUTIONS
from webapp.api.udf.symbols import MAX_FOUND

_SECONDS: Final = {"type": "integer", "minimum": 0}
_COUNT: Final = {"type": "integer", "minimum": 1}
_BOOLEAN: Final = {"type": "boolean"}
_SYMBOL: Final = parameter("symbol", "symbol, with or without `EXCHANGE:` before it", "BTCUSDT", required=True)
_FROM: Final = parameter("from", "oldest open time, seconds, inclusive", 1_795_200_000, required=True, schema=_SECONDS)
_TO: Final = parameter("to", "newest open time, seconds, inclusive", 1_795_219_200, required=True, schema=_SECONDS)
_RESOLUTION: Final = parameter(
    "resolution",
    f"{', '.join(RESOLUTIONS)}; S, H and D are understood too",
    "1",
    required=True,
    schema={"enum": list(RESOLUTIONS)},
)
_RANGE: Final = [_SYMBOL, _FROM, _TO, _RESOLUTION]
_BARS: Final = {"s": {"const": "ok"}, "t": array(_SECONDS), **{name: array(NUMBER) for name in "ohlcv"}}
_NO_DATA: Final = fields({"s": {"const": "no_data"}, "nextTime": _SECONDS}, "nextTime")
_FOUND: Final = dict.fromkeys(("symbol", "full_name", "description", "exchange", "ticker", "type"), TEXT)
_RESOLUTIONS: Final = array({"enum": list(RESOLUTIONS)})
_SYMBOL_ABOUT: Final[dict[str, Document]] = {
    **dict.fromkeys(("name", "ticker", "description", "type", "exchange", "session", "timezone", "data_status"), TEXT),
    **dict.fromkeys(("minmov", "pricescale", "volume_precision"), _SECONDS),
    **dict.fromkeys(("has_seconds", "has_intraday", "has_daily", "has_weekly_and_monthly"), _BOOLEAN),
    "supported_resolutions": _RESOLUTIONS,
}
_MARKS: Final = {
    "id": array(TEXT), "time": array(_SECONDS), "color": array(TEXT), "text": array(TEXT), "label": array(TEXT),
    "labelFontColor": array(TEXT), "minSize": array(INTEGER),
}  # fmt: skip
_AXIS_MARK: Final = fields({"id": TEXT, "time": _SECONDS, "color": TEXT, "label": TEXT, "tooltip": array(TEXT)})
_QUOTE: Final = fields({"s": {"enum": ["ok", "error"]}, "n": TEXT, "v": {"type": "object"}})
_GAP: Final = "gap of 30 s from 2026-11-21 11:58:00 UTC, silence, repaired"

#: Path: summary, more, parameters, shape of the answer, example of it.
_READS: Final[dict[str, tuple[str, str, list[Document], Document, object]]] = {
    "config": (
        "What this datafeed can",
        "weight 1",
        [],
        fields(
            {
                "supported_resolutions": _RESOLUTIONS,
                "supports_search": _BOOLEAN,
                "supports_group_request": _BOOLEAN,
                "supports_marks": _BOOLEAN,
                "supports_timescale_marks": _BOOLEAN,
                "supports_time": _BOOLEAN,
                "exchanges": array({"type": "object"}),
                "symbols_types": array({"type": "object"}),
            }
        ),
        {
            "supported_resolutions": list(RESOLUTIONS),
            "supports_search": True,
            "supports_group_request": False,
            "supports_marks": True,
            "supports_timescale_marks": True,
            "supports_time": True,
            "exchanges": [{"value": "SIMULATED", "name": "SIMULATED", "desc": "SIMULATED"}],
            "symbols_types": [{"name": "Crypto", "value": "crypto"}],
        },
    ),
    "time": ("Our clock, seconds since 1970, as a bare number", "weight 1", [], _SECONDS, 1_795_219_200),
    "symbols": (
        "What a chart must know of a symbol",
        "weight 2",
        [_SYMBOL],
        fields(_SYMBOL_ABOUT),
        {
            "name": "BTCUSDT",
            "ticker": "BTCUSDT",
            "description": "BTC / USDT",
            "type": "crypto",
            "exchange": "SIMULATED",
            "session": "24x7",
            "timezone": "Etc/UTC",
            "minmov": 1,
            "pricescale": 100,
            "volume_precision": 5,
            "has_seconds": True,
            "has_intraday": True,
            "has_daily": True,
            "has_weekly_and_monthly": False,
            "supported_resolutions": list(RESOLUTIONS),
            "data_status": "streaming",
        },
    ),
    "search": (
        "Symbols by name or asset",
        "weight 2; those that begin with the query first",
        [
            parameter("query", "part of the name, any case", "btc"),
            parameter("type", "crypto, or empty", "crypto"),
            parameter("exchange", "a value of /udf/config, or empty", ""),
            parameter("limit", f"rows; more than {MAX_FOUND} is cut to it", 30, schema=_COUNT),
        ],
        array(fields(_FOUND), maxItems=MAX_FOUND),
        [
            {
                "symbol": "BTCUSDT",
                "full_name": "SIMULATED:BTCUSDT",
                "description": "BTC / USDT",
                "exchange": "SIMULATED",
                "ticker": "BTCUSDT",
                "type": "crypto",
            }
        ],
    ),
    "symbol_info": (
        "All symbols as a table",
        "weight 10; for clients that ask for a group instead of searching",
        [parameter("group", "a value of /udf/config, or empty", "SIMULATED")],
        fields({**dict.fromkeys(("symbol", "ticker", "description"), array(TEXT)), "pricescale": array(INTEGER)}),
        {"symbol": ["BTCUSDT"], "ticker": ["BTCUSDT"], "description": ["BTC / USDT"], "pricescale": [100]},
    ),
    "history": (
        "Bars with from <= t <= to, oldest first",
        f"weight 2; columns of numbers. `countback` outranks `from`. At most {MAX_BARS} bars, the newest. Where there "
        "are none, no_data: with the time of the nearest earlier bar, or without where nothing is older. An answer "
        "about what is over has an ETag and may be kept for 30 s.",
        [
            *_RANGE,
            parameter("countback", "so many bars up to `to`, whatever `from` says", 300, schema=_COUNT),
        ],
        {"anyOf": [fields(_BARS), _NO_DATA]},
        {
            "s": "ok",
            "t": [1_795_219_140],
            "o": [97000.12],
            "h": [97100.55],
            "l": [96900.01],
            "c": [97050.22],
            "v": [12.34567],
        },
    ),
    "marks": (
        "Gaps (G) and revisions (R) at their bars",
        f"weight 4; columns; at most {MAX_MARKS}, the newest",
        _RANGE,
        fields(_MARKS),
        {
            "id": ["gap-7"],
            "time": [1_795_219_080],
            "color": ["#0072b2"],
            "text": [_GAP],
            "label": ["G"],
            "labelFontColor": ["#ffffff"],
            "minSize": [14],
        },
    ),
    "timescale_marks": (
        "Gaps on the time axis",
        f"weight 4; at most {MAX_MARKS}, the newest",
        _RANGE,
        array(_AXIS_MARK, maxItems=MAX_MARKS),
        [{"id": "gaps-1795219080", "time": 1_795_219_080, "color": "#0072b2", "label": "G", "tooltip": [_GAP]}],
    ),
    "quotes": (
        "Last price and day of each symbol",
        "weight 10; bid, ask and spread are those of the newest order book, left out where none younger than a minute "
        "is known",
        [parameter("symbols", "comma list", "BTCUSDT,ETHUSDT", required=True)],
        fields({"s": {"const": "ok"}, "d": array(_QUOTE)}),
        {"s": "ok", "d": [{"s": "ok", "n": "BTCUSDT", "v": {"lp": 97050.22, "bid": 97050.21, "ask": 97050.22}}]},
    ),
}
_ERROR: Final = fields({"s": {"const": "error"}, "errmsg": TEXT})


def _refusal(about: str, message: str) -> Document:
    return answer(about, _ERROR, {"s": "error", "errmsg": message})


_ERRORS: Final = {
    "400": _refusal("the request cannot be used", "resolution '7' is not served; allowed: 1S, 1, 5, 15, 60, 240, 1D"),
    "404": _refusal("no such symbol", "NOTHING is not a symbol of this system; /udf/search lists them"),
    "429": _refusal("weight used up; Retry-After says for how many seconds", "come again in 20 s"),
    "503": _refusal("the database does not answer", "the database does not answer; try again"),
}


def add_udf_paths(result: Document, generator: object, request: object, public: bool) -> Document:
    """Hook of drf-spectacular: the paths of /udf."""
    for name, (summary, about, parameters, shape, example) in _READS.items():
        result["paths"][f"/udf/{name}"] = {
            "get": {
                "operationId": f"udf_{name}",
                "summary": summary,
                "description": about,
                "tags": ["TradingView's UDF"],
                "parameters": parameters,
                "responses": {"200": answer("as a UDF client reads it", shape, example), **_ERRORS},
            }
        }
    return result
