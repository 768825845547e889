"""The small parts of runtime: back-off, health, settings, the REST client's budget, topics file."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import UnknownInterval, UnknownSymbol
from market.interval import STORED_INTERVALS, Interval
from market.symbol import parse_symbol
from market.topics import parse_topics
from runtime import exchange_rest, health, settings
from runtime.clock import ManualClock, new_random
from runtime.exchange_rest import ExchangeRest, RestRefused, RestUnavailable, resolve_symbols
from runtime.kafka_client import TOPICS_FILE, load_topics
from runtime.retry import ENGINE_MAX_DELAY_S, STARTING_TRIES, Backoff


@given(st.integers(0, 60), st.integers())
def test_back_off_stays_under_its_ceiling_and_resets(tries: int, seed: int) -> None:
    backoff = Backoff(new_random(seed), first_delay_s=1.0, max_delay_s=30.0)
    for attempt in range(tries):
        assert 0 <= backoff.next_delay_s() <= min(30.0, 2.0**attempt)
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0


@given(st.integers())
def test_the_first_tries_of_a_start_are_quick_and_only_those(seed: int) -> None:
    backoff = Backoff(new_random(seed), max_delay_s=30.0, min_delay_s=30.0, quick_tries=STARTING_TRIES)
    for _ in range(STARTING_TRIES):
        assert backoff.next_delay_s() <= ENGINE_MAX_DELAY_S
    assert backoff.next_delay_s() > ENGINE_MAX_DELAY_S
    backoff.reset()
    delays_s = [backoff.next_delay_s() for _ in range(6)]
    assert delays_s == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0]


def fetch(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET on loopback."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_health_says_why() -> None:
    state = health.Health("test")
    port = health.serve(state, 0)
    assert fetch(port, "/healthz")[0] == 200
    assert fetch(port, "/readyz")[0] == 503
    state.set_ready()
    assert fetch(port, "/readyz")[0] == 200
    state.set_problem("kafka", "broker not reachable")
    status, body = fetch(port, "/healthz")
    assert (status, json.loads(body)["reasons"]) == (503, ["kafka: broker not reachable"])
    state.clear_problem("kafka")
    assert fetch(port, "/healthz")[0] == 200
    metrics = fetch(port, "/metrics")[1]
    assert b"process_resident_memory_bytes" in metrics
    assert b'chart_build_info{room="test",version="' in metrics
    assert fetch(port, "/nothing")[0] == 404


def test_wrong_settings_are_listed_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEALTH_PORT", "70000")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit) as stopped:
        settings.load(settings.RoomSettings)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "HEALTH_PORT" in message
    assert "LOG_LEVEL" in message


def client(monkeypatch: pytest.MonkeyPatch, clock: ManualClock, answers: list[httpx.Response]) -> ExchangeRest:
    """A REST client whose transport gives these answers in turn; waiting moves the clock."""
    monkeypatch.setattr(exchange_rest, "sleep_s", lambda seconds: clock.advance(int(seconds * 1000) + 1))
    rest = ExchangeRest(["http://one.invalid", "http://two.invalid"], clock, weight_per_minute=10)
    rest._client = httpx.Client(transport=httpx.MockTransport(lambda request: answers.pop(0)))
    return rest


def test_the_weight_budget_waits_for_the_next_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(60_000)
    rest = client(monkeypatch, clock, [httpx.Response(200, json=[]) for _ in range(6)])
    for _ in range(5):
        rest.klines("BTCUSDT", Interval.M1, None, None)
    assert clock.now_ms() == 60_000
    rest.klines("BTCUSDT", Interval.M1, None, None)
    assert clock.now_ms() >= 120_000


def test_the_used_weight_header_outranks_our_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(60_000)
    answers = [httpx.Response(200, json=[], headers={"X-MBX-USED-WEIGHT-1M": "10"}), httpx.Response(200, json=[])]
    rest = client(monkeypatch, clock, answers)
    rest.klines("BTCUSDT", Interval.M1, None, None)
    rest.klines("BTCUSDT", Interval.M1, None, None)
    assert clock.now_ms() >= 120_000


def test_retry_after_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(60_000)
    answers = [httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(200, json=[])]
    rest = client(monkeypatch, clock, answers)
    with pytest.raises(RestUnavailable, match="wait 7 s"):
        rest.get("ping", {})
    with pytest.raises(RestUnavailable, match="asked us to wait"):
        rest.get("ping", {})
    clock.advance(7_000)
    assert rest.get("ping", {}) == b"[]"


def test_a_dead_host_fails_over_and_a_refusal_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(60_000)
    answers = [
        httpx.Response(503),
        httpx.Response(200, json=[]),
        httpx.Response(400, json={"code": -1121, "msg": "Invalid symbol."}),
    ]
    rest = client(monkeypatch, clock, answers)
    assert rest.klines("BTCUSDT", Interval.M1, None, None) == []
    with pytest.raises(RestRefused, match="-1121 Invalid symbol"):
        rest.klines("NOPE", Interval.M1, None, None)


def test_an_answer_that_is_none_of_the_exchanges_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = client(monkeypatch, ManualClock(60_000), [httpx.Response(200, text="<html>log in</html>") for _ in range(2)])
    with pytest.raises(RestUnavailable, match="not an answer of the exchange"):
        rest.server_time_ms()
    rest = client(monkeypatch, ManualClock(60_000), [httpx.Response(200, json=[{"symbol": "BTCUSDT"}])])
    with pytest.raises(RestUnavailable, match="not an answer of the exchange"):
        resolve_symbols("top:2", rest)


def test_symbols_are_resolved_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tickers = [{"symbol": s, "quoteVolume": v} for s, v in [("AUSDT", "5"), ("BUSDT", "50"), ("CBTC", "900")]]
    rest = client(monkeypatch, ManualClock(60_000), [])
    monkeypatch.setattr(rest, "get", lambda endpoint, query: msgspec.json.encode(tickers))
    assert resolve_symbols("top:2", rest) == ["BUSDT", "AUSDT"]
    assert resolve_symbols(" btcusdt, ETHUSDT,btcusdt ", rest) == ["BTCUSDT", "ETHUSDT"]
    with pytest.raises(ValueError, match="after top:"):
        resolve_symbols("top:many", rest)
    with pytest.raises(UnknownSymbol, match="letters and digits"):
        resolve_symbols("BTC/USDT", rest)


def test_symbols_and_intervals_name_what_is_allowed() -> None:
    assert parse_symbol(" btcusdt ") == "BTCUSDT"
    with pytest.raises(UnknownInterval, match="1s, 1m, 5m, 15m, 1h, 4h, 1d"):
        Interval.parse("2m")
    assert [interval.seconds for interval in STORED_INTERVALS] == [60, 300, 900, 3600, 14400, 86400]


def test_a_topic_that_the_file_lacks_or_has_too_many_is_an_error() -> None:
    text = Path(TOPICS_FILE).read_text("utf-8")
    assert load_topics().kline_1s.kind == "fact"
    with pytest.raises(msgspec.ValidationError, match="candle"):
        parse_topics(text.replace("[candle]", "[candles]"))
    with pytest.raises(msgspec.ValidationError, match="retention"):
        parse_topics(text.replace("\nretention_ms", "\nretention", 1))
