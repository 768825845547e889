"""/api/v1/retention: the retention advisor over the collector's newest figures of the broker. Reads only."""

from __future__ import annotations

import math
import threading
from typing import Any, Final

from django.conf import settings
from django.http import HttpResponse, QueryDict
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from runtime.clock import SystemClock
from runtime.database import DatabaseError
from runtime.kafka_client import load_topics
from runtime.retention_advice import DEFAULT_MARGIN, Observed
from runtime.retention_observed import Day, worst
from runtime.retention_report import (
    DEFAULT_OUTAGE_MINUTES,
    MARGIN_BOUNDS,
    OUTAGE_MINUTES_BOUNDS,
    WHAT_IF,
    Question,
    report,
)
from webapp.api.native.problems import BadParameter, problem
from webapp.api.native.view import answer
from webapp.operations import collect, retention_schema
from webapp.operations.actions import OperatorView, owner
from webapp.operations.permission import IsOperator

FIRST_WAIT_S: Final = 3.0
#: A week of samples is read this seldom; after a failure sooner.
OBSERVE_EVERY_S: Final = 600.0
OBSERVE_AGAIN_S: Final = 30.0
MAX_DIGITS: Final = 15
FOLLOWED: Final = "select count(*) from market_symbol where is_followed"


class Experience:
    """The worst that was observed and the number of symbols, kept for a while; the last ones while the database is
    away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clock = SystemClock()
        self._next_at_s = -math.inf
        self._known: tuple[Observed, int | None] = Observed(), None
        self._days: dict[int, Day] = {}

    def get(self) -> tuple[Observed, int | None]:
        """Asks at most once each OBSERVE_EVERY_S; never raises for a database that is away."""
        # A week of samples takes a second or more: one request reads it, others must not fill all threads meanwhile.
        if self._clock.monotonic_s() >= self._next_at_s and self._lock.acquire(blocking=False):
            try:
                self._next_at_s = self._clock.monotonic_s() + self._read()
            finally:
                self._lock.release()
        return self._known

    def _read(self) -> float:
        try:
            with owner() as connection:
                observed = worst(connection, self._clock.now_ms(), self._days)
                row = connection.execute(FOLLOWED).fetchone()
                self._known = observed, row[0] if row else None
        except DatabaseError:
            return OBSERVE_AGAIN_S
        return OBSERVE_EVERY_S


EXPERIENCE: Final = Experience()


class RetentionView(OperatorView):
    """What retention keeps, and would keep."""

    permission_classes = [IsOperator]
    operation = retention_schema.RETENTION

    @extend_schema(**retention_schema.RETENTION)
    def get(self, request: Request) -> Response | HttpResponse:
        """What the broker's settings keep, what an outage costs, better settings, warnings; changes nothing."""
        query = request.query_params
        what_if = {name: value for name in WHAT_IF if (value := _setting(query, name)) is not None}
        minutes = _number(query, "outage_minutes", OUTAGE_MINUTES_BOUNDS, DEFAULT_OUTAGE_MINUTES)
        margin = _number(query, "margin", MARGIN_BOUNDS, DEFAULT_MARGIN)
        declared = load_topics()
        names = [topic.name for topic in declared.all()]
        topic = query.get("topic")
        if topic is not None and topic not in names:
            raise BadParameter("topic", "no such topic", names)
        seen = collect.newest_logs(FIRST_WAIT_S)
        if seen is None:
            return problem(503, "the broker has not answered yet", request.path)
        experience, symbols = EXPERIENCE.get()
        question = Question(
            symbols=symbols,
            observed=experience,
            outage_minutes=minutes,
            margin=margin,
            weight_per_minute=settings.ROOM.history_weight_per_minute,
            what_if=what_if,
        )
        found: dict[str, Any] = report(declared, seen.logs, seen.at_ms, question)
        if topic is not None:
            found["topics"] = [row for row in found["topics"] if row["topic"] == topic]
        return answer({"taken_at_ms": seen.at_ms, **found})


def _setting(query: QueryDict, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    least, most = WHAT_IF[name]
    if not (text.isascii() and text.isdigit()) or len(text) > MAX_DIGITS or not least <= int(text) <= most:
        raise BadParameter(name, f"{text!r} cannot be tried", {"minimum": least, "maximum": most})
    return int(text)


def _number(query: QueryDict, name: str, bounds: tuple[float, float], default: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text) if len(text) <= MAX_DIGITS else math.nan
    except ValueError:
        value = math.nan
    if not bounds[0] <= value <= bounds[1]:
        raise BadParameter(name, f"{text!r} is no such number", {"minimum": bounds[0], "maximum": bounds[1]})
    return value
