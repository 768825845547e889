"""The dialect of /live (docs/LIVE.md): subscribe, unsubscribe, ping; errors to the sender alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from flask_stream.audience import Subscriber
from flask_stream.frames import text_frame
from flask_stream.hub import Hub
from flask_stream.names import ALLOWED_CHANNELS, BadName, LiveName, parse_channel
from runtime.clock import Clock

MAX_CHANNELS: Final = 64
SHOWN_SYMBOLS: Final = 20


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    op: Literal["subscribe", "unsubscribe", "ping"]
    ch: list[str] = []
    since: dict[str, int] = {}
    id: int | str | None = None


_request = msgspec.json.Decoder(_Request)
EXAMPLES: Final = (
    '{"op":"subscribe","ch":["kline:BTCUSDT:1m"]}',
    '{"op":"unsubscribe","ch":["kline:BTCUSDT:1m"]}',
    '{"op":"ping","id":1}',
)


class LiveSession:
    """One client of /live."""

    def __init__(self, client: Subscriber, hub: Hub, clock: Clock) -> None:
        self._client = client
        self._hub = hub
        self._clock = clock
        self._subscribed: dict[LiveName, None] = {}

    def on_text(self, text: str) -> None:
        """Do what the message asks, or say what is wrong with it."""
        try:
            request = _request.decode(text)
        except msgspec.MsgspecError as error:
            self._fail("bad_message", f"the message cannot be used: {error}", EXAMPLES)
            return
        if request.op == "ping":
            self._answer({"op": "pong", "id": request.id, "t": self._clock.now_ms()})
            return
        names = self._parse(request.ch)
        if names is None:
            return
        if request.op == "unsubscribe":
            for name in names:
                if self._subscribed.pop(name, 0) is None:
                    self._hub.unsubscribe(self._client, name, self._clock.now_ms())
        else:
            self._subscribe(names, request.since)

    def _subscribe(self, names: Sequence[LiveName], since: dict[str, int]) -> None:
        unknown = sorted({name.symbol for name in names if name.symbol and not self._hub.is_known(name.symbol)})
        if unknown:
            held = sorted(symbol for symbol, state in self._hub.symbols.items() if state.has_data)
            more = ["..."] if len(held) > SHOWN_SYMBOLS else []
            self._fail("unknown_symbol", f"no data of {', '.join(unknown)}", held[:SHOWN_SYMBOLS] + more)
            return
        if len({*self._subscribed, *names}) > MAX_CHANNELS:
            self._fail("too_many_channels", f"more than {MAX_CHANNELS} channels", MAX_CHANNELS)
            return
        now_ms = self._clock.now_ms()
        for name in dict.fromkeys(names):
            self._subscribed[name] = None
            self._hub.subscribe(self._client, name, since.get(str(name)), now_ms)

    def _parse(self, texts: list[str]) -> list[LiveName] | None:
        if not texts:
            self._fail("bad_message", '"ch" names no channel', ALLOWED_CHANNELS)
            return None
        try:
            return [parse_channel(text) for text in texts]
        except BadName as error:
            self._fail("unknown_channel", str(error), ALLOWED_CHANNELS)
            return None

    def on_gone(self) -> None:
        """End all subscriptions."""
        now_ms = self._clock.now_ms()
        for name in self._subscribed:
            self._hub.unsubscribe(self._client, name, now_ms)
        self._subscribed.clear()

    def _fail(self, code: str, message: str, allowed: object) -> None:
        self._answer({"op": "error", "code": code, "message": message, "allowed": allowed})

    def _answer(self, reply: dict[str, object]) -> None:
        self._client.deliver(text_frame(msgspec.json.encode(reply)), asked=True)
