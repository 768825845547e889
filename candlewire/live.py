"""The live messages of a Candlewire server (docs/LIVE.md) as an iterator that outlives its connections."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from candlewire.errors import Refused, Unavailable
from runtime.clock import new_random, sleep_s
from runtime.retry import Backoff

#: The server takes messages of 4096 bytes; so many channels with their positions fit one.
CHANNELS_A_MESSAGE: Final = 24
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024


class Times(msgspec.Struct, frozen=True):
    """When, ms UTC: the exchange's event time, received by the producer, appended by Kafka, relayed. None = unknown."""

    event: int | None = None
    received: int | None = None
    appended: int | None = None
    relayed: int | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a channel. `seq` counts up within it; `reset` voids what came before, a `snapshot` follows.

    `data` is as docs/LIVE.md says for the channel; money is text."""

    channel: str = msgspec.field(name="ch")
    seq: int
    kind: Literal["snapshot", "update", "reset"]
    times: Times = msgspec.field(name="t", default=Times())
    data: Any = None


class _Answer(msgspec.Struct):
    """Anything the server says; only refusals matter beside messages."""

    ch: str | None = None
    op: str | None = None
    code: str = ""
    message: str = ""
    allowed: Any = None


def live_messages(
    url: str, channels: Sequence[str], since: Mapping[str, int], timeout_s: float, tries: int
) -> Generator[Message, None, None]:
    """Messages of the channels, without end. A lost connection is made again and resumed after the last `seq` of each.

    Raises Refused for a channel that is none, Unavailable after `tries` connections in a row without a message."""
    last, retries, failures = dict(since), Backoff(new_random()), 0
    while True:
        reason = "the server closed the connection"
        try:
            with connect(url, open_timeout=timeout_s, close_timeout=1, max_size=MAX_MESSAGE_BYTES) as connection:
                _subscribe(connection, channels, last)
                for text in connection:
                    message = _message(text)
                    if message is not None:
                        last[message.channel] = message.seq
                        failures = 0
                        retries.reset()
                        yield message
        except InvalidStatus as error:
            reason = f"HTTP {error.response.status_code}"
            if error.response.status_code == 403:
                raise Refused("url", f"{url} does not let this program in", status=403) from error
        except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        failures += 1
        if failures >= tries:
            raise Unavailable(f"{url}: {reason}, {failures} times in a row")
        sleep_s(retries.next_delay_s())


def _subscribe(connection: ClientConnection, channels: Sequence[str], last: Mapping[str, int]) -> None:
    for first in range(0, len(channels), CHANNELS_A_MESSAGE):
        some = channels[first : first + CHANNELS_A_MESSAGE]
        since = {channel: last[channel] for channel in some if channel in last}
        connection.send(msgspec.json.encode({"op": "subscribe", "ch": some, "since": since}).decode())


def _message(text: str | bytes) -> Message | None:
    """The message; None for what is none. Raises Refused."""
    answer = msgspec.json.decode(text, type=_Answer)
    if answer.op == "error":
        raise Refused("channels", answer.message or answer.code, answer.allowed, status=0)
    return None if answer.ch is None else msgspec.json.decode(text, type=Message)
