"""/api/v1/status, /api/v1/operator and its history: the newest snapshot, from memory."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from market.interval import DAY_MS, HOUR_MS
from runtime.clock import SystemClock
from webapp.api.native import parameters
from webapp.api.native import schema as native_schema
from webapp.api.native.problems import BadParameter, problem
from webapp.api.native.view import NativeView, answer
from webapp.operations import collect, figures_schema, log_book
from webapp.operations.actions import OperatorView, owner
from webapp.operations.permission import IsOperator, operator_of

#: A request waits so long for the first snapshot of a process that has just begun.
FIRST_WAIT_S: Final = 3.0
#: Figures older than so many rounds are no longer those of now.
STALE_ROUNDS: Final = 6
MAX_POINTS: Final = 600
MAX_SUBJECT_CHARACTERS: Final = 200
READER_FIELDS: Final = ("room", "topic", "partition", "lag_records", "lag_seconds", "headroom_seconds")
CLOCK: Final = SystemClock()
NOTHING_YET: Final = "the first figures are still being collected"


def newest() -> tuple[collect.Newest | None, str | None]:
    """The newest snapshot, and what speaks against it: there is none yet, or it is old."""
    found = collect.newest(FIRST_WAIT_S)
    if found is None:
        return None, NOTHING_YET
    age_ms = CLOCK.now_ms() - found.snapshot.taken_at_ms
    if age_ms > STALE_ROUNDS * settings.ROOM.operator_refresh_ms:
        return found, f"these figures are {age_ms // 1000} s old"
    return found, None


class StatusView(NativeView):
    """The verdict."""

    operation = native_schema.STATUS

    @extend_schema(**native_schema.STATUS)
    def get(self, request: Request) -> Response:
        """Healthy, degraded or losing data, and why; lag of each reader. Unknown is null."""
        found, against = newest()
        if found is None:
            return answer({"verdict": "degraded", "reason": against, "readers": []})
        shown = found.snapshot
        readers = [{name: getattr(row, name) for name in READER_FIELDS} for row in shown.readers]
        word, reason = shown.verdict, shown.reason
        if against is not None:
            word, reason = ("degraded" if word == "healthy" else word), f"{against}; {reason}"
        if operator_of(request._request) is None:
            # What an engine said names hosts, ports and users.
            for engine in shown.engines:
                reason = reason.replace(f": {engine.error}", "")
        return answer({"verdict": word, "reason": reason, "readers": readers})


class OperatorFiguresView(OperatorView):
    """All figures."""

    permission_classes = [IsOperator]

    @extend_schema(**figures_schema.FIGURES)
    def get(self, request: Request) -> HttpResponse:
        """The newest snapshot: at most a few seconds old, whatever is away."""
        found, against = newest()
        if found is None:
            return problem(503, NOTHING_YET, request.path)
        body = found.json
        if against is not None:
            old = msgspec.structs.replace(
                found.snapshot,
                verdict="degraded" if found.snapshot.verdict == "healthy" else found.snapshot.verdict,
                reason=f"{against}; {found.snapshot.reason}",
            )
            body = msgspec.json.encode(old)
        return HttpResponse(body, content_type="application/json", headers={"Cache-Control": "no-store"})


class OperatorHistoryView(OperatorView):
    """Figures of one subject over time."""

    permission_classes = [IsOperator]
    operation = figures_schema.HISTORY

    @extend_schema(**figures_schema.HISTORY)
    def get(self, request: Request) -> Response:
        """At most MAX_POINTS points, the last hour by default."""
        query = request.query_params
        subject = query.get("subject", "")
        if not subject or len(subject) > MAX_SUBJECT_CHARACTERS or "\0" in subject:
            allowed = ["topic:NAME", "reader:ROOM:TOPIC/PARTITION", "room:NAME", "system"]
            raise BadParameter("subject", "a subject is needed", allowed)
        longest_ms = settings.ROOM.operator_history_days * DAY_MS
        from_ms, to_ms = parameters.time_range(query, CLOCK.now_ms() + 1, HOUR_MS, longest_ms)
        with owner() as connection:
            points: list[dict[str, Any]] = log_book.history(connection, subject, from_ms, to_ms, MAX_POINTS)
        return answer({"subject": subject, "points": points})
