"""Asking for streams on one connection: few messages, within the exchange's 5 a second, each answer checked. Pure.

`result: null` proves only that the request was read (binance.md 0.15); LIST_SUBSCRIPTIONS then shows what the
exchange believes, and silence.py whether data come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

#: Names in one message. 200 names of 30 characters stay below 8 KB.
NAMES_PER_MESSAGE = 200
#: The exchange cuts at more than 5 a second, our answers to its pings included; we stay at 3.
MESSAGE_INTERVAL_S = 0.34
#: No answer for so long, or this many refusals: the connection is given up.
REPLY_TIMEOUT_S = 10.0
MAX_ATTEMPTS = 3


class _Error(msgspec.Struct, frozen=True):
    code: int
    msg: str = ""


class ControlFrame(msgspec.Struct, frozen=True):
    """A reply (`id` with `result`, or an error in either of its two shapes) or an event without a stream (`e`)."""

    id: int | str | None = None
    result: list[str] | bool | None = None
    error: _Error | None = None
    code: int | None = None
    msg: str = ""
    event: str = msgspec.field(name="e", default="")

    @property
    def error_text(self) -> str:
        """What the exchange complains about; empty for a success."""
        if self.error is not None:
            return f"{self.error.code} {self.error.msg}"
        return f"{self.code} {self.msg}" if self.code is not None else ""


_control = msgspec.json.Decoder(ControlFrame)


def decode_control(frame: bytes) -> ControlFrame | None:
    """A control frame, or None when it is none that the protocol knows."""
    try:
        control = _control.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    is_reply = control.id is not None or control.error_text != ""
    return control if is_reply or control.event else None


class SubscriptionFailed(Exception):
    """The exchange refused or did not answer; the connection is of no use."""


@dataclass
class _Request:
    method: str
    names: tuple[str, ...]
    attempt: int = 1
    sent_at_s: float | None = None


class Subscriptions:
    """The conversation of one connection, from the first SUBSCRIBE until all wanted streams are listed.

    The caller sends what `next_message` gives when `wait_s` is over, and passes on every control frame.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._wanted = frozenset(names)
        self._queue = [_Request("SUBSCRIBE", tuple(part)) for part in _parts(names)]
        self._open: dict[int, _Request] = {}
        self._next_id = 1
        self._next_send_s = 0.0
        self._list_attempts = 0
        self.is_settled = not self._wanted

    def change(self, added: Sequence[str], removed: Sequence[str]) -> None:
        """From now on these too, and those no more: asked for at the same pace, then compared with the list again."""
        if not added and not removed:
            return
        self._wanted = (self._wanted | frozenset(added)) - frozenset(removed)
        self._queue.extend(_Request("SUBSCRIBE", tuple(part)) for part in _parts(added))
        self._queue.extend(_Request("UNSUBSCRIBE", tuple(part)) for part in _parts(removed))
        self._list_attempts = 0
        self.is_settled = False

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until `next_message` has one, or until an answer is overdue; None when nothing is left to do."""
        if self._queue:
            return max(0.0, self._next_send_s - now_s)
        if self._open:
            return max(0.0, self._oldest_sent_s() + REPLY_TIMEOUT_S - now_s)
        return None

    def next_message(self, now_s: float) -> str | None:
        """The next message to send, if its time has come. Raises SubscriptionFailed when an answer is overdue."""
        if self._open and now_s >= self._oldest_sent_s() + REPLY_TIMEOUT_S:
            raise SubscriptionFailed(f"no answer to SUBSCRIBE within {REPLY_TIMEOUT_S:g} s")
        if not self._queue or now_s < self._next_send_s:
            return None
        request = self._queue.pop(0)
        request.sent_at_s = now_s
        self._next_send_s = now_s + MESSAGE_INTERVAL_S
        request_id, self._next_id = self._next_id, self._next_id + 1
        self._open[request_id] = request
        body: dict[str, object] = {"method": request.method, "id": request_id}
        if request.names:
            body["params"] = list(request.names)
        return msgspec.json.encode(body).decode()

    def on_reply(self, control: ControlFrame) -> None:
        """An answer of the exchange. Raises SubscriptionFailed after MAX_ATTEMPTS refusals of the same request."""
        request = self._open.pop(control.id, None) if isinstance(control.id, int) else None
        if request is None:
            if control.error_text:
                raise SubscriptionFailed(f"the exchange answered: {control.error_text}")
            return
        if control.error_text:
            if request.attempt >= MAX_ATTEMPTS:
                raise SubscriptionFailed(f"{request.method} refused {request.attempt} times: {control.error_text}")
            self._queue.append(_Request(request.method, request.names, request.attempt + 1))
        elif request.method == "LIST_SUBSCRIPTIONS":
            self._compare(control.result if isinstance(control.result, list) else [])
        if not self._queue and not self._open and not self.is_settled:
            self._queue.append(_Request("LIST_SUBSCRIPTIONS", ()))

    def _compare(self, listed: list[str]) -> None:
        missing, excess = sorted(self._wanted.difference(listed)), sorted(set(listed) - self._wanted)
        if not missing and not excess:
            self.is_settled = True
            return
        self._list_attempts += 1
        if self._list_attempts >= MAX_ATTEMPTS:
            wrong = f"{len(missing)} streams not listed after SUBSCRIBE: {', '.join(missing[:5])}"
            if not missing:
                wrong = f"{len(excess)} streams listed after UNSUBSCRIBE: {', '.join(excess[:5])}"
            raise SubscriptionFailed(wrong)
        self._queue.extend(_Request("SUBSCRIBE", tuple(part)) for part in _parts(missing))
        self._queue.extend(_Request("UNSUBSCRIBE", tuple(part)) for part in _parts(excess))

    def _oldest_sent_s(self) -> float:
        return min(request.sent_at_s or 0.0 for request in self._open.values())


def unsubscribe_message(names: Sequence[str]) -> str:
    """One UNSUBSCRIBE for all names, for a clean leave."""
    return msgspec.json.encode({"method": "UNSUBSCRIBE", "params": list(names), "id": 0}).decode()


def _parts(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + NAMES_PER_MESSAGE] for start in range(0, len(names), NAMES_PER_MESSAGE)]
