"""The reads of /api/v1."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from market.interval import DAY_MS, HOUR_MS, Interval
from runtime.clock import SystemClock
from webapp import ledger_selectors as ledger
from webapp.api.native import parameters, schema
from webapp.api.native.problems import BadParameter
from webapp.api.native.view import NativeView, answer
from webapp.forming_bars import native_klines_to_now
from webapp.kline_selectors import NATIVE_COLUMNS, Page
from webapp.proof_selectors import MAX_HOURS, REVISION_COLUMNS, audited, completeness, klines_known_at, revisions
from webapp.selectors import Rows, market_list

CLOCK: Final = SystemClock()
DEFAULT_ROWS: Final = 500
MAX_ROWS: Final = 1_000
MAX_STRIP_BARS: Final = 3_000
MAX_COMPLETENESS_MS: Final = 31 * DAY_MS
MAX_AUDIT_MS: Final = 31 * DAY_MS
MAX_GAPS_MS: Final = 366 * DAY_MS


class KlinesView(NativeView):
    """Candles with their provenance."""

    operation = schema.KLINES

    @extend_schema(**schema.KLINES)
    def get(self, request: Request) -> Response:
        """The newest candles before `end` (or before `cursor`), oldest first, the forming one last; page back with
        `next_cursor`. `revision` -1: made of seconds, not stored yet. With `known_at` the closed candles as they stood
        at that moment."""
        query = request.query_params
        interval = parameters.interval(query)
        symbol = parameters.symbol(query)
        limit = parameters.limit(query, DEFAULT_ROWS, MAX_ROWS)
        start_ms, end_ms = parameters.span_ms(query)
        before = [time_ms for time_ms in (end_ms, parameters.cursor(query)) if time_ms is not None]
        last_ms = min(before) - 1 if before else None
        known_at_ms = parameters.known_at_ms(query, interval)
        page = Page(start_ms, last_ms, limit, oldest_first=False)
        rows: Rows = []
        if known_at_ms is not None:
            rows = klines_known_at(symbol, interval, page, known_at_ms)
        elif last_ms is None or last_ms >= 0:
            rows = native_klines_to_now(symbol, interval, page)
        body: dict[str, Any] = {"symbol": symbol, "interval": interval.value, "columns": NATIVE_COLUMNS, "rows": rows}
        body["next_cursor"] = str(rows[0][0]) if len(rows) == limit else None
        is_settled = last_ms is not None and _is_over(symbol, interval, last_ms, rows)
        return answer(body, is_settled=is_settled)


class SymbolsView(NativeView):
    """The market list."""

    weight = 10
    operation = schema.SYMBOLS

    @extend_schema(**schema.SYMBOLS)
    def get(self, request: Request) -> Response:
        """The followed symbols with steps, last price, 24 h figures and a sparkline."""
        return answer({"time_ms": CLOCK.now_ms(), "symbols": market_list()})


class GapsView(NativeView):
    """The gap ledger."""

    operation = schema.GAPS

    @extend_schema(**schema.GAPS)
    def get(self, request: Request) -> Response:
        """Gaps that overlap the range, oldest first (at most 5,000: `is_cut` says that there are more, ask for less
        of the range); by default the last day."""
        symbol, from_ms, to_ms = _range(request, DAY_MS, MAX_GAPS_MS)
        gaps, is_cut = ledger.gaps(symbol, from_ms, to_ms)
        return answer({"from_ms": from_ms, "to_ms": to_ms, "gaps": gaps, "is_cut": is_cut})


class MinutesView(NativeView):
    """The ledger strip."""

    operation = schema.MINUTES

    @extend_schema(**schema.MINUTES)
    def get(self, request: Request) -> Response:
        """Each bar of the range: complete, repaired, gap or forming, with the gaps behind it and their causes."""
        query = request.query_params
        interval = parameters.interval(query, Interval.M1, stored=True)
        symbol = parameters.symbol(query)
        longest_ms = MAX_STRIP_BARS * interval.length_ms
        end_ms = ledger.newest_ms(symbol) or CLOCK.now_ms()
        from_ms, to_ms = parameters.time_range(query, end_ms, min(longest_ms, 1000 * interval.length_ms), longest_ms)
        rows, gaps = ledger.minutes(symbol, interval, from_ms, to_ms)
        body: dict[str, Any] = {"symbol": symbol, "interval": interval.value, "from_ms": from_ms, "to_ms": to_ms}
        body["complete_since_ms"] = ledger.complete_since_ms(symbol)
        return answer({**body, "columns": ledger.MINUTE_COLUMNS, "rows": rows, "gaps": gaps})


class CompletenessView(NativeView):
    """Seconds stored and missing."""

    weight = 20
    operation = schema.COMPLETENESS

    @extend_schema(**schema.COMPLETENESS)
    def get(self, request: Request) -> Response:
        """Seconds by whole hour: expected, from where, absent, open; by default the last day. Counted at
        `updated_at_ms`: the running hour lies some seconds behind."""
        symbol, from_ms, to_ms = _range(request, DAY_MS, MAX_COMPLETENESS_MS)
        hours = completeness(symbol, from_ms, to_ms)
        if len(hours) > MAX_HOURS:
            detail = "too many hours of too many symbols; name a symbol or take a shorter range"
            raise BadParameter("from", detail, {"maximum_hours": MAX_HOURS})
        return answer({"hours": hours})


class AuditView(NativeView):
    """Our minutes against the exchange's own."""

    weight = 20
    operation = schema.AUDIT

    @extend_schema(**schema.AUDIT)
    def get(self, request: Request) -> Response:
        """Counts by state of the range, and its minutes, newest first (at most 2,000); by default the last day."""
        state = parameters.audit_state(request.query_params)
        symbol, from_ms, to_ms = _range(request, DAY_MS, MAX_AUDIT_MS)
        counts, minutes = audited(symbol, from_ms, to_ms, state)
        # Stored as JSON already: taken over as it stands.
        rows = [{**minute, "differences": msgspec.Raw(minute["differences"].encode())} for minute in minutes]
        return answer({"from_ms": from_ms, "to_ms": to_ms, "counts": counts, "minutes": rows})


class RevisionsView(NativeView):
    """What candles were before they were revised."""

    operation = schema.REVISIONS

    @extend_schema(**schema.REVISIONS)
    def get(self, request: Request) -> Response:
        """Every revision of the revised candles of the range, oldest first, the present one last (the newest 2,000);
        by default the last day."""
        query = request.query_params
        interval = parameters.interval(query, Interval.M1, stored=True)
        symbol = parameters.symbol(query)
        end_ms = ledger.newest_ms(symbol) or CLOCK.now_ms()
        from_ms, to_ms = parameters.time_range(query, end_ms, DAY_MS, MAX_GAPS_MS)
        rows = revisions(symbol, interval, from_ms, to_ms)
        body = {"symbol": symbol, "interval": interval.value, "from_ms": from_ms, "to_ms": to_ms}
        return answer({**body, "columns": REVISION_COLUMNS, "rows": rows})


class CheckpointsView(NativeView):
    """How far reading and storing is."""

    operation = schema.CHECKPOINTS

    @extend_schema(**schema.CHECKPOINTS)
    def get(self, request: Request) -> Response:
        """Next offset of each partition, watermark of each symbol."""
        return answer({"checkpoints": ledger.checkpoints(), "watermarks": ledger.watermarks()})


def _is_over(symbol: str, interval: Interval, last_ms: int, rows: Rows) -> bool:
    """Whether every bar up to the one of `last_ms` is closed and stored."""
    newest = dict(zip(NATIVE_COLUMNS, rows[-1], strict=True)) if rows else {"is_closed": True, "revision": 0}
    watermark_ms = ledger.newest_ms(symbol)
    over_ms = interval.floor(last_ms) + interval.length_ms
    return (
        bool(newest["is_closed"]) and newest["revision"] >= 0 and watermark_ms is not None and over_ms <= watermark_ms
    )


def _range(request: Request, default_ms: int, maximum_ms: int) -> tuple[str | None, int, int]:
    query = request.query_params
    symbol = parameters.optional_symbol(query)
    newest_ms = ledger.newest_ms(symbol)
    # The running hour belongs to the default range as far as it has come.
    end_ms = CLOCK.now_ms() if newest_ms is None else newest_ms + HOUR_MS
    from_ms, to_ms = parameters.time_range(query, end_ms, default_ms, maximum_ms)
    return symbol, from_ms, to_ms
