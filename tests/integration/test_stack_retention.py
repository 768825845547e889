"""`candlewire retention` on real engines: --apply alters broker and file together, or neither, with an audit row."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from market.interval import DAY_MS
from runtime.clock import SystemClock
from runtime.kafka_client import TOPICS_FILE, load_topics
from runtime.retention_observed import Day, worst
from stack import retention_apply
from stack.layout import Layout
from stack.retention import advise
from tests.conftest import Engines

TOPIC = "dead_frame"


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "topics.toml"
    copy.write_bytes(TOPICS_FILE.read_bytes())
    monkeypatch.setattr(retention_apply, "TOPICS_FILE", copy)
    return copy


def apply(engines: Engines, *pairs: str, yes: bool = True) -> int:
    layout = Layout(engines.data_dir)
    with capture_logs():
        answer = advise(layout, topics=[TOPIC], outage_minutes=30, margin=2, what_if={})
        return retention_apply.alter(layout, answer, retention_apply.wanted_settings(pairs), as_json=True, yes=yes)


def newest_action(engines: Engines) -> tuple[object, ...] | None:
    with psycopg.connect(engines.database_url) as connection:
        return connection.execute(
            "select action, arguments, state, detail from operator_action order by id desc limit 1"
        ).fetchone()


def at_broker(engines: Engines) -> tuple[int, int]:
    (row,) = advise(Layout(engines.data_dir), topics=[TOPIC], outage_minutes=30, margin=2, what_if={})["topics"]
    return row["retention_ms"], row["segment_ms"]


def test_settings_are_altered_at_the_broker_in_the_file_and_in_the_audit(
    engines: Engines, own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert apply(engines, "retention_ms=1800000", "segment_ms=120000") == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["error"] is None
        assert [(row["topic"], row["applied"]) for row in shown["changes"]] == [(TOPIC, True)]
        assert (shown["changes"][0]["before"]["retention_ms"], shown["changes"][0]["after"]["retention_ms"]) == (
            900_000,
            1_800_000,
        )
        assert at_broker(engines) == (1_800_000, 120_000)
        changed = {topic.name: topic for topic in load_topics(own_file).all()}
        assert (changed[TOPIC].retention_ms, changed[TOPIC].segment_ms) == (1_800_000, 120_000)
        assert changed["trade"] == load_topics().trade
        action = newest_action(engines)
        assert action is not None
        assert action[0] == "retention"
        assert action[1] == {TOPIC: {"retention_ms": [900_000, 1_800_000], "segment_ms": [60_000, 120_000]}}
        assert action[2:] == ("done", f"{TOPIC}: retention_ms 900000 -> 1800000, segment_ms 60000 -> 120000")
        assert apply(engines, "retention_ms=1800000") == 0
        assert json.loads(capsys.readouterr().out)["changes"] == []
    finally:
        assert apply(engines, "proposal") == 0
    assert at_broker(engines) == (900_000, 60_000)


def test_what_the_broker_refuses_is_not_written(
    engines: Engines, own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = own_file.read_text("utf-8")
    # Kafka 4.0 and newer want 1 MiB.
    assert apply(engines, "segment_bytes=1000") == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["changes"][0]["applied"] is False
    assert "refuses" in told.err
    assert own_file.read_text("utf-8") == text
    action = newest_action(engines)
    assert action is not None
    assert action[2] == "failed"


def test_a_file_that_cannot_be_written_leaves_the_broker_alone(
    engines: Engines, own_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    assert apply(engines, "retention_ms=1800000") == 1
    assert "nothing was changed: kafka/topics.toml cannot be written: No space left" in capsys.readouterr().err
    assert at_broker(engines) == (900_000, 60_000)


SAMPLES = """
create table pg_temp.operator_sample (sampled_at timestamptz, subject text, figures jsonb);
insert into pg_temp.operator_sample (sampled_at, subject, figures)
select now() - seconds * interval '1 second', subject, figures::jsonb
from generate_series(0, 100000, 10) seconds, lateral (values
    ('reader:inserter:kline_1s/0', format('{"lag_seconds": %s}', case when seconds = 5000 then 420.5 else 0.2 end)),
    ('reader:inserter:kline_1s/1', '{"lag_seconds": null}'),
    ('room:inserter', format('{"ready": %s}', (seconds not between 5000 and 5090)::text)),
    ('room:producer', format('{"ready": %s}', (seconds not in (0, 90000))::text))
) as sample (subject, figures)
"""


def test_the_worst_is_found_in_the_samples_and_a_day_that_is_over_is_read_once(engines: Engines) -> None:
    now_ms = SystemClock().now_ms()
    known: dict[int, Day] = {}
    with psycopg.connect(engines.database_url) as connection:
        connection.execute(SAMPLES)
        found = worst(connection, now_ms, known)
        assert (found.reader_outage_s, found.source) == (420.5, "measured")
        # Midnight may cut the stretch.
        assert 60.0 <= found.restart_s <= 90.0
        yesterday_ms = now_ms - now_ms % DAY_MS - DAY_MS
        assert known[yesterday_ms].first_ms is not None
        connection.execute("delete from pg_temp.operator_sample where sampled_at < date_trunc('day', now())")
        assert worst(connection, now_ms, known) == found
        assert len(known) == 6


def test_where_nobody_can_be_asked_nothing_is_changed(
    engines: Engines, own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = own_file.read_text("utf-8")
    assert apply(engines, "retention_ms=1800000", yes=False) == 2
    assert "--yes is needed" in capsys.readouterr().err
    assert own_file.read_text("utf-8") == text


def test_people_read_the_same_figures(engines: Engines) -> None:
    done = engines.stack.command("retention", "--topic", "kline_1s", "--what-if", "segment_ms=30000")
    assert done.returncode == 0
    assert "retention 900 s + segment 60 s + check 10 s = 970 s" in done.stdout
    assert "WARNING refused_by_next_version: segment.ms 30000" in done.stdout
    assert "weight 10" in done.stdout
