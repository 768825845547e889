"""Who listens to a channel: nobody misses a frame or gets it out of order because somebody else is slow or goes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_stream.audience import Audience
from flask_stream.client import Client
from flask_stream.frames import CloseCode, text_frame
from flask_stream.inbound import Inbound
from tests.slow_line import SlowLine, sending_to_slow_lines

MEMBERS = 4


@pytest.fixture(autouse=True, scope="module")
def slow_lines() -> Iterator[None]:
    with sending_to_slow_lines():
        yield


def new_client(line: SlowLine) -> Client:
    return Client(cast(socket.socket, line), "a", 1_000_000, Inbound(4096, 0.0), lambda _client: None)


def frame_of(number: int) -> bytes:
    return text_frame(b"frame %d" % number)


# (what, member, bytes of room)
STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "send", "room", "free", "leave", "come", "break", "close"]),
              st.integers(0, MEMBERS - 1), st.integers(0, 25)),
    max_size=60,
)  # fmt: skip


@given(STEPS)
def test_each_member_gets_what_was_sent_while_present_whole_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    audience = Audience()
    lines = [SlowLine() for _ in range(MEMBERS)]
    clients = [new_client(line) for line in lines]
    expected: list[bytes] = [b""] * MEMBERS
    ended: set[int] = set()
    for client in clients:
        audience.add(client)
    for number, (what, member, room_bytes) in enumerate(steps):
        line, client = lines[member], clients[member]
        if what == "send":
            for index, listener in enumerate(clients):
                if listener in audience and not listener.is_closing and not lines[index].is_broken:
                    expected[index] += frame_of(number)
            audience.send(frame_of(number), None)
        elif what == "room":
            line.room_bytes = room_bytes
        elif what == "free":
            line.room_bytes = 1 << 30
            client.flush(0.0)
        elif what == "leave":
            audience.discard(client)
        elif what == "come" and member not in ended:
            audience.add(client)
        elif what == "break":
            line.is_broken = True
            ended.add(member)
        elif what == "close":
            client.close(CloseCode.NORMAL, "", "test")
            ended.add(member)
    for index, (line, client) in enumerate(zip(lines, clients, strict=True)):
        if index in ended:
            # Closing drops what waits, and adds a close frame: what came before is a true beginning.
            whole = bytes(line.taken).split(b"\x88", 1)[0]
            assert expected[index].startswith(whole)
            continue
        line.room_bytes = 1 << 30
        client.flush(0.0)
        assert bytes(line.taken) == expected[index]


def test_a_blocked_client_waits_alone_and_comes_back_into_the_flat_list() -> None:
    audience = Audience()
    quick, slow = SlowLine(), SlowLine(room_bytes=3)
    clients = [new_client(quick), new_client(slow)]
    for client in clients:
        audience.add(client)
    for number in range(3):
        audience.send(frame_of(number), None)
    assert clients[1].direct is None, "the second frame and the third went through deliver, behind the half sent one"
    assert bytes(slow.taken) == frame_of(0)[:3]
    slow.room_bytes = 1 << 30
    clients[1].flush(0.0)
    assert clients[1].direct is not None
    audience.send(frame_of(3), None)
    wanted = b"".join(map(frame_of, range(4)))
    assert bytes(slow.taken) == bytes(quick.taken) == wanted


def test_a_blocked_client_gets_of_each_state_the_newest() -> None:
    audience = Audience()
    slow = SlowLine(room_bytes=0)
    client = new_client(slow)
    audience.add(client)
    audience.send(frame_of(0), "bar 1")
    for number, key in ((1, "bar 1"), (2, "bar 2"), (3, "bar 1")):
        audience.send(frame_of(number), key)
    slow.room_bytes = 1 << 30
    client.flush(0.0)
    assert bytes(slow.taken) == frame_of(0) + frame_of(2) + frame_of(3)


def test_a_client_that_breaks_or_closes_drops_out_and_the_others_go_on() -> None:
    audience = Audience()
    lines = [SlowLine() for _ in range(3)]
    clients = [new_client(line) for line in lines]
    for client in clients:
        audience.add(client)
    lines[0].is_broken = True
    audience.send(frame_of(0), None)
    assert clients[0].is_finished
    clients[1].close(CloseCode.GOING_AWAY, "", "stop")
    at_close = len(lines[1].taken)
    audience.send(frame_of(1), None)
    assert len(lines[1].taken) == at_close, "nothing follows a close frame"
    assert bytes(lines[2].taken) == frame_of(0) + frame_of(1)
    for client in clients[:2]:
        audience.discard(client)
        audience.discard(client)
    assert list(audience) == [clients[2]]
    assert len(audience) == 1


def test_coming_twice_is_once_and_leaving_forgets_both_ways() -> None:
    audience, line = Audience(), SlowLine()
    client = new_client(line)
    audience.add(client)
    audience.add(client)
    audience.send(frame_of(0), None)
    assert bytes(line.taken) == frame_of(0)
    audience.discard(client)
    assert client.audiences == set()
    audience.send(frame_of(1), None)
    assert bytes(line.taken) == frame_of(0)
