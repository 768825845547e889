"""What the producer knows about its own feed: a fact, on a topic of its own (docs/ARCHITECTURE.md, topics)."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class GapCause(StrEnum):
    """Why seconds are missing (closed list of contract.md, table kline_gap)."""

    DISCONNECT = "disconnect"
    SILENCE = "silence"
    OVERFLOW = "overflow"
    LOG_EXPIRED = "log_expired"
    OFFSET_JUMP = "offset_jump"
    TRADE_CHAIN = "trade_chain"
    DOWNTIME = "downtime"
    UNKNOWN = "unknown"


class FeedOutage(msgspec.Struct, frozen=True, kw_only=True):
    """The feed of one stream of one symbol was out from `from_time_ms`.

    Sent once when it is noticed (`to_time_ms` None) and once when the stream delivers again
    (`to_time_ms` exclusive); both carry the same `from_time_ms`, so the second replaces the first.
    """

    symbol: str
    stream: str
    cause: GapCause
    from_time_ms: int
    to_time_ms: int | None
    detail: str
    event_time_ms: int
    received_at_ms: int = 0


class BadFrameRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A frame of the exchange that cannot be used, as it came (`frame`: raw bytes, base64 in JSON).

    It never became a record of its own topic, so the dead letter made of it has no offset. `stream` is the
    exchange's stream name, empty where the frame did not tell it.
    """

    stream: str
    reason: str
    frame: bytes
    connection: str
    received_at_ms: int
