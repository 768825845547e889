"""What rooms are told by operators when nobody can tell them, and what may be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.health import Health
from runtime.operations.catalogue import ACTIONS, BadArgument, parse
from runtime.operations.rewind import Rewind, Target
from runtime.operations.room_control import RoomControl, Told, chosen
from runtime.time_text import iso, parse_time_ms

NOWHERE = "postgresql://candlewire@127.0.0.1:1/candlewire"


def test_symbols_keep_their_order_and_the_added_ones_come_behind() -> None:
    assert chosen(["A", "B", "C"], {"D": True, "B": False, "A": True, "E": False}) == ["A", "C", "D"]


def test_without_a_database_a_room_does_what_it_was_told_last(tmp_path: Path) -> None:
    assert RoomControl(NOWHERE, "producer", tmp_path, Health("producer")).told == Told()
    told = Told(is_paused=True, by="192.0.2.7", choices={"B": True, "A": False})
    RoomControl(NOWHERE, "producer", tmp_path, Health("producer"))._keep(told)
    control = RoomControl(NOWHERE, "producer", tmp_path, Health("producer"))
    control.look()
    assert control.told == told
    assert list(control.told.choices) == ["B", "A"]
    (tmp_path / "control" / "producer.json").write_text("[1")
    assert RoomControl(NOWHERE, "producer", tmp_path, Health("producer")).told == Told()


def test_a_paused_room_is_well_but_not_ready(tmp_path: Path) -> None:
    health = Health("inserter")
    health.set_ready()
    control = RoomControl(NOWHERE, "inserter", tmp_path, health)
    control.applied(is_paused=True)
    assert health.report(readiness=False)[0] == 200
    assert health.report(readiness=True)[0] == 503
    control.applied(is_paused=False)
    assert health.report(readiness=True) == (200, {"room": "inserter", "ok": True, "reasons": []})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = sorted({argument.name for action in ACTIONS.values() for argument in action.arguments})


@given(st.sampled_from(sorted(ACTIONS)), _JSON | st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4))
def test_whatever_is_given_is_taken_or_refused_with_a_name(action: str, given_: object) -> None:
    try:
        found = parse(action, given_)
    except BadArgument:
        return
    assert parse(action, found) == found


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_read_as_they_are_written(time_ms: int) -> None:
    assert parse_time_ms(iso(time_ms)) == parse_time_ms(str(time_ms)) == time_ms


@pytest.mark.parametrize("text", ["", "x", "-1", "99999999999999999", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_time_ms(text)


def test_going_back_says_how_much_is_read_again() -> None:
    rewind = Rewind((Target(0, 500, 200), Target(1, 40, 40)))
    assert rewind.words() == "300 records will be read again (partition 0: 500 to 200, partition 1: 40 to 40)."
