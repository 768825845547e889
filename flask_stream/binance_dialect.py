"""Binance's own dialect on /ws and /stream (binance.md 2): control messages, replies and error codes as there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from flask_stream.audience import Subscriber
from flask_stream.frames import text_frame
from flask_stream.hub import Hub
from flask_stream.names import BadName, StreamName, parse_stream

MAX_STREAMS: Final = 1024
MAX_ID_CHARS: Final = 36

_UNKNOWN_PROPERTY: Final = 0
_NOT_BOOLEAN: Final = 1
_INVALID_REQUEST: Final = 2
_INVALID_JSON: Final = 3


class _Refused(Exception):
    """The request gets an error reply."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class BinanceSession:
    """One client of /ws or /stream; `combined` wraps each event with its stream's name."""

    def __init__(self, client: Subscriber, hub: Hub, streams: Sequence[str], *, combined: bool) -> None:
        self._client = client
        self._hub = hub
        self._combined = combined
        self._subscribed: dict[StreamName, None] = {}
        #: Names in the URL are not validated by the exchange (binance.md 0.15): unknown ones stay silent.
        for text in streams[:MAX_STREAMS]:
            try:
                self._begin(parse_stream(text))
            except BadName:
                continue

    def on_text(self, text: str) -> None:
        """Answer one control message."""
        request_id: object = None
        try:
            try:
                request = msgspec.json.decode(text)
            except msgspec.MsgspecError as error:
                raise _Refused(_INVALID_JSON, f"Invalid JSON: {error}") from error
            if not isinstance(request, dict):
                raise _Refused(_INVALID_REQUEST, "Invalid request: request must be an object")
            request_id = _checked_id(request)
            unknown = sorted(set(request) - {"method", "params", "id"})
            if unknown:
                raise _Refused(_INVALID_REQUEST, f"Invalid request: unknown field {unknown[0]}")
            result = self._do(request.get("method"), request.get("params"))
        except _Refused as refused:
            self._answer({"error": {"code": refused.code, "msg": refused.message}, "id": request_id})
        else:
            self._answer({"result": result, "id": request_id})

    def on_gone(self) -> None:
        """End all streams."""
        for name in self._subscribed:
            self._hub.unsubscribe_stream(self._client, name)
        self._subscribed.clear()

    def _do(self, method: object, params: object) -> object:
        if method is None:
            raise _Refused(_INVALID_REQUEST, "Invalid request: missing field `method`")
        if method == "LIST_SUBSCRIPTIONS":
            return [str(name) for name in self._subscribed]
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            names = self._streams(params)
            if method == "SUBSCRIBE":
                if len({*self._subscribed, *names}) > MAX_STREAMS:
                    raise _Refused(_INVALID_REQUEST, f"Invalid request: more than {MAX_STREAMS} streams")
                for name in names:
                    self._begin(name)
            else:
                for name in names:
                    if self._subscribed.pop(name, 0) is None:
                        self._hub.unsubscribe_stream(self._client, name)
            return None
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return self._property(method == "SET_PROPERTY", params)
        raise _Refused(
            _INVALID_REQUEST,
            f"Invalid request: unknown variant {method!r}, expected one of SUBSCRIBE, UNSUBSCRIBE, "
            "LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY",
        )

    def _streams(self, params: object) -> list[StreamName]:
        if not isinstance(params, list) or not all(isinstance(text, str) for text in params):
            raise _Refused(_INVALID_REQUEST, "Invalid request: params must be a list of stream names")
        try:
            return [parse_stream(text) for text in params]
        except BadName as error:
            raise _Refused(_INVALID_REQUEST, f"Invalid request: {error}") from error

    def _property(self, is_set: bool, params: object) -> bool | None:
        if not isinstance(params, list) or len(params) != 1 + is_set or not isinstance(params[0], str):
            raise _Refused(_INVALID_REQUEST, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise _Refused(_UNKNOWN_PROPERTY, "Unknown property")
        if not is_set:
            return self._combined
        if not isinstance(params[1], bool):
            raise _Refused(_NOT_BOOLEAN, "Invalid value type: expected Boolean")
        names = list(self._subscribed)
        self.on_gone()
        self._combined = params[1]
        for name in names:
            self._begin(name)
        return None

    def _begin(self, name: StreamName) -> None:
        self._subscribed[name] = None
        self._hub.subscribe_stream(self._client, name, combined=self._combined)

    def _answer(self, reply: dict[str, object]) -> None:
        self._client.deliver(text_frame(msgspec.json.encode(reply)), asked=True)


def _checked_id(request: dict[str, object]) -> object:
    """The request's id: a signed 64-bit integer, up to 36 characters, or null."""
    request_id = request.get("id")
    is_number = isinstance(request_id, int) and not isinstance(request_id, bool) and -(2**63) <= request_id < 2**63
    is_text = isinstance(request_id, str) and len(request_id) <= MAX_ID_CHARS
    if request_id is not None and not is_number and not is_text:
        raise _Refused(_INVALID_REQUEST, "Invalid request: id must be an integer, a string or null")
    return request_id
