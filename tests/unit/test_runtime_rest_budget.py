"""The exchange's request weight as one budget of the address: background work stops first, the header is obeyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from market.interval import Interval
from runtime import exchange_rest
from runtime.clock import ManualClock
from runtime.exchange_rest import LIVE_WEIGHT_PER_MINUTE, ExchangeRest, RestRefused, RestUnavailable

START_MS = 60_000_000
Answer = Callable[[httpx.Request], httpx.Response]


def client(clock: ManualClock, answer: Answer, weight_per_minute: int = 3_000) -> ExchangeRest:
    rest = ExchangeRest(["http://one.invalid"], clock, weight_per_minute)
    rest._client = httpx.Client(transport=httpx.MockTransport(answer))
    return rest


def rows(used: int) -> Answer:
    """No rows, and so much used weight."""
    return lambda request: httpx.Response(200, json=[], headers={"X-MBX-USED-WEIGHT-1M": str(used)})


def test_background_work_stops_while_the_live_line_may_still_ask() -> None:
    clock = ManualClock(START_MS)
    background = client(clock, rows(3_000))
    live = client(clock, rows(3_000), LIVE_WEIGHT_PER_MINUTE)
    for rest in (background, live):
        assert rest.has_room(2)
        rest.klines("BTCUSDT", Interval.S1, None, None)
    assert not background.has_room(2)
    assert live.has_room(250)
    clock.advance(60_000)
    assert background.has_room(2)


def test_an_answer_to_the_minute_before_does_not_fill_the_new_one() -> None:
    clock = ManualClock(START_MS + 59_900)

    def late(request: httpx.Request) -> httpx.Response:
        clock.advance(200)
        return httpx.Response(200, json=[], headers={"X-MBX-USED-WEIGHT-1M": "6000"})

    rest = client(clock, late)
    rest.klines("BTCUSDT", Interval.S1, None, None)
    assert rest.has_room(2)


@pytest.mark.parametrize("status", [429, 418])
def test_a_ban_leaves_no_room_until_it_is_over(status: int) -> None:
    clock = ManualClock(START_MS)
    rest = client(clock, lambda request: httpx.Response(status, headers={"Retry-After": "120"}))
    with pytest.raises(RestUnavailable, match="wait 120 s"):
        rest.klines("BTCUSDT", Interval.S1, None, None)
    clock.advance(119_999)
    assert not rest.has_room(1)
    clock.advance(1)
    assert rest.has_room(1)


def test_the_budget_is_a_share_of_what_the_exchange_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """binance.us allows 1,200: half of the budget there is 600."""
    monkeypatch.setattr(exchange_rest, "sleep_s", lambda seconds: pytest.fail("waited"))
    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1_200}]
    clock = ManualClock(START_MS)
    rest = client(clock, lambda request: httpx.Response(200, json={"rateLimits": limits, "symbols": []}))
    assert rest.symbol_infos() == []
    assert rest.has_room(580)
    assert not rest.has_room(581)


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_rest, "ANSWER_MAX_BYTES", 1_000)
    rest = client(ManualClock(START_MS), lambda request: httpx.Response(200, content=b"[" * 1_001))
    with pytest.raises(RestUnavailable, match="more than 1000 bytes"):
        rest.klines("BTCUSDT", Interval.S1, None, None)


def test_an_answer_that_only_trickles_is_given_up() -> None:
    clock = ManualClock(START_MS)

    def trickle() -> Iterator[bytes]:
        while True:
            clock.advance(9_000)
            yield b"["

    rest = client(clock, lambda request: httpx.Response(200, content=trickle()))
    with pytest.raises(RestUnavailable, match="still sending after 20 s"):
        rest.klines("BTCUSDT", Interval.S1, None, None)


def test_the_exchanges_own_words_of_a_refusal_are_kept() -> None:
    bodies = iter([b'{"code":-1121,"msg":"Invalid symbol."}', b"<html>", b"[1]"])
    rest = client(ManualClock(START_MS), lambda request: httpx.Response(400, content=next(bodies)))
    for code, words in ((-1121, "Invalid symbol."), (0, "<html>"), (0, "[1]")):
        with pytest.raises(RestRefused) as refused:
            rest.klines("BTCUSDT", Interval.S1, None, None)
        assert (refused.value.code, refused.value.message) == (code, words)
