"""Examples of the answers of /api/v1 for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

_CANDLE: Final = [
    1795219140000, 1795219199999, "97000.12", "97100.55", "96900.01", "97050.22", "12.34567", "1197812.11223344", 345,
    "6.12345", "594120.45678901", 28113, 28457, 60, 60, 1795219200000, True, True, "seconds", 0, 1795219200021,
    1795219205120,
]  # fmt: skip
_GAP: Final = {
    "id": 7, "symbol": "BTCUSDT", "interval": "1s", "from_time_ms": 1795219080000, "to_time_ms": 1795219110000,
    "cause": "silence", "state": "repaired", "detected_at_ms": 1795219111000, "resolved_at_ms": 1795219120000,
    "resolved_by": "rest", "detector": "feed", "attempts": 1, "next_attempt_at_ms": None, "last_error": None,
}  # fmt: skip
_OF_SERIES: Final = {"symbol": "BTCUSDT", "interval": "1m"}
_RANGE: Final = {"from_ms": 1795132800000, "to_ms": 1795219200000}
#: Of the reads of market data.
_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "klines": {**_OF_SERIES, "rows": [_CANDLE], "next_cursor": None},
    "symbols": {
        "time_ms": 1795219200000,
        "symbols": [
            {
                "symbol": "BTCUSDT", "base_asset": "BTC", "quote_asset": "USDT", "status": "TRADING",
                "tick_size": "0.01000000", "step_size": "0.00001000", "price_decimals": 2, "quantity_decimals": 5,
                "last": "97050.22", "change": "500.00", "change_percent": "0.52", "high": "97500.00",
                "low": "96000.00", "base_volume": "12345.678", "quote_volume": "1195063000", "sparkline": ["97000.12"],
                "event_time_ms": 1795219200021,
            }
        ],
    },
    "gaps": {**_RANGE, "gaps": [_GAP]},
    "minutes": {
        **_OF_SERIES, **_RANGE, "complete_since_ms": 1795219110000, "gaps": [_GAP],
        "rows": [[1795219080000, "repaired", 60, 60, "seconds", 1, 30, 0]],
    },
    "completeness": {
        "hours": [
            {
                "symbol": "BTCUSDT", "hour": 1795215600000, "expected": 3600, "stream": 3570, "rest": 30, "trades": 0,
                "absent": 0, "open": 0, "updated_at_ms": 1795219205000,
            }
        ]
    },
    "audit": {
        **_RANGE,
        "counts": {"equal": 1439, "different": 0, "not_comparable": 1, "needs_person": 0},
        "minutes": [],
    },
    "revisions": {**_OF_SERIES, **_RANGE, "rows": []},
    "checkpoints": {
        "checkpoints": [
            {
                "topic": "kline_1s", "topic_id": "6f1c2c5e-8a5b-4d8e-9d37-0f6f6f3c2a11", "partition": 0,
                "next_offset": 86400, "epoch": 3, "updated_at_ms": 1795219200100,
            }
        ],
        "watermarks": [
            {
                "symbol": "BTCUSDT", "stream": "kline_1s", "event_time_ms": 1795219200000,
                "updated_at_ms": 1795219200100,
            }
        ],
    },
    "status": {
        "verdict": "healthy",
        "reason": "every reader keeps up",
        "readers": [
            {
                "room": "inserter", "topic": "kline_1s", "partition": 0, "lag_records": 0, "lag_seconds": 0.0,
                "headroom_seconds": 900.0,
            }
        ],
    },
}  # fmt: skip


_REPAIR: Final = {"symbol": "BTCUSDT", "from": 1795219080000, "to": 1795219110000}
_TOPIC: Final = {
    "topic": "kline_1s", "kind": "fact", "partitions": 2, "records": 90000, "bytes": 27000000,
    "records_per_second": 100.0, "retention_ms": 900000, "segment_ms": 60000, "segment_bytes": 16777216,
    "check_interval_ms": 10000, "measured_oldest_age_s": 934.2, "predicted_oldest_age_s": {"min": 900.0, "max": 970.0},
}  # fmt: skip
#: Of what operators ask: method, path, status, example.
_OPERATORS: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    (
        "get", "/api/v1/operator", "200",
        {
            "taken_at_ms": 1795219200000, "verdict": "healthy", "reason": "every reader keeps up",
            "engines": [{"name": "kafka", "state": "up", "error": None}], "topics": [_TOPIC], "alerts": [],
        },
    ),
    (
        "get", "/api/v1/operator/history", "200",
        {"subject": "system", "points": [{"at_ms": 1795219200000, "verdict": "healthy", "open_gaps": 0}]},
    ),
    (
        "get", "/api/v1/operator/actions", "200",
        {
            "actions": [
                {
                    "action": "reopen_gap", "effect": "Opens a gap again that was given up.",
                    "arguments": [{"name": "id", "type": "id", "required": True, "help": "number of the gap"}],
                    "command": "candlewire reopen GAP",
                }
            ],
            "recent": [],
        },
    ),
    (
        "post", "/api/v1/operator/actions/{action}/preview", "200",
        {"action": "repair", "arguments": _REPAIR, "effect": "BTCUSDT: 30 seconds are asked for from the exchange."},
    ),
    ("post", "/api/v1/operator/actions/{action}", "202", {"id": 12, "state": "accepted", "detail": None}),
    (
        "get", "/api/v1/retention", "200",
        {"taken_at_ms": 1795219200000, "check_interval_ms": 10000, "topics": [_TOPIC]},
    ),
)  # fmt: skip


def add_native_examples(result: dict[str, Any], generator: object, request: object, public: bool) -> dict[str, Any]:
    """Hook of drf-spectacular: an example for each answer that has none."""
    reads = tuple(("get", f"/api/v1/{name}", "200", example) for name, example in _EXAMPLES.items())
    for method, path, status, example in (*reads, *_OPERATORS):
        content = result["paths"][path][method]["responses"][status]["content"]["application/json"]
        if "examples" not in content:
            content.setdefault("example", {"source": "sim", **example})
    return result
