"""Asking for streams: few messages, at the exchange's pace, every answer checked. And which stream goes where."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.stream import Stream
from producer.connections import ATTEMPT_WINDOW_S, MAX_ATTEMPTS, AttemptBudget, Handover, Hosts, plan_connections
from producer.subscriptions import (
    MAX_ATTEMPTS as MAX_REQUEST_ATTEMPTS,
)
from producer.subscriptions import (
    NAMES_PER_MESSAGE,
    REPLY_TIMEOUT_S,
    ControlFrame,
    SubscriptionFailed,
    Subscriptions,
    decode_control,
)


class ModelExchange:
    """Answers as the exchange does; forgets the streams in `deaf_to`."""

    def __init__(self, deaf_to: frozenset[str] = frozenset()) -> None:
        self.subscribed: set[str] = set()
        self.deaf_to = deaf_to
        self.sent_at_s: list[float] = []

    def answer(self, message: str, now_s: float) -> ControlFrame:
        request = json.loads(message)
        self.sent_at_s.append(now_s)
        if request["method"] == "SUBSCRIBE":
            self.subscribed.update(set(request["params"]) - self.deaf_to)
            return ControlFrame(id=request["id"])
        if request["method"] == "UNSUBSCRIBE":
            self.subscribed.difference_update(set(request["params"]) - self.deaf_to)
            return ControlFrame(id=request["id"])
        return ControlFrame(id=request["id"], result=sorted(self.subscribed))


def run(subscriptions: Subscriptions, exchange: ModelExchange) -> None:
    now_s = 0.0
    while (wait_s := subscriptions.wait_s(now_s)) is not None:
        now_s += wait_s
        message = subscriptions.next_message(now_s)
        if message is not None:
            subscriptions.on_reply(exchange.answer(message, now_s))


@given(st.integers(1, 1024))
def test_all_streams_are_asked_for_in_few_messages_within_the_rate(count: int) -> None:
    names = [f"s{n}usdt@kline_1s" for n in range(count)]
    subscriptions, exchange = Subscriptions(names), ModelExchange()
    run(subscriptions, exchange)
    assert subscriptions.is_settled
    assert exchange.subscribed == set(names)
    assert len(exchange.sent_at_s) == -(-count // NAMES_PER_MESSAGE) + 1
    for start_s in exchange.sent_at_s:
        assert sum(start_s <= sent_s < start_s + 1 for sent_s in exchange.sent_at_s) <= 3


def test_streams_that_are_not_listed_are_asked_for_again_and_then_given_up() -> None:
    exchange = ModelExchange(deaf_to=frozenset({"b@trade"}))
    with pytest.raises(SubscriptionFailed, match="b@trade"):
        run(Subscriptions(["a@trade", "b@trade"]), exchange)


@given(st.lists(st.tuples(st.sets(st.integers(0, 300)), st.integers(0, 5)), max_size=5))
def test_streams_come_and_go_on_an_open_connection_within_the_rate(changes: list[tuple[set[int], int]]) -> None:
    wanted = {"s0@trade"}
    subscriptions, exchange = Subscriptions(sorted(wanted)), ModelExchange()
    now_s = 0.0
    for numbers, messages_between in [*changes, (set[int](), 10_000)]:
        for _ in range(messages_between):
            wait_s = subscriptions.wait_s(now_s)
            if wait_s is None:
                break
            now_s += wait_s
            message = subscriptions.next_message(now_s)
            if message is not None:
                subscriptions.on_reply(exchange.answer(message, now_s))
        if messages_between < 10_000:
            target = {f"s{number}@trade" for number in numbers}
            subscriptions.change(sorted(target - wanted), sorted(wanted - target))
            wanted = target
    assert subscriptions.is_settled
    assert exchange.subscribed == wanted
    for start_s in exchange.sent_at_s:
        assert sum(start_s <= sent_s < start_s + 1 for sent_s in exchange.sent_at_s) <= 3


def test_a_stream_that_does_not_leave_is_noticed() -> None:
    exchange = ModelExchange()
    subscriptions = Subscriptions(["a@trade", "b@trade"])
    run(subscriptions, exchange)
    exchange.deaf_to = frozenset({"b@trade"})
    subscriptions.change([], ["b@trade"])
    with pytest.raises(SubscriptionFailed, match="listed after UNSUBSCRIBE: b@trade"):
        run(subscriptions, exchange)


def test_no_answer_is_noticed() -> None:
    subscriptions = Subscriptions(["a@trade"])
    assert subscriptions.next_message(0.0) is not None
    assert subscriptions.wait_s(1.0) == REPLY_TIMEOUT_S - 1
    with pytest.raises(SubscriptionFailed, match="no answer"):
        subscriptions.next_message(REPLY_TIMEOUT_S)


@pytest.mark.parametrize(
    "frame", [b'{"code":2,"msg":"Invalid request","id":%d}', b'{"error":{"code":2,"msg":"Invalid request"},"id":%d}']
)
def test_both_shapes_of_an_error_lead_to_a_retry_and_an_end(frame: bytes) -> None:
    subscriptions = Subscriptions(["a@trade"])
    now_s = 0.0
    for attempt in range(1, MAX_REQUEST_ATTEMPTS + 1):
        now_s += subscriptions.wait_s(now_s) or 0.0
        assert subscriptions.next_message(now_s) is not None
        reply = decode_control(frame % attempt)
        assert reply is not None
        if attempt < MAX_REQUEST_ATTEMPTS:
            subscriptions.on_reply(reply)
        else:
            with pytest.raises(SubscriptionFailed, match="Invalid request"):
                subscriptions.on_reply(reply)


def test_what_is_no_control_frame_is_not_taken_for_one() -> None:
    assert decode_control(b'{"foo":1}') is None
    assert decode_control(b'{"id":null}') is None
    shutdown = decode_control(b'{"e":"serverShutdown","E":1}')
    assert shutdown is not None
    assert shutdown.event == "serverShutdown"


@given(st.integers(1, 300), st.sets(st.sampled_from(list(Stream)), min_size=1), st.integers(1, 100))
def test_every_stream_is_on_exactly_one_connection(symbols: int, streams: set[Stream], limit: int) -> None:
    names = [f"S{n}USDT" for n in range(symbols)]
    plan = plan_connections(names, sorted(streams), limit)
    keys = [key for connection in plan for key in connection]
    assert len(keys) == len(set(keys)) == symbols * len(streams)
    assert all(1 <= len(connection) <= limit for connection in plan)
    noisy = {Stream.DEPTH, Stream.DEPTH20, Stream.BOOK_TICKER}
    assert all(len({key.stream in noisy for key in connection}) == 1 for connection in plan)


def test_connection_attempts_are_bounded_in_any_window() -> None:
    budget = AttemptBudget()
    now_s, taken = 0.0, []
    for _ in range(3 * MAX_ATTEMPTS):
        now_s += budget.wait_s(now_s)
        budget.take(now_s)
        taken.append(now_s)
        now_s += 0.1
    for start_s in taken:
        assert sum(start_s <= one < start_s + ATTEMPT_WINDOW_S for one in taken) <= MAX_ATTEMPTS


def test_hosts_are_tried_in_order_and_a_good_one_stays() -> None:
    hosts = Hosts(["ws://a/", "ws://b"])
    assert hosts.current() == "ws://a"
    hosts.failed()
    assert hosts.current() == "ws://b"
    assert hosts.current() == "ws://b"
    hosts.failed()
    assert hosts.current() == "ws://a"


def test_handover_waits_for_the_living_and_not_beyond_its_deadline() -> None:
    handover = Handover(["a", "b"], deadline_s=10.0)
    handover.delivered("a")
    assert not handover.is_over(5.0)
    handover.delivered("b")
    assert handover.is_over(5.0)
    assert Handover(["a"], deadline_s=10.0).is_over(10.0)
    assert Handover([], deadline_s=10.0).is_over(0.0)
