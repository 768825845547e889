"""What a slow client gets: whole frames, every fact in order, of each state the newest."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from flask_stream.client import Client
from flask_stream.frames import CloseCode, text_frame
from flask_stream.inbound import Inbound
from tests.slow_line import SlowLine, sending_to_slow_lines


@pytest.fixture(autouse=True, scope="module")
def slow_lines() -> Iterator[None]:
    with sending_to_slow_lines():
        yield


def new_client(slow: SlowLine, buffer_bytes: int = 1_000_000) -> Client:
    return Client(cast(socket.socket, slow), "a", buffer_bytes, Inbound(4096, 0.0), lambda _client: None)


def test_a_client_that_is_gone_is_sent_nothing_more() -> None:
    client = new_client(SlowLine(0))
    client.finish("gone")
    client.flush(0.0)
    assert client.direct is None


def events_in(wire: bytes) -> tuple[list[str], int | None]:
    """Texts and close code an independent parser finds."""
    parser = Connection(ConnectionType.CLIENT)
    parser.receive_data(wire)
    texts: list[str] = []
    for event in parser.events():
        if isinstance(event, CloseConnection):
            return texts, int(event.code)
        assert isinstance(event, TextMessage)
        assert event.message_finished
        texts.append(event.data)
    return texts, None


#: (key or None for a fact, bytes the socket takes before it)
STEPS = st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(0, 60)), max_size=60)


@given(STEPS)
def test_facts_all_in_order_and_the_newest_of_each_state(steps: list[tuple[str | None, int]]) -> None:
    slow = SlowLine(0)
    client = new_client(slow)
    for number, (key, room_bytes) in enumerate(steps):
        slow.room_bytes = room_bytes
        if client.is_blocked:
            client.flush(0.0)
        client.deliver(text_frame(f"{key} {number}".encode()), key)
    slow.room_bytes = 1_000_000
    client.flush(0.0)
    texts, code = events_in(bytes(slow.taken))
    assert code is None
    got = [(text.split()[0], int(text.split()[1])) for text in texts]
    sent = [(str(key), number) for number, (key, _room) in enumerate(steps)]
    assert [item for item in got if item[0] == "None"] == [item for item in sent if item[0] == "None"]
    for key in "abc":
        numbers = [number for name, number in got if name == key]
        assert numbers == sorted(numbers)
        assert numbers[-1:] == [number for name, number in sent if name == key][-1:]
    assert client.waiting_bytes == 0


def test_too_much_waiting_closes_with_4008_behind_the_half_sent_frame() -> None:
    slow = SlowLine(0)
    client = new_client(slow, buffer_bytes=1000)
    slow.room_bytes = 10
    for number in range(100):
        client.deliver(text_frame(b"fact %03d " % number + b"x" * 50))
    assert client.is_closing
    assert client.waiting_bytes < 200
    slow.room_bytes = 10_000
    client.flush(1.0)
    texts, code = events_in(bytes(slow.taken))
    assert [text[:8] for text in texts] == ["fact 000"]
    assert code == CloseCode.TOO_SLOW
    assert slow.is_shut


def test_state_alone_never_overflows() -> None:
    slow = SlowLine(0)
    client = new_client(slow, buffer_bytes=1000)
    for number in range(10_000):
        client.deliver(text_frame(b"%d" % number), number % 5)
    assert not client.is_closing
    assert client.waiting_bytes < 1000


def test_what_the_client_asked_for_does_not_count_as_slowness() -> None:
    slow = SlowLine(0)
    client = new_client(slow, buffer_bytes=1000)
    for _ in range(20):
        client.deliver(text_frame(b"x" * 60_000), asked=True)
    assert not client.is_closing
    slow.room_bytes = 10_000_000
    client.flush(0.0)
    assert len(events_in(bytes(slow.taken))[0]) == 20
