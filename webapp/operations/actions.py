"""/api/v1/operator/actions: what operators can have done, what it would do, and doing it.

Who asks must be an operator, and for anything that changes something come with a CSRF token (a bearer token does
without: no foreign page can send one) and `"confirm": true`. Everything else is refused with 403 and a row of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, RawPostDataException
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import CSRFCheck
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.response import Response

from runtime.clock import SystemClock
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.logs import get_logger
from runtime.operations import requests
from runtime.operations.catalogue import ACTIONS, BadArgument, parse
from runtime.operations.perform import Busy, take
from runtime.operations.preview import Place, preview
from webapp.api.limits import WeightLimiter, address_of
from webapp.api.native.problems import handle, problem
from webapp.api.native.view import NativeView, answer
from webapp.operations import schema
from webapp.operations.engines import one_line
from webapp.operations.permission import REFUSED, IsOperator, has_bearer, operator_of

MAX_BODY_BYTES: Final = 64 * 1024

log = get_logger(__name__)


@contextmanager
def owner() -> Iterator[Connection[TupleRow]]:
    """The one way to write: a connection as the owner, for this request. Raises DatabaseError."""
    timeout_ms = requests.STATEMENT_TIMEOUT_MS
    with connect(settings.ROOM.database_url, "webapp-operator", statement_timeout_ms=timeout_ms) as connection:
        yield connection


class OperatorView(NativeView):
    """A view for operators; the database away is a 503. It has a limit of its own: operators see how things stand
    also while somebody at their address has used up its weight."""

    limiter = WeightLimiter(settings.ROOM.api_weight_per_minute, SystemClock())

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Any]:
        """Errors of the owner's connection and of arguments as problems."""
        return _handle


def _handle(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    path = context["request"].path
    match error:
        case DatabaseError():
            return problem(503, "the database does not answer; try again", path)
        case BadArgument():
            return problem(400, error.detail, path, parameter=error.name, allowed=error.allowed)
        case Busy():
            return problem(409, str(error), path)
    return handle(error, context)


class ActionsView(OperatorView):
    """The catalogue and the newest requests."""

    permission_classes = [IsOperator]

    @extend_schema(**schema.ACTIONS)
    def get(self, request: Request) -> Response:
        """What can be asked for, and what was. Sets the CSRF cookie that a request needs."""
        get_token(request._request)
        with owner() as connection:
            newest = [row.as_json() for row in requests.recent(connection)]
        catalogue = [
            {
                "action": action.action,
                "effect": action.effect,
                "command": action.command,
                "arguments": [
                    {"name": one.name, "type": one.type, "required": one.required, "help": one.help}
                    for one in action.arguments
                ],
            }
            for action in ACTIONS.values()
        ]
        return answer({"actions": catalogue, "recent": newest})


class PreviewView(OperatorView):
    """What an action would do."""

    http_method_names = ["post", "options"]
    permission_classes = [IsOperator]

    @extend_schema(**schema.PREVIEW)
    def post(self, request: Request, action: str) -> Response | HttpResponse:
        """Says what would happen; nothing does."""
        if action not in ACTIONS:
            return _unknown(request, action)
        arguments = parse(action, _body(request).get("arguments", {}))
        place = Place(settings.ROOM.kafka_bootstrap_servers, settings.ROOM.data_dir)
        with owner() as connection:
            return answer(
                {"action": action, "arguments": arguments, "effect": preview(connection, action, arguments, place)}
            )


class PerformView(OperatorView):
    """Asking for an action."""

    http_method_names = ["post", "options"]

    @extend_schema(**schema.PERFORM)
    def post(self, request: Request, action: str) -> Response | HttpResponse:
        """Writes the request down and has it done; 202 with its number, under which `recent` tells what became of
        it."""
        by = operator_of(request._request)
        if by is None:
            return _refuse(request, action, None, REFUSED)
        lacking = None if has_bearer(request._request) else _csrf_problem(request._request)
        if lacking is not None:
            return _refuse(
                request, action, None, f"CSRF token: {lacking} (header X-CSRFToken, from the cookie csrftoken)"
            )
        body = _body(request)
        if action not in ACTIONS:
            return _unknown(request, action)
        if body.get("confirm") is not True:
            return _refuse(request, action, body.get("arguments"), 'it is not confirmed: send "confirm": true')
        arguments = parse(action, body.get("arguments", {}))
        with owner() as connection:
            done = take(connection, action, arguments, by, data_dir=settings.ROOM.data_dir)
        shown = answer({"id": done.id, "state": done.state, "detail": done.detail})
        shown.status_code = 202
        return shown


def _refuse(request: Request, action: str, arguments: object, why: str) -> HttpResponse:
    """403, and a row that says who asked and why not. The body of a stranger is not read, let alone kept."""
    by = address_of(request._request)
    try:
        with owner() as connection:
            requests.refuse(connection, action, arguments, by, why)
    except DatabaseError as error:
        # It is refused all the same; the log tells of it.
        log.warning("operator_action_refused", action=action[:100], by=by, reason=why, not_written=one_line(error))
    return problem(403, why, request.path)


def _unknown(request: Request, action: str) -> HttpResponse:
    return problem(404, f"there is no action {action[:100]!r}", request.path, allowed=list(ACTIONS))


def _body(request: Request) -> dict[str, Any]:
    """The JSON object of the request. Raises BadArgument, and the framework's ParseError."""
    # Read before it is judged: an answer in front of an unread body would reach nobody.
    try:
        size = len(request._request.body)
    except RawPostDataException:
        # The CSRF check has looked for its token in a form.
        raise UnsupportedMediaType(request.content_type) from None
    if size > MAX_BODY_BYTES:
        raise BadArgument("body", "is too large", {"bytes": MAX_BODY_BYTES})
    try:
        data = request.data
        # What the audit and the answer could not be written with: half a character, a number without end.
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise BadArgument("body", "is nested too deeply") from None
    except ValueError:
        raise BadArgument("body", "holds text that is no Unicode, or a number that is too large") from None
    if not isinstance(data, dict):
        raise BadArgument("body", "is no JSON object", {"arguments": {}, "confirm": True})
    return data


def _csrf_problem(request: HttpRequest) -> str | None:
    """Why the framework's own check fails; None when it does not."""
    check = CSRFCheck(lambda _: HttpResponse())
    check.process_request(request)
    reason = check.process_view(request, lambda _: HttpResponse(), (), {})
    return None if reason is None else str(reason)
