"""WebSocket frames of a server (RFC 6455, 5.2): never masked, never fragmented, never compressed.

A frame is built once and the same bytes go to every client, so this is not done through a connection object.
"""

from __future__ import annotations

import struct
from enum import IntEnum

_FIN = 0x80
_MAX_SHORT_BYTES = 125
_MAX_MEDIUM_BYTES = 0xFFFF
_MAX_REASON_BYTES = 123


class Opcode(IntEnum):
    """The opcodes a server sends."""

    TEXT = 0x1
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Close codes of contract.md; 4008 is ours."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    POLICY = 1008
    TOO_LARGE = 1009
    TOO_SLOW = 4008


def encode_frame(opcode: Opcode, payload: bytes) -> bytes:
    """One whole frame."""
    size = len(payload)
    if size <= _MAX_SHORT_BYTES:
        header = bytes((_FIN | opcode, size))
    elif size <= _MAX_MEDIUM_BYTES:
        header = struct.pack("!BBH", _FIN | opcode, 126, size)
    else:
        header = struct.pack("!BBQ", _FIN | opcode, 127, size)
    return header + payload


def text_frame(payload: bytes) -> bytes:
    """A text message; `payload` is UTF-8."""
    return encode_frame(Opcode.TEXT, payload)


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to what fits."""
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return encode_frame(Opcode.CLOSE, struct.pack("!H", code) + text)
