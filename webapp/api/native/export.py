"""/api/v1/export: rows in bulk, streamed, and the manifests of the files."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.conf import settings
from django.http import HttpResponseBase, QueryDict, StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from market.errors import UnknownInterval
from market.odd_intervals import EXCHANGE_INTERVALS, grid_of
from runtime.clock import SystemClock
from runtime.database import DatabaseError, connect
from webapp.api.native import parameters
from webapp.api.native.export_schema import EXPORT, MANIFEST
from webapp.api.native.problems import BadParameter, TooManyRequests, problem
from webapp.api.native.view import NativeView, answer
from webapp.export import archive_layout
from webapp.export.archive_layout import Unit
from webapp.export.encoders import Format, Unrepresentable, encoder_for
from webapp.export.manifest import described
from webapp.export.pieces import Snapshot
from webapp.export.stream import Exports, ExportStream
from webapp.export.tables import NO_TRADES, ExportQuery, Table, columns_of

CLOCK: Final = SystemClock()
BUSY_RETRY_S: Final = 5
EXPORTS: Final = Exports(settings.ROOM.web_max_exports)
LAYOUTS: Final = ("table", "archive")


class ExportView(NativeView):
    """Rows as a file."""

    http_method_names = ["get", "options"]
    weight = 50
    operation = EXPORT

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """`format` and Accept name the file's format, not that of the problem that may be answered."""
        renderer = self.get_renderers()[0]
        return renderer, str(renderer.media_type)

    @extend_schema(**EXPORT)
    def get(self, request: Request) -> HttpResponseBase:
        """The rows of the range as one file, streamed: all of one moment, forming bars included. `Link` and
        `X-Export-Id` lead to the manifest, which is there once the file is through. A file that was broken off has no
        end: ask again with `start` after the last whole row. At most WEB_MAX_EXPORTS at a time, else 429."""
        query, kind, layout, unit = asked(request.query_params)
        if not EXPORTS.begin():
            raise TooManyRequests(BUSY_RETRY_S)
        columns = columns_of(query) if layout == "table" else archive_layout.columns(unit)
        about = {**described(query, kind, layout), "source": settings.ROOM.source}
        if layout == "archive":
            about["unit"] = unit.value
        try:
            export_id, stream = _started(query, kind, columns, about, has_header=layout == "table")
        except DatabaseError:
            return problem(503, "the database does not answer; try again", request.path)
        except Unrepresentable as error:
            return problem(422, str(error), request.path)
        response = StreamingHttpResponse(stream, content_type=kind.content_type)
        name = "-".join(part for part in (query.symbol, query.interval or query.table.value) if part)
        response["Content-Disposition"] = f'attachment; filename="{name}.{kind.value}"'
        response["Cache-Control"] = "no-store"
        response["X-Export-Id"] = export_id
        response["Link"] = f'</api/v1/export/manifests/{export_id}>; rel="describedby"; type="application/json"'
        return response


class ManifestView(NativeView):
    """What a finished export says of its file."""

    @extend_schema(**MANIFEST)
    def get(self, request: Request, export_id: str) -> HttpResponseBase:
        """Rows, SHA-256 of the bytes, completeness and query of an export of this server that is through."""
        try:
            found = EXPORTS.manifest(export_id)
        except KeyError:
            return problem(404, "no such export; the newest 1,000 are kept while the server runs", request.path)
        if found is None:
            return problem(409, "the export still runs, or has been broken off", request.path)
        response: Response = answer(found)
        return response


def asked(query: QueryDict) -> tuple[ExportQuery, Format, str, Unit]:
    """What the parameters ask for. Raises BadParameter."""
    table = query.get("table", "klines")
    if table not in tuple(Table):
        detail = NO_TRADES if table == "trades" else f"{table!r} is not a table that can be exported"
        raise BadParameter("table", detail, [*Table])
    kind = query.get("format", Format.CSV)
    if kind not in tuple(Format):
        raise BadParameter("format", f"{kind!r} is not a format", [*Format])
    layout, unit = query.get("layout", "table"), query.get("unit", "ms")
    if layout not in LAYOUTS:
        raise BadParameter("layout", f"{layout!r} is not a layout", list(LAYOUTS))
    if unit not in ("ms", "us"):
        raise BadParameter("unit", f"{unit!r} is not a unit of time", ["ms", "us"])
    if layout == "archive" and (table != Table.KLINES or kind not in (Format.CSV, Format.CSV_GZ)):
        raise BadParameter("layout", "the archive's layout is for klines as csv or csv.gz", list(LAYOUTS))
    interval: str | None = None
    if table == Table.KLINES:
        interval = _interval(query)
    symbol = parameters.symbol(query) if table == Table.KLINES else parameters.optional_symbol(query)
    start_ms, end_ms = parameters.span_ms(query)
    found = ExportQuery(
        table=Table(table),
        symbol=symbol,
        interval=interval,
        start_ms=start_ms,
        end_ms=end_ms,
        is_closed_only=layout == "archive",
    )
    return found, Format(kind), layout, Unit(unit)


def _interval(query: QueryDict) -> str:
    text = query.get("interval")
    try:
        return grid_of(text or "").interval
    except UnknownInterval:
        detail = f"{text!r} is not an interval (they are case-sensitive)" if text else "klines need an interval"
        raise BadParameter("interval", detail, list(EXCHANGE_INTERVALS)) from None


def _started(
    query: ExportQuery, kind: Format, columns: Any, about: dict[str, Any], *, has_header: bool
) -> tuple[str, ExportStream]:
    """A stream whose first piece has been read. It owns the place that was taken, also when this fails."""
    export_id = uuid.uuid4().hex
    try:
        url = settings.ROOM.analyst_database_url or settings.ROOM.database_url
        timeout_ms = settings.STATEMENT_TIMEOUT_MS["reader"]
        connection = connect(url, "webapp export", statement_timeout_ms=timeout_ms)
    except BaseException:
        EXPORTS.end()
        raise
    try:
        snapshot = Snapshot(connection, query, columns)
        stream = ExportStream(EXPORTS, export_id, snapshot, encoder_for(kind, columns, header=has_header), about)
        stream.start(CLOCK, settings.ROOM.web_export_max_s)
    except BaseException:
        connection.close()
        EXPORTS.end()
        raise
    return export_id, stream
