"""Channels from records: snapshot and updates join from any point, resume, reset, and who may ask for what."""

from __future__ import annotations

import socket
from collections.abc import Hashable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_stream.audience import Audience
from flask_stream.handshake import Admission
from flask_stream.hub import Hub, Record
from flask_stream.live_dialect import MAX_CHANNELS, LiveSession
from flask_stream.names import BadName, Content, parse_channel, parse_stream
from market.alert import OperatorAlert
from market.errors import BadRecord
from market.interval import Interval
from market.kline import Kline
from market.record_codec import encode_record
from market.trade import Trade
from runtime.clock import ManualClock

NOW_MS = 1_700_000_040_000
LINGER_MS = 60_000


class Viewer:
    """Collects the JSON of what it gets."""

    direct: socket.socket | None = None

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.audiences: set[Audience] = set()

    def deliver(self, frame: bytes, key: Hashable | None = None, *, asked: bool = False) -> None:
        self.got.append(msgspec.json.decode(frame[frame.index(b"{") :]))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.got if message.get("kind") == kind]


def trade_record(number: int, symbol: str = "BTCUSDT") -> Record:
    trade = Trade(
        symbol=symbol,
        trade_id=number,
        price=Decimal("10.5"),
        quantity=Decimal(1),
        trade_time_ms=NOW_MS,
        is_buyer_maker=False,
        event_time_ms=NOW_MS + 1,
        received_at_ms=NOW_MS + 2,
    )
    return Record(Content.TRADE, symbol, encode_record(trade), NOW_MS + 3)


def kline_record(index: int, symbol: str = "BTCUSDT") -> Record:
    open_ms = NOW_MS + index * 1000
    kline = Kline(
        symbol=symbol,
        interval=Interval.S1,
        open_time_ms=open_ms,
        close_time_ms=open_ms + 999,
        open=Decimal(1),
        high=Decimal(1),
        low=Decimal(1),
        close=Decimal(1),
        base_volume=Decimal(1),
        quote_volume=Decimal(1),
        trade_count=1,
        taker_buy_base_volume=Decimal("0E-8"),
        taker_buy_quote_volume=Decimal("0E-8"),
        first_trade_id=index,
        last_trade_id=index,
        is_closed=True,
        event_time_ms=open_ms + 1001,
    )
    return Record(Content.SECOND, symbol, encode_record(kline), open_ms + 1010)


def new_hub() -> tuple[Hub, ManualClock]:
    return Hub(LINGER_MS), ManualClock(NOW_MS)


def session_of(hub: Hub, clock: ManualClock) -> tuple[LiveSession, Viewer]:
    viewer = Viewer()
    return LiveSession(viewer, hub, clock), viewer


def subscribe(session: LiveSession, *channels: str, since: int | None = None) -> None:
    known = {} if since is None else dict.fromkeys(channels, since)
    session.on_text(msgspec.json.encode({"op": "subscribe", "ch": channels, "since": known}).decode())


@given(st.integers(0, 150), st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_snapshot_and_updates_join_from_any_point(before: int, seen: int, missed: int, linger_over: bool) -> None:
    hub, clock = new_hub()
    for number in range(before):
        hub.on_record(trade_record(number), NOW_MS)
    session, viewer = session_of(hub, clock)
    subscribe(session, "trade:BTCUSDT")
    for number in range(before, before + seen):
        hub.on_record(trade_record(number), NOW_MS)
    session.on_gone()
    for number in range(before + seen, before + seen + missed):
        hub.on_record(trade_record(number), NOW_MS)
    (snapshot,) = viewer.of("snapshot")
    ids = [trade["trade_id"] for trade in snapshot["data"]["trades"]]
    ids += [update["data"]["trade_id"] for update in viewer.of("update")]
    assert ids == list(range(max(0, before - 100), before + seen))
    last_seq = viewer.got[-1]["seq"]
    assert [message["seq"] for message in viewer.got] == list(range(snapshot["seq"], last_seq + 1))

    if linger_over:
        clock.advance(LINGER_MS)
        hub.on_second_tick(clock.now_ms())
    again, back = session_of(hub, clock)
    subscribe(again, "trade:BTCUSDT", since=last_seq)
    hub.on_record(trade_record(before + seen + missed), NOW_MS)
    if linger_over:
        assert [message["kind"] for message in back.got] == ["reset", "snapshot", "update"]
        assert back.got[0]["seq"] > last_seq
        ids = [trade["trade_id"] for trade in back.got[1]["data"]["trades"]]
    else:
        assert [message["seq"] for message in back.got] == list(range(last_seq + 1, last_seq + missed + 2))
        ids += [update["data"]["trade_id"] for update in back.of("update")]
        assert ids == list(range(max(0, before - 100), before + seen + missed + 1))
    assert back.got[-1]["data"]["trade_id"] == before + seen + missed


def test_since_beyond_the_memory_or_from_nowhere_gets_reset_and_snapshot() -> None:
    hub, clock = new_hub()
    first, viewer = session_of(hub, clock)
    subscribe(first, "trade:BTCUSDT")
    for number in range(2000):
        hub.on_record(trade_record(number), NOW_MS)
    for since in (viewer.got[0]["seq"], 17, viewer.got[-1]["seq"] + 1):
        session, other = session_of(hub, clock)
        session.on_text(
            msgspec.json.encode(
                {"op": "subscribe", "ch": ["trade:BTCUSDT"], "since": {"trade:BTCUSDT": since}}
            ).decode()
        )
        assert [message["kind"] for message in other.got] == ["reset", "snapshot"]


def test_klines_of_all_intervals_move_with_each_second() -> None:
    hub, clock = new_hub()
    for index in range(5):
        hub.on_record(kline_record(index), NOW_MS)
    session, viewer = session_of(hub, clock)
    subscribe(session, *(f"kline:BTCUSDT:{interval}" for interval in Interval))
    snapshots = {message["ch"]: message["data"]["bars"] for message in viewer.of("snapshot")}
    assert len(snapshots["kline:BTCUSDT:1s"]) == 5
    assert snapshots["kline:BTCUSDT:1m"][-1]["row_count"] == 5
    hub.on_record(kline_record(5), NOW_MS + 7)
    updates = {message["ch"]: message for message in viewer.of("update")}
    assert set(updates) == {f"kline:BTCUSDT:{interval}" for interval in Interval}
    assert updates["kline:BTCUSDT:1m"]["data"]["row_count"] == 6
    assert updates["kline:BTCUSDT:1m"]["t"] == {
        "event": NOW_MS + 6001,
        "received": None,
        "appended": NOW_MS + 6010,
        "relayed": NOW_MS + 7,
    }


def test_nobody_listening_costs_no_decoding() -> None:
    hub, _clock = new_hub()
    hub.on_record(Record(Content.SECOND, "BTCUSDT", b"not json at all", NOW_MS), NOW_MS)
    assert hub.symbols["BTCUSDT"].window is None


def test_a_bad_record_is_an_error_and_the_channel_goes_on() -> None:
    hub, clock = new_hub()
    session, viewer = session_of(hub, clock)
    subscribe(session, "kline:BTCUSDT:1m")
    with pytest.raises(BadRecord):
        hub.on_record(Record(Content.SECOND, "BTCUSDT", b"{}", NOW_MS), NOW_MS)
    hub.on_record(kline_record(0), NOW_MS)
    assert len(viewer.of("update")) == 1


def test_a_bad_record_read_before_anybody_came_does_not_stop_a_subscription() -> None:
    hub, clock = new_hub()
    hub.on_record(Record(Content.SECOND, "BTCUSDT", b"{}", NOW_MS), NOW_MS)
    hub.on_record(kline_record(0), NOW_MS)
    session, viewer = session_of(hub, clock)
    subscribe(session, "kline:BTCUSDT:1s")
    assert len(viewer.got[0]["data"]["bars"]) == 1


def test_lost_records_reset_the_channels_made_of_them() -> None:
    hub, clock = new_hub()
    hub.on_record(trade_record(1), NOW_MS)
    session, viewer = session_of(hub, clock)
    subscribe(session, "trade:BTCUSDT", "book:BTCUSDT")
    hub.on_lost(Content.TRADE, NOW_MS)
    assert [(message["ch"], message["kind"]) for message in viewer.got[2:]] == [
        ("trade:BTCUSDT", "reset"),
        ("trade:BTCUSDT", "snapshot"),
    ]
    hub.on_record(trade_record(2), NOW_MS)
    assert viewer.got[-1]["seq"] == viewer.got[-2]["seq"] + 1


def test_tickers_once_a_second_and_only_what_changed() -> None:
    hub, clock = new_hub()
    for symbol in ("AUSDT", "BUSDT"):
        hub.on_record(Record(Content.TICKER, symbol, b'{"symbol":"%b"}' % symbol.encode(), NOW_MS), NOW_MS)
    session, viewer = session_of(hub, clock)
    subscribe(session, "tickers")
    assert len(viewer.got[0]["data"]["tickers"]) == 2
    hub.on_second_tick(NOW_MS)
    assert len(viewer.got) == 1
    for _ in range(3):
        hub.on_record(Record(Content.TICKER, "BUSDT", b'{"symbol":"BUSDT","v":2}', NOW_MS), NOW_MS)
    hub.on_second_tick(NOW_MS)
    assert viewer.got[1]["data"] == {"tickers": [{"symbol": "BUSDT", "v": 2}]}


def test_an_alert_is_told_when_it_is_raised_and_when_it_is_over_not_with_each_new_figure() -> None:
    hub, clock = new_hub()
    session, viewer = session_of(hub, clock)
    subscribe(session, "alerts:operator")
    raised = OperatorAlert(
        condition="disk",
        subject="system",
        message="9 % free",
        remedy="",
        raised_at_ms=1,
        recovered_at_ms=None,
        event_time_ms=1,
    )
    retold = msgspec.structs.replace(raised, message="8 % free")
    for alert in (raised, retold, msgspec.structs.replace(retold, recovered_at_ms=2), raised):
        hub.on_record(Record(Content.ALERT, "", encode_record(alert), NOW_MS), NOW_MS)
    updates = [message["data"] for message in viewer.of("update")]
    assert [(one["message"], one["recovered_at_ms"]) for one in updates] == [
        ("9 % free", None),
        ("8 % free", 2),
        ("9 % free", None),
    ]


def test_feed_shows_the_outage_that_lasts() -> None:
    hub, clock = new_hub()
    for stream, from_ms, to_ms in (("trade", 1, 2), ("kline_1s", 3, None), ("depth", 4, 5)):
        value = msgspec.json.encode({"stream": stream, "from_time_ms": from_ms, "to_time_ms": to_ms})
        hub.on_record(Record(Content.FEED, "BTCUSDT", value, from_ms), NOW_MS)
    session, viewer = session_of(hub, clock)
    subscribe(session, "feed:BTCUSDT")
    assert viewer.got[0]["data"]["stream"] == "kline_1s"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", "bad_message"),
        ('{"op":"fly"}', "bad_message"),
        ('{"op":"subscribe","ch":[]}', "bad_message"),
        ('{"op":"subscribe","ch":["kline:BTCUSDT"]}', "unknown_channel"),
        ('{"op":"subscribe","ch":["kline:BTCUSDT:7m"]}', "unknown_channel"),
        ('{"op":"subscribe","ch":["trade:btcusdt"]}', "unknown_channel"),
        ('{"op":"subscribe","ch":["trade:NOPE"]}', "unknown_symbol"),
        ('{"op":"subscribe","ch":["trade:BTCUSDT"],"extra":1}', "bad_message"),
    ],
)
def test_errors_name_what_is_allowed(text: str, code: str) -> None:
    hub, clock = new_hub()
    hub.on_record(trade_record(1), NOW_MS)
    hub.is_caught_up = True
    session, viewer = session_of(hub, clock)
    session.on_text(text)
    (reply,) = viewer.got
    assert (reply["op"], reply["code"]) == ("error", code)
    assert reply["allowed"]


def test_no_more_than_64_channels() -> None:
    hub, clock = new_hub()
    session, viewer = session_of(hub, clock)
    subscribe(session, *(f"trade:S{number}" for number in range(MAX_CHANNELS)))
    subscribe(session, "trade:ONEMORE")
    assert viewer.got[-1]["code"] == "too_many_channels"


def test_symbols_nobody_has_data_of_are_forgotten() -> None:
    hub, clock = new_hub()
    session, _viewer = session_of(hub, clock)
    subscribe(session, "kline:NOPE:1m")
    session.on_gone()
    clock.advance(LINGER_MS)
    hub.on_second_tick(clock.now_ms())
    assert hub.symbols == {}


def test_ping_is_answered_with_the_clock() -> None:
    hub, clock = new_hub()
    session, viewer = session_of(hub, clock)
    session.on_text('{"op":"ping","id":7}')
    assert viewer.got == [{"op": "pong", "id": 7, "t": NOW_MS}]


@pytest.mark.parametrize("text", ["kline:BTCUSDT:1d", "trade:BTCUSDT", "tickers", "feed:ETHUSDT"])
def test_channel_names_round_trip(text: str) -> None:
    assert str(parse_channel(text)) == text


@pytest.mark.parametrize("text", ["btcusdt@kline_1m", "btcusdt@depth20@100ms", "btcusdt@trade"])
def test_stream_names_round_trip(text: str) -> None:
    assert str(parse_stream(text)) == text


@pytest.mark.parametrize("text", ["BTCUSDT@trade", "btcusdt@kline_3m", "btcusdt", "@trade", "btcusdt@aggTrade"])
def test_other_stream_names_are_refused(text: str) -> None:
    with pytest.raises(BadName):
        parse_stream(text)


def test_admission_counts_all_and_by_address() -> None:
    admission = Admission(max_clients=3, max_per_address=2)
    assert admission.admit("a") is None
    assert admission.admit("a") is None
    assert "one address" in str(admission.admit("a"))
    assert admission.admit("b") is None
    assert "3 clients" in str(admission.admit("c"))
    admission.release("a")
    assert admission.admit("a") is None
