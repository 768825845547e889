"""The operators' figures without engines: percentiles, trends, restarts, alerts once with their recovery, commands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any

import django
import msgspec
import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.django_settings")

from runtime.clock import ManualClock
from runtime.topic_progress import Progress
from stack.cli import app
from webapp.operations import log_book, remedies
from webapp.operations.alerts import OVER_ROUNDS, ROUNDS, AlertBook, Finding, Findings, Key, Limits, judge
from webapp.operations.hops import HopWindow, quantile_ms
from webapp.operations.log_book import expired
from webapp.operations.readers import HeadroomTrend, reader_row, slope, warning_s
from webapp.operations.rooms import RoomHistory
from webapp.operations.scrape import Sample, Scrape, parse
from webapp.operations.snapshot import (
    AlertRow,
    Audit,
    Data,
    DeadLetters,
    Disk,
    EngineRow,
    OpenGaps,
    ReaderRow,
    Relay,
    Remedy,
    Snapshot,
)
from webapp.operations.topics import TopicRates
from webapp.operations.verdict import with_alerts

NOW_MS = 1_795_219_200_000
LIMITS = Limits(headroom_s=300, stale_s=30, dead_letter_share=0.01)
KEY = Key("disk", "system")
BAD = Findings({KEY: Finding("full", "candlewire doctor")})
GOOD = Findings()
UNKNOWN = Findings(unknown={"disk"})


def snapshot(headroom_s: float | None = 900.0, broker: Any = "up", **data: Any) -> Snapshot:
    """One reader and data without trouble, unless told otherwise."""
    known: dict[str, Any] = {
        "open_gaps": OpenGaps(count=0),
        "audit": Audit(equal=1, different=0, not_comparable=0),
        "dead_letters": DeadLetters(count=0, last_hour=0, share=0.0),
        "last_roll_up_at_ms": NOW_MS,
        "books": [],
        "relay": Relay(),
        "disk": Disk(path_label="DATA_DIR", free_bytes=50, total_bytes=100, low_bytes=10),
    }
    reader = ReaderRow(room="inserter", topic="kline_1s", partition=0, checkpoint_offset=1, headroom_seconds=headroom_s)
    return Snapshot(
        taken_at_ms=NOW_MS,
        verdict="healthy",
        reason="",
        source="sim",
        engines=[EngineRow(name="kafka", state=broker)],
        topics=[],
        readers=[reader],
        rooms=[],
        hops=[],
        data=Data(**{**known, **data}),
        alerts=[],
    )


def raised(book: AlertBook, rounds: Sequence[Findings]) -> list[bool]:
    """What the rounds changed: True = raised, False = over."""
    return [change.is_raised for number, found in enumerate(rounds) for change in book.take(found, NOW_MS + number)]


def test_an_alert_is_raised_once_and_is_over_once() -> None:
    book = AlertBook()
    assert raised(book, [BAD, GOOD, BAD]) == []
    assert raised(book, [BAD] * 10) == [True]
    assert raised(book, [UNKNOWN] * 10) == []
    assert raised(book, [GOOD, BAD] * 3) == []
    assert raised(book, [GOOD] * 10) == [False]
    (row,) = book.rows()
    assert row.raised_at_ms <= (row.recovered_at_ms or 0)


def standing_alert(number: int, raised_at_ms: int, message: str = "") -> AlertRow:
    return AlertRow(
        id=number,
        condition="disk",
        subject="system",
        message=message,
        remedy=remedies.DOCTOR,
        raised_at_ms=raised_at_ms,
    )


def test_nothing_is_healthy_while_an_alert_stands() -> None:
    alert = standing_alert(1, NOW_MS, "3 % free")
    shown = with_alerts(snapshot(), [alert])
    assert (shown.verdict, shown.reason) == ("degraded", "3 % free")
    over = msgspec.structs.replace(alert, recovered_at_ms=NOW_MS)
    assert with_alerts(snapshot(), [over]).verdict == "healthy"
    worse = msgspec.structs.replace(snapshot(), verdict="losing data", reason="gaps")
    assert with_alerts(worse, [alert]).reason == "gaps; 3 % free"
    stale = [msgspec.structs.replace(alert, condition="stale_feed", subject=f"S{n}", message=f"S{n}") for n in range(7)]
    shown = with_alerts(snapshot(), stale)
    assert (shown.verdict, shown.reason) == ("degraded", "S0; S1; S2; S3; S4 and 2 more")
    # The verdict's own line says so, with the figures of now.
    assert with_alerts(worse, [msgspec.structs.replace(stale[0], subject="system")]).reason == "gaps"


def test_a_symbol_is_not_well_again_because_all_of_them_are_stale() -> None:
    book = AlertBook()
    one, none = judge(snapshot(), ["A"], 1.0, LIMITS), judge(snapshot(), [], 1.0, LIMITS)
    all_of_them = judge(snapshot(), ["A", "B"], 31.0, LIMITS)
    assert raised(book, [one] * ROUNDS) == [True]
    assert raised(book, [all_of_them] * ROUNDS) == [True]
    assert {row.subject for row in book.standing.values()} == {"A", "system"}
    assert raised(book, [one] * OVER_ROUNDS) == [False]
    assert raised(book, [none] * OVER_ROUNDS) == [False]


def test_what_hovers_at_its_bound_is_one_alert() -> None:
    assert raised(AlertBook(), [BAD, BAD, *([GOOD] * (OVER_ROUNDS - 1) + [BAD]) * 5]) == [True]


@given(st.lists(st.sampled_from([BAD, GOOD, UNKNOWN]), max_size=60))
def test_raising_and_recovery_take_turns(rounds: list[Findings]) -> None:
    changes = raised(AlertBook(), rounds)
    assert changes == [number % 2 == 0 for number in range(len(changes))]


def test_what_stands_in_the_database_is_not_raised_again() -> None:
    standing = standing_alert(7, NOW_MS - 5)
    book = AlertBook()
    book.restore([standing])
    assert raised(book, [BAD] * ROUNDS) == []
    (over,) = [change.alert for _ in range(OVER_ROUNDS) for change in book.take(GOOD, NOW_MS)]
    assert (over.id, over.recovered_at_ms) == (7, NOW_MS)
    # Told once; its words are of the last round that found it.
    assert over.message == BAD.bad[KEY].message
    book.restore([over])
    assert book.rows() == [over]


def test_what_stood_before_is_told_though_the_first_answer_came_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    django.setup()
    from webapp.operations import database_side

    monkeypatch.setattr(database_side, "connect", lambda *_, **__: SimpleNamespace())
    standing = standing_alert(7, NOW_MS)
    for name, told in {"take_lock": True, "newest_rooms": {"producer": (1, 2)}, "read_alerts": [standing]}.items():
        monkeypatch.setattr(log_book, name, lambda *_, told=told: told)
    side = database_side.DatabaseSide(settings.ROOM, ManualClock(NOW_MS))
    # The thread has done its work, and nobody waits for it any more.
    side._guarded(lambda: side._write(NOW_MS, None, []))
    heard = [asyncio.run(side.write(NOW_MS, None, [])) for _ in range(2)]
    assert [(one.is_writer, one.rooms, one.alerts) for one in heard] == [
        (True, {"producer": (1, 2)}, [standing]),
        (True, None, None),
    ]


@pytest.mark.parametrize(("told_in_round", "alerts_in"), [(1, None), (2, None), (9, 4)])
def test_a_process_alerts_only_when_it_was_told_that_it_does_or_nobody_tells(
    told_in_round: int, alerts_in: int | None
) -> None:
    """Of a late answer of the database nothing is heard; another process alerts already."""
    django.setup()
    from webapp.operations.collect import UNTOLD_ROUNDS, Collector
    from webapp.operations.database_side import Written

    clock = ManualClock(NOW_MS)
    collector = Collector(settings.ROOM, clock)

    async def write(*_: object) -> Written:
        if collector._rounds < told_in_round:
            raise TimeoutError
        return Written(False, [], None, {})

    collector._database = SimpleNamespace(write=write)
    first = None
    for _ in range(UNTOLD_ROUNDS + 2):
        collector._rounds += 1
        if collector._alerts() and first is None:
            first = collector._rounds
        asyncio.run(collector._write(snapshot(), is_database_up=True))
        clock.advance(5_000)
    assert first == alerts_in


@pytest.mark.parametrize(
    ("given_snapshot", "stale", "age_s", "bad"),
    [
        (snapshot(), [], 1.0, set()),
        (snapshot(headroom_s=100.0), [], 1.0, {"headroom"}),
        (snapshot(headroom_s=0.0), [], 1.0, {"headroom"}),
        (snapshot(), ["BTCUSDT"], 1.0, {"stale_feed"}),
        (snapshot(), ["BTCUSDT"], 31.0, {"stale_feed"}),
        (snapshot(disk=Disk(path_label="D", free_bytes=9, total_bytes=100, low_bytes=10)), [], 1.0, {"disk"}),
        (snapshot(dead_letters=DeadLetters(share=0.02)), [], 1.0, {"dead_letters"}),
        (snapshot(audit=Audit(different=1, needs_person=[{"symbol": "A"}])), [], 1.0, {"audit_difference"}),
        (snapshot(audit=Audit(different=0, needs_person=[{"symbol": "A"}] * 20)), [], 1.0, {"audit_difference"}),
    ],
)
def test_conditions(given_snapshot: Snapshot, stale: list[str], age_s: float, bad: set[str]) -> None:
    found = judge(given_snapshot, stale, age_s, LIMITS)
    assert {key.condition for key in found.bad} == bad
    assert not any(found.is_unknown(key) for key in [*found.bad, KEY, Key("headroom", "room:inserter")])
    assert all(finding.message and finding.remedy for finding in found.bad.values())


def test_what_is_not_known_is_neither_good_nor_bad() -> None:
    nothing = snapshot(
        headroom_s=None,
        broker="down",
        audit=Audit(),
        dead_letters=DeadLetters(),
        disk=Disk(path_label="DATA_DIR"),
    )
    found = judge(nothing, None, None, LIMITS)
    assert not found.bad
    assert found.unknown == {"headroom", "stale_feed", "audit_difference", "dead_letters", "disk"}


def test_headroom_is_what_is_left_of_the_retention() -> None:
    checkpoint = {"topic": "kline_1s", "partition": 0, "next_offset": 10}
    behind = reader_row(checkpoint, Progress(5, 20, NOW_MS - 60_000), 900_000, NOW_MS)
    assert (behind.lag_records, behind.lag_seconds, behind.headroom_seconds) == (10, 60.0, 840.0)
    there = reader_row(checkpoint, Progress(5, 10, None), 900_000, NOW_MS)
    assert (there.lag_records, there.lag_seconds, there.headroom_seconds) == (0, 0.0, 900.0)
    gone = reader_row(checkpoint, Progress(11, 20, None), 900_000, NOW_MS)
    assert (gone.lag_records, gone.lag_seconds, gone.headroom_seconds) == (10, None, 0.0)
    unknown = reader_row(checkpoint, None, 900_000, NOW_MS)
    assert (unknown.lag_records, unknown.headroom_seconds, unknown.state) == (None, None, "unknown")
    assert (warning_s(300, 900_000), warning_s(300, 60_000), warning_s(300, None)) == (300, 48, 300)


def test_a_reader_that_stands_loses_a_second_a_second() -> None:
    trend = HeadroomTrend()
    found = [trend.add(("a", 0), 5.0 * number, 900.0 - 5.0 * number) for number in range(20)]
    assert found[:2] == [None, None]
    assert set(found[2:]) == {-1.0}
    assert trend.add(("a", 0), 200.0, None) is None
    assert trend.add(("a", 0), 205.0, 900.0) is None
    assert slope([(1.0, 1.0)] * 5) is None


def test_percentiles_lie_in_their_bucket_and_are_none_for_nothing() -> None:
    buckets = [(0.1, 50.0), (1.0, 90.0), (float("inf"), 100.0)]
    assert quantile_ms(buckets, 0.5) == 100.0
    assert quantile_ms(buckets, 0.7) == 550.0
    assert quantile_ms(buckets, 0.99) == 1000.0
    assert quantile_ms([(0.1, 0.0), (float("inf"), 0.0)], 0.5) is None
    assert quantile_ms([], 0.5) is None


def relay(count: int) -> dict[str, Scrape]:
    """So many deliveries, all below 10 ms."""
    name = "relay_delivery_seconds_bucket"
    samples = tuple(Sample(name, {"le": bound}, float(count)) for bound in ("0.01", "+Inf"))
    return {"flask_stream": Scrape("flask_stream", samples=samples)}


def test_hops_look_at_what_came_since_and_survive_a_restart() -> None:
    window = HopWindow()
    assert [row.p50_ms for row in window.rows({})] == [None] * 5
    assert [window.rows(relay(count))[3].p50_ms for count in (10, 10, 30, 3)] == [5.0, None, 5.0, 5.0]


def answer(started_s: float, cpu_s: float) -> Scrape:
    """A room that is well."""
    values = {"process_start_time_seconds": started_s, "process_cpu_seconds_total": cpu_s}
    return Scrape("inserter", None, True, samples=tuple(Sample(name, {}, value) for name, value in values.items()))


def test_restarts_are_counted_by_the_start_of_the_process() -> None:
    rooms = RoomHistory()
    first = rooms.row(answer(1000.0, 1.0), 0.0, {})
    assert (first.state, first.restarts, first.cpu_share) == ("ok", None, None)
    assert rooms.row(answer(1000.0, 1.5), 5.0, {}).cpu_share == 0.1
    away = rooms.row(Scrape("inserter", error="refused"), 10.0, {})
    assert (away.state, away.ready, away.memory_bytes, away.remedy) == ("bad", False, None, remedies.logs("inserter"))
    again = rooms.row(answer(2000.0, 0.1), 15.0, {"inserter": True})
    assert (again.restarts, again.cpu_share, again.state, again.is_paused) == (None, None, "bad", True)
    assert again.can_pause
    assert not rooms.row(Scrape("flask_stream", error="refused"), 15.0, {}).can_pause
    rooms.restore({"inserter": (900_000, 4)})
    assert rooms.row(answer(2000.0, 0.2), 20.0, None).restarts == 6


def test_only_what_is_wanted_is_read_of_metrics() -> None:
    text = '# HELP x y\nrelay_connections 3\nother{a="b"} 4\nline_hop_seconds_bucket{hop="a",le="+Inf"} 5.0\n'
    assert [(s.name, dict(s.labels), s.value) for s in parse(text)] == [
        ("relay_connections", {}, 3.0),
        ("line_hop_seconds_bucket", {"hop": "a", "le": "+Inf"}, 5.0),
    ]


def test_rates_begin_anew_after_the_broker_was_away() -> None:
    rates = TopicRates()
    assert [rates.rate("a", 5.0 * number, end) for number, end in enumerate((10, 20, 5, 10))] == [None, 2.0, None, 1.0]
    rates.forget()
    assert rates.rate("a", 20.0, 50) is None


def test_samples_older_than_the_days_go_and_nothing_else() -> None:
    names = ["operator_sample_20261113", "operator_sample_20261114", "operator_sample_20261121", "operator_sample_mine"]
    assert expired(names, date(2026, 11, 21), 7) == ["operator_sample_20261113"]


def test_the_commands_that_help_exist() -> None:
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    shown = [value for value in vars(remedies).values() if isinstance(value, Remedy)]
    for remedy in [*shown, remedies.logs("inserter"), remedies.resume("inserter")]:
        first, second = remedy.command.split()[:2]
        assert first != "candlewire" or second in known
        assert remedies.of_command(remedy.command) == remedy
    assert remedies.of_command("candlewire gone") == Remedy("candlewire gone", "")
