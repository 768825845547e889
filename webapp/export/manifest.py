"""What a finished export says of its file."""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.time_text import iso
from webapp.export.encoders import Format
from webapp.export.tables import ExportQuery


class Progress(msgspec.Struct, kw_only=True):
    """How far an export is. `after`: keys of the last row; None before the first."""

    rows: int = 0
    complete_rows: int = 0
    after: list[str] | None = None


def described(query: ExportQuery, kind: Format, layout: str) -> dict[str, Any]:
    """The query as a manifest tells it."""
    return {
        "table": query.table.value,
        "symbol": query.symbol,
        "interval": query.interval,
        "start": None if query.start_ms is None else iso(query.start_ms),
        "end": None if query.end_ms is None else iso(query.end_ms),
        "format": kind.value,
        "layout": layout,
    }


def manifest(progress: Progress, sha256: str, expected_bars: int | None, query: dict[str, Any]) -> dict[str, Any]:
    """`completeness`: share of the closed bars of the range that are there with every second of theirs; None where
    that means nothing (other tables, no bars)."""
    share = min(1.0, progress.complete_rows / expected_bars) if expected_bars else None
    return {
        "rows": progress.rows,
        "sha256": sha256,
        "completeness": share,
        "expected_bars": expected_bars,
        "complete_bars": None if expected_bars is None else progress.complete_rows,
        "query": query,
    }
