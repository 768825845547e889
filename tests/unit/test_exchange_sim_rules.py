"""Limits, stream names, query parameters and faults of the simulated exchange."""

from __future__ import annotations

import json

import pytest

from exchange_sim.faults import Fault, Faults, parse_fault
from exchange_sim.limits import IGNORED_429_BEFORE_BAN, Limiter, MessageRate
from exchange_sim.rest_params import Query, RestError
from exchange_sim.streams import encode_text, split_stream
from exchange_sim.symbols import catalogue
from runtime.clock import ManualClock

SYMBOLS = {spec.name: spec for spec in catalogue(5)}


def test_the_sixth_message_in_a_second_is_one_too_many() -> None:
    rate = MessageRate()
    assert [rate.allows(10 + i / 10) for i in range(6)] == [True] * 5 + [False]
    rate = MessageRate()
    assert all(rate.allows(i * 0.25) for i in range(100))


def test_weight_leads_to_429_and_ignoring_that_to_418() -> None:
    limiter = Limiter(100, enforced=True)
    assert limiter.charge("a", 100, 60_000).status == 200
    verdict = limiter.charge("a", 1, 61_000)
    assert (verdict.status, verdict.used, verdict.retry_after_s) == (429, 101, 59)
    assert limiter.charge("b", 1, 61_000).status == 200
    for _ in range(IGNORED_429_BEFORE_BAN - 1):
        assert limiter.charge("a", 1, 61_000).status == 429
    assert limiter.charge("a", 1, 61_000).status == 418
    assert limiter.charge("a", 1, 150_000).status == 418
    assert limiter.charge("a", 1, 61_000 + 121_000).status == 200


def test_a_new_minute_starts_from_nothing() -> None:
    limiter = Limiter(100, enforced=True)
    limiter.charge("a", 150, 60_000)
    assert limiter.charge("a", 2, 120_000).used == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("btcusdt@kline_1s", ("BTCUSDT", "kline_1s")),
        ("btcusdt@depth20@100ms", ("BTCUSDT", "depth20@100ms")),
        ("!miniTicker@arr", ("", "!miniTicker@arr")),
        ("BTCUSDT@trade", None),
        ("btcusdt@kline_7m", None),
        ("btcusdt", None),
    ],
)
def test_stream_names(name: str, expected: tuple[str, str] | None) -> None:
    assert split_stream(name) == expected


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_carry_their_length(size: int) -> None:
    frame = encode_text(b"x" * size)
    header = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(frame) == header + size
    assert frame[0] == 0x81


@pytest.mark.parametrize(
    ("values", "read", "code"),
    [
        ({}, "symbol", -1102),
        ({"symbol": ""}, "symbol", -1105),
        ({"symbol": "NOPE"}, "symbol", -1121),
        ({"symbol": "btc usdt"}, "symbol", -1100),
        ({}, "interval", -1102),
        ({"interval": "7m"}, "interval", -1120),
        ({"startTime": "abc"}, "span_ms", -1100),
        ({"startTime": "9", "endTime": "3"}, "span_ms", -1127),
        ({"timeZone": "+15:00"}, "zone_ms", -1100),
    ],
)
def test_refused_parameters(values: dict[str, str], read: str, code: int) -> None:
    with pytest.raises(RestError) as caught:
        getattr(Query(values, SYMBOLS), read)()
    assert (caught.value.status, caught.value.code) == (400, code)


def test_accepted_parameters() -> None:
    query = Query({"startTime": "1723161300000000", "limit": "5000", "timeZone": "-3:30"}, SYMBOLS)
    assert query.span_ms() == (1_723_161_300_000, None)
    assert query.limit(500, 1000) == 1000
    assert query.zone_ms() == -12_600_000


def closed_kline(second: int) -> bytes:
    return json.dumps({"e": "kline", "s": "BTCUSDT", "k": {"t": second, "x": True}}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("duplicate", [b"aa", b"b", b"c"]),
        ("reorder", [b"", b"ba", b"c"]),
        ("stall", [b"", b"b", b"c"]),
    ],
)
def test_faults_change_what_is_sent(fault: str, expected: list[bytes]) -> None:
    faults = Faults(lambda: 0)
    faults.order(parse_fault(json.dumps({"fault": fault, "count": 1}).encode()))
    assert [b"".join(faults.transform("btcusdt@trade", p)) for p in (b"a", b"b", b"c")] == expected
    assert not faults.active


def test_faults_are_bounded_and_aimed() -> None:
    clock = ManualClock(0)
    faults = Faults(clock.now_ms)
    faults.order(Fault("drop_kline", stream="ethusdt", count=2))
    assert faults.transform("btcusdt@kline_1s", closed_kline(1)) == [closed_kline(1)]
    assert [faults.transform("ethusdt@kline_1s", closed_kline(i)) for i in (1, 2)] == [[], []]
    assert faults.transform("ethusdt@kline_1s", closed_kline(3)) == [closed_kline(3)]
    faults.order(Fault("clock_skew", skew_ms=-700, duration_ms=100))
    assert faults.skew_ms() == -700
    clock.advance(101)
    assert faults.skew_ms() == 0
    with pytest.raises(ValueError, match="duration_ms"):
        faults.order(Fault("stall", duration_ms=0))
    with pytest.raises(ValueError, match="nonsense"):
        parse_fault(b'{"fault":"nonsense"}')


def test_a_suspended_symbol_falls_silent() -> None:
    clock = ManualClock(0)
    faults = Faults(clock.now_ms)
    faults.order(Fault("symbol_status", stream="ethusdt", symbol_status="CANCEL_ONLY", duration_ms=100))
    faults.order(Fault("symbol_status", stream="bnbusdt", duration_ms=100))
    assert [faults.status_of(name) for name in ("BTCUSDT", "ETHUSDT", "BNBUSDT")] == ["TRADING", "CANCEL_ONLY", "BREAK"]

    def is_heard(stream: str) -> bool:
        return bool(faults.transform(stream, b"x"))

    streams = ("ethusdt@kline_1s", "ethusdt@trade", "bnbusdt@trade", "btcusdt@kline_1s")
    assert [is_heard(stream) for stream in streams] == [False, True, False, True]
    clock.advance(101)
    assert all(is_heard(stream) for stream in streams)
