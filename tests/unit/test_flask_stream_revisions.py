"""A candle that changes after it was served: told to /live with its revision, however old; never again to Binance's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from flask_stream.hub import Hub, Record
from flask_stream.names import Content, parse_channel, parse_stream
from market.interval import Interval
from market.kline import Candle
from market.record_codec import encode_record
from market.rollup import roll_up
from tests.unit.test_flask_stream_bars import MINUTE_MS, START_MS, second
from tests.unit.test_flask_stream_hub import LINGER_MS, Viewer

NOW_MS = START_MS + 100 * MINUTE_MS
CHANNEL = parse_channel("kline:BTCUSDT:1m")
STREAM = parse_stream("btcusdt@kline_1m")


def closed(minute: int, revision: int = 0, close: str = "100") -> Record:
    """The closed candle of a minute, complete from revision 1 on."""
    rows = [second(minute * 60 + index) for index in range(60 if revision else 55)]
    bar: Candle = msgspec.structs.replace(
        roll_up(rows, Interval.M1),
        covered_until_ms=START_MS + (minute + 1) * MINUTE_MS,
        close=Decimal(close),
        is_closed=True,
        revision=revision,
        updated_at_ms=NOW_MS + 60_000,
    )
    return Record(Content.CANDLE, "BTCUSDT", encode_record(bar), NOW_MS)


def hub_with(minutes: int) -> Hub:
    hub = Hub(LINGER_MS)
    for minute in range(minutes):
        hub.on_record(closed(minute), NOW_MS)
    hub.on_record(Record(Content.SECOND, "BTCUSDT", encode_record(second(minutes * 60)), NOW_MS), NOW_MS)
    return hub


def versions(bars: list[dict[str, Any]]) -> dict[int, int]:
    return {(bar["open_time_ms"] - START_MS) // MINUTE_MS: bar["revision"] for bar in bars}


@pytest.mark.parametrize("minute", [0, 15, 19])
def test_a_revised_older_bar_is_an_update_and_leaves_the_forming_bar_alone(minute: int) -> None:
    hub, viewer = hub_with(20), Viewer()
    hub.subscribe(viewer, CHANNEL, None, NOW_MS)
    hub.on_record(closed(minute, revision=3, close="123"), NOW_MS)
    (update,) = viewer.of("update")
    assert versions([update["data"]]) == {minute: 3}
    assert update["data"]["close"] == "123"
    hub.on_record(Record(Content.SECOND, "BTCUSDT", encode_record(second(20 * 60 + 1)), NOW_MS), NOW_MS)
    newest = viewer.of("update")[-1]["data"]
    assert (newest["open_time_ms"], newest["row_count"]) == (START_MS + 20 * MINUTE_MS, 2)


def test_a_snapshot_holds_the_revision_and_an_older_version_does_not_come_back() -> None:
    hub = hub_with(20)
    hub.on_record(closed(15, revision=2), NOW_MS)
    hub.on_record(closed(15, revision=1), NOW_MS)
    viewer = Viewer()
    hub.subscribe(viewer, CHANNEL, None, NOW_MS)
    held = versions(viewer.of("snapshot")[0]["data"]["bars"])
    assert held[15] == 2
    assert held[16] == 0
    hub.on_record(closed(15, revision=1), NOW_MS)
    assert viewer.of("update") == []


def test_who_comes_back_gets_the_revisions_that_were_missed() -> None:
    hub, viewer = hub_with(20), Viewer()
    hub.subscribe(viewer, CHANNEL, None, NOW_MS)
    seen = viewer.got[-1]["seq"]
    hub.unsubscribe(viewer, CHANNEL, NOW_MS)
    for revision in (1, 2):
        hub.on_record(closed(3, revision), NOW_MS)
    back = Viewer()
    hub.subscribe(back, CHANNEL, seen, NOW_MS)
    assert [versions([update["data"]]) for update in back.of("update")] == [{3: 1}, {3: 2}]
    assert [update["seq"] for update in back.of("update")] == [seen + 1, seen + 2]


def test_who_comes_back_too_late_is_told_that_what_it_holds_is_void() -> None:
    hub, viewer = hub_with(20), Viewer()
    hub.subscribe(viewer, CHANNEL, None, NOW_MS)
    seen = viewer.got[-1]["seq"]
    hub.unsubscribe(viewer, CHANNEL, NOW_MS)
    hub.on_second_tick(NOW_MS + LINGER_MS)
    hub.on_record(closed(3, 1), NOW_MS)
    back = Viewer()
    hub.subscribe(back, CHANNEL, seen, NOW_MS + LINGER_MS)
    assert [message["kind"] for message in back.got] == ["reset", "snapshot"]


def events(viewer: Viewer) -> list[tuple[int, bool]]:
    return [((event["k"]["t"] - START_MS) // MINUTE_MS, event["k"]["x"]) for event in viewer.got]


@pytest.mark.parametrize("minute", [0, 15, 19])
def test_binances_stream_never_tells_a_closed_bar_again(minute: int) -> None:
    hub, late = hub_with(20), Viewer()
    hub.subscribe_stream(late, STREAM, combined=False)
    hub.on_record(closed(minute, revision=1), NOW_MS)
    assert events(late) == [], "it closed before this client came"
    hub.on_record(Record(Content.SECOND, "BTCUSDT", encode_record(second(20 * 60 + 1)), NOW_MS), NOW_MS)
    hub.on_record(closed(20), NOW_MS)
    hub.on_record(closed(20, revision=1), NOW_MS)
    hub.on_record(closed(minute, revision=2), NOW_MS)
    assert events(late) == [(20, False), (20, True)]
