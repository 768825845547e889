"""What the retention advisor proposes and warns of, and the shape of its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from market.topics import Topics
from runtime.kafka_client import TOPICS_FILE, load_topics
from runtime.retention import FOREVER_MS, Flow, Rules, segment_span_ms
from runtime.retention_advice import (
    DECLARED_OUTAGE_S,
    MIB,
    RECOMMENDED_RETENTION_MS,
    Observed,
    margin_of,
    propose,
    traps,
)
from runtime.retention_observed import Day, observed
from runtime.retention_report import Question, report
from runtime.topic_logs import BrokerLogs, TopicLog
from stack.cli import app
from stack.retention import settings_of
from stack.retention_apply import Change, edited, plan

NOW_MS = 1_800_000_000_000
LINE = Rules(900_000, 60_000, 16 * MIB, 10_000, 10_000)
BUSY = Flow(2, 20.0, 8_000.0, is_idle=False)
DEFAULTS = Rules(60_000, 7 * 86_400_000, 1024 * MIB, 300_000)
CALM = Observed(10.0, 5.0, "measured")
RATE = st.floats(0.001, 1e9)


def names(rules: Rules, flow: Flow = BUSY, seen: Observed = CALM) -> list[str]:
    return [trap.name for trap in traps(rules, flow, seen, 2.0)]


@given(RATE, st.integers(1, 64), st.floats(0, 1e6), st.floats(0, 1e4), st.floats(1, 100))
def test_what_is_proposed_keeps_the_margin_and_has_no_traps(
    bytes_per_second: float, partitions: int, outage_s: float, restart_s: float, margin: float
) -> None:
    flow = Flow(partitions, bytes_per_second / 100, bytes_per_second, is_idle=False)
    seen = Observed(outage_s, restart_s + 1, "measured")
    proposed = propose(LINE, flow, seen, margin)
    assert (margin_of(proposed, seen) or 0) >= margin * (1 - 1e-9)
    assert proposed.retention_ms >= RECOMMENDED_RETENTION_MS
    assert proposed.retention_ms % 60_000 == 0
    assert segment_span_ms(proposed, flow) < proposed.retention_ms
    assert 16 * MIB <= proposed.segment_bytes <= 1024 * MIB
    assert traps(proposed, flow, seen, margin * (1 - 1e-9)) == []


@pytest.mark.parametrize(
    ("rules", "flow", "trap"),
    [
        (LINE, replace(BUSY, is_idle=True), "idle_empties"),
        (replace(LINE, segment_ms=7 * 86_400_000), BUSY, "busy_keeps_segment"),
        (replace(LINE, is_log_append_time=False), BUSY, "create_time"),
        (replace(LINE, segment_ms=10_000), BUSY, "refused_by_next_version"),
        (replace(LINE, segment_bytes=MIB - 1), BUSY, "refused_by_next_version"),
        (replace(LINE, check_interval_ms=900_001), BUSY, "retention_below_check"),
        (replace(LINE, retention_bytes=10 * MIB), BUSY, "size_limit"),
        (replace(LINE, retention_ms=FOREVER_MS), BUSY, "never_forgets"),
    ],
)
def test_each_trap_is_named(rules: Rules, flow: Flow, trap: str) -> None:
    assert names(rules, flow) == [trap]


def test_the_lines_own_settings_are_no_trap_and_the_brokers_defaults_are_three() -> None:
    assert names(LINE) == []
    assert names(DEFAULTS) == ["retention_below_check", "busy_keeps_segment"]
    assert names(DEFAULTS, seen=Observed())[0] == "below_margin"


def test_a_quiet_hour_proves_nothing_and_a_bad_one_counts_at_once() -> None:
    def hours(count: int, lag_s: float | None, away_s: float | None = None) -> Day:
        return Day(NOW_MS, NOW_MS + count * 3_600_000, lag_s, away_s)

    nothing = Day(None, None, None, None)
    assert observed([]) == observed([nothing]) == observed([hours(30, None)]) == Observed()
    assert observed([hours(1, 0.4), nothing]).source == "declared"
    assert observed([hours(1, 0.4, 80.0)]) == Observed(DECLARED_OUTAGE_S, 80.0, "declared")
    assert observed([hours(1, 700.0)]) == Observed(700.0, 60.0, "measured")
    assert observed([hours(25, 4.0), hours(25, 3.0, 2.0)]) == Observed(4.0, 60.0, "measured")


def logs_of(topics: Topics, **changed: object) -> BrokerLogs:
    logs = [
        TopicLog(topic.name, 2, 900_000, 60_000, 1000, NOW_MS - 100_000, NOW_MS, bytes=250_000)
        for topic in reversed(topics.all())
    ]
    return BrokerLogs(10_000, tuple(replace(log, **changed) for log in logs))


def test_the_answer_has_the_fixed_names_and_the_order_of_the_file() -> None:
    declared = load_topics()
    question = Question(5, outage_minutes=45, what_if={"segment_ms": 120_000})
    answer = report(declared, logs_of(declared), NOW_MS, question)
    assert answer["check_interval_ms"] == answer["proposed_check_interval_ms"] == 10_000
    assert [row["topic"] for row in answer["topics"]] == [topic.name for topic in declared.all()]
    row = answer["topics"][0]
    assert row["predicted_oldest_age_s"] == {"min": 900, "max": 970}
    assert row["what_if"]["predicted_oldest_age_s"] == {"min": 900, "max": 1030}
    assert (row["records_per_second"], row["bytes_per_second"], row["measured_oldest_age_s"]) == (10, 2500, 100)
    assert row["outage"]["repair"] == {"rows": 9000, "calls": 10, "weight": 20, "seconds": 0.4}
    assert answer["topics"][1]["outage"]["repair"] is None
    empty = report(declared, logs_of(declared, records=0, oldest_ms=None, newest_ms=None), NOW_MS, Question(5))
    assert empty["topics"][0]["predicted_oldest_age_s"] == {"min": 0, "max": 970}
    assert empty["topics"][0]["what_if"] is None


def test_settings_are_read_with_their_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_of(["retention.ms=60000", "segment_bytes=2097152"], "--what-if") == {
        "retention_ms": 60_000,
        "segment_bytes": 2_097_152,
    }
    with pytest.raises(typer.Exit):
        settings_of(["retention_ms=-1", "nothing=3", "segment_ms"], "--what-if")
    told = capsys.readouterr().err
    assert all(
        part in told for part in ("retention_ms=-1", "nothing=3", "segment_ms: a whole number", "check_interval_ms")
    )


STANDING = {"retention_ms": 900_000, "segment_ms": 60_000, "segment_bytes": 16 * MIB}


def test_only_the_settings_change_and_every_comment_stays() -> None:
    text = TOPICS_FILE.read_text("utf-8")
    made = edited(text, [Change("trade", STANDING, STANDING, {"retention_ms": 1_800_000, "segment_bytes": 32 * MIB})])
    added = set(made.splitlines()) - set(text.splitlines())
    assert added == {"retention_ms = 1800000", f"segment_bytes = {32 * MIB}"}
    comments = [line for line in made.splitlines() if line.startswith("#")]
    assert comments == [line for line in text.splitlines() if line.startswith("#")]
    assert set(edited(made, [Change("trade", STANDING, STANDING, STANDING)]).splitlines()) == {
        *text.splitlines(),
        f"segment_bytes = {16 * MIB}",
    }


def test_a_plan_holds_what_differs_at_the_broker_or_in_the_file() -> None:
    declared = load_topics()
    rows = report(declared, logs_of(declared), NOW_MS, Question(5))["topics"]
    assert plan(rows, declared, None) == []
    assert plan(rows, declared, {"retention_ms": 900_000}) == []
    changes = plan(rows[:2], declared, {"retention_ms": 60_000, "segment_ms": 60_000})
    assert [change.topic for change in changes] == ["kline_1s", "kline_1m"]
    assert str(changes[0]) == "retention_ms 900000 -> 60000"
    assert changes[0].deletes == "kline_1s: records older than 60 s go at the next check, read or not"
    by_hand = report(declared, logs_of(declared, retention_ms=1_800_000), NOW_MS, Question(5))["topics"]
    (change,) = plan(by_hand[:1], declared, {"retention_ms": 1_800_000})
    assert str(change) == "retention_ms 1800000 (900000 in kafka/topics.toml) -> 1800000"
    assert change.deletes == ""
    endless = replace(change, at_broker={**change.at_broker, "retention_ms": FOREVER_MS}, wanted={"segment_ms": 60_000})
    assert endless.deletes == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--apply", "check_interval_ms=5000", "--yes"), "at its start alone"),
        (("--apply", "retention_ms=60000", "--what-if", "segment_ms=60000"), "one of them"),
        (("--what-if", "retention=5"), "no such setting; there are retention_ms"),
        (("--topic", "nothing"), "no such topic; there are kline_1s"),
    ],
)
def test_what_cannot_be_used_ends_with_2_before_anybody_is_asked(arguments: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(app, ["retention", *arguments])
    assert done.exit_code == 2
    assert told in done.output
