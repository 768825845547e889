"""Frames of the relay as other parsers read them, and the limits on what clients send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from flask_stream.frames import CloseCode, Opcode, close_frame, encode_frame, text_frame
from flask_stream.inbound import BURST_MESSAGES, Closing, Inbound, Message, PingReceived

MAX_MESSAGE_BYTES = 4096


def read_texts(wire: bytes) -> list[str]:
    """Text messages that an independent parser finds in the bytes."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(wire)
    texts, parts = [], ""
    for event in client.events():
        assert isinstance(event, TextMessage)
        parts += event.data
        if event.message_finished:
            texts.append(parts)
            parts = ""
    return texts


@given(st.lists(st.text(max_size=300), max_size=8))
def test_another_parser_reads_the_same_messages(texts: list[str]) -> None:
    assert read_texts(b"".join(text_frame(text.encode()) for text in texts)) == texts


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_000])
def test_lengths_at_the_borders_of_the_header_forms(size: int) -> None:
    assert read_texts(text_frame(b"x" * size)) == ["x" * size]


@given(st.sampled_from([1000, 1001, 1008, 1009, 4008]), st.text(max_size=200))
def test_close_frame_fits_a_control_frame(code: int, reason: str) -> None:
    frame = close_frame(code, reason)
    assert frame[1] <= 125
    parsed = Close.parse(frame[2:])
    assert parsed.code == code
    assert reason.startswith(parsed.reason)


def events_of(inbound: Inbound, wire: bytes, now_s: float = 0.0) -> list[Message | PingReceived | Closing]:
    return list(inbound.receive(wire, now_s))


def client_frames(*messages: TextMessage | Ping | CloseConnection) -> bytes:
    client = Connection(ConnectionType.CLIENT)
    return b"".join(client.send(message) for message in messages)


@given(st.text(max_size=500), st.integers(1, 50))
def test_a_message_is_put_together_from_any_pieces(text: str, piece_bytes: int) -> None:
    wire = client_frames(
        TextMessage(data=text[:5], message_finished=False), TextMessage(data=text[5:], message_finished=True)
    )
    inbound = Inbound(MAX_MESSAGE_BYTES, 0.0)
    events = []
    for start in range(0, len(wire), piece_bytes):
        events += events_of(inbound, wire[start : start + piece_bytes])
    assert events == [Message(text)]


def test_too_large_a_message_is_closed_before_its_end() -> None:
    wire = client_frames(TextMessage(data="x" * 100_000))
    events = events_of(Inbound(MAX_MESSAGE_BYTES, 0.0), wire[:8192])
    assert [event.code for event in events if isinstance(event, Closing)] == [CloseCode.TOO_LARGE]


def test_fragments_together_may_not_be_too_large() -> None:
    parts = [TextMessage(data="x" * 1000, message_finished=False) for _ in range(5)]
    (event,) = events_of(Inbound(MAX_MESSAGE_BYTES, 0.0), client_frames(*parts))
    assert isinstance(event, Closing)
    assert event.code == CloseCode.TOO_LARGE


def test_a_burst_passes_and_one_more_does_not() -> None:
    inbound = Inbound(MAX_MESSAGE_BYTES, 0.0)
    burst = client_frames(*[TextMessage(data="x")] * int(BURST_MESSAGES))
    assert events_of(inbound, burst) == [Message("x")] * int(BURST_MESSAGES)
    (event,) = events_of(inbound, client_frames(TextMessage(data="x")))
    assert isinstance(event, Closing)
    assert event.code == CloseCode.POLICY


def test_pongs_count_like_everything_else() -> None:
    """A flood of them would cost the thread that serves all."""
    flood = client_frames(*[Pong()] * int(BURST_MESSAGES + 1))
    (event,) = events_of(Inbound(MAX_MESSAGE_BYTES, 0.0), flood)
    assert isinstance(event, Closing)
    assert event.code == CloseCode.POLICY


def test_five_a_second_pass_for_ever() -> None:
    inbound = Inbound(MAX_MESSAGE_BYTES, 0.0)
    for index in range(200):
        assert events_of(inbound, client_frames(TextMessage(data="x")), index / 5) == [Message("x")]


def test_ping_carries_its_payload_and_close_its_code() -> None:
    inbound = Inbound(MAX_MESSAGE_BYTES, 0.0)
    wire = client_frames(Ping(payload=b"abc"), CloseConnection(code=1000, reason="bye"))
    assert events_of(inbound, wire) == [PingReceived(b"abc"), Closing(1000, "bye", by_client=True)]


def test_an_unmasked_frame_is_a_protocol_error() -> None:
    (event,) = events_of(Inbound(MAX_MESSAGE_BYTES, 0.0), encode_frame(Opcode.TEXT, b"{}"))
    assert isinstance(event, Closing)
    assert event.code == CloseCode.PROTOCOL_ERROR


@given(st.binary(max_size=400))
def test_any_bytes_give_events_and_no_exception(data: bytes) -> None:
    events_of(Inbound(MAX_MESSAGE_BYTES, 0.0), data)
