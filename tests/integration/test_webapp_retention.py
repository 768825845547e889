"""/api/v1/retention over a running stack: a pure read with what-if settings, for operators only."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from runtime.kafka_client import load_topics
from tests.stack_process import HTTP_TIMEOUT_S, StackProcess, wait_for

COLLECTED_DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def web(full_stack: StackProcess) -> Iterator[httpx.Client]:
    declared = len(load_topics().all())
    with httpx.Client(base_url=full_stack.status()["urls"]["web"], timeout=HTTP_TIMEOUT_S) as client:

        def is_collected() -> bool:
            found = client.get("/api/v1/retention")
            if found.status_code != 200 or len(found.json()["topics"]) < declared:
                return False
            return bool(found.json()["topics"][0]["records_per_second"])

        wait_for("figures of every topic", is_collected, COLLECTED_DEADLINE_S)
        yield client


def test_it_says_the_same_as_the_command_and_what_other_settings_would_do(
    full_stack: StackProcess, web: httpx.Client
) -> None:
    asked = {"retention_ms": 1_800_000, "segment_ms": 30_000, "outage_minutes": 45, "margin": 3}
    answer = web.get("/api/v1/retention", params=asked)
    assert answer.status_code == 200
    found = answer.json()
    assert found["source"] == "sim"
    assert (found["check_interval_ms"], found["wanted_margin"], found["outage_minutes"]) == (10_000, 3, 45)
    assert [row["topic"] for row in found["topics"]] == [topic.name for topic in load_topics().all()]
    row = found["topics"][0]
    assert row["retention_ms"] == 900_000
    assert row["records_per_second"] > 0
    assert row["bytes"] > 0
    assert row["disk_bytes"] > row["bytes"]
    assert row["predicted_oldest_age_s"] == {"min": 900, "max": 970}
    assert row["what_if"]["predicted_oldest_age_s"] == {"min": 1800, "max": 1840}
    assert [trap["name"] for trap in row["what_if"]["warnings"]] == ["refused_by_next_version"]
    assert row["outage"]["lost_s"] == {"min": 1730, "max": 1800}
    assert row["outage"]["repair"] == {"rows": 9000, "calls": 10, "weight": 20, "seconds": 0.4}
    assert row["what_if"]["outage"]["lost_s"] == {"min": 860, "max": 900}
    assert row["proposal"]["retention_ms"] >= 3 * 360_000

    done = full_stack.command("retention", "--json", "--topic", "kline_1s", "--what-if", "retention_ms=1800000")
    (told,) = json.loads(done.stdout)["topics"]
    assert set(told) == set(row)
    assert told["predicted_oldest_age_s"] == row["predicted_oldest_age_s"]
    (one,) = web.get("/api/v1/retention", params={"topic": "trade"}).json()["topics"]
    assert (one["topic"], one["what_if"]) == ("trade", None)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("retention_ms", "-1"),
        ("segment_ms", "1e5"),
        ("segment_bytes", "99999999999999999999"),
        ("check_interval_ms", "٥٠٠٠"),
        ("outage_minutes", "nan"),
        ("margin", "0.5"),
        ("topic", "nothing"),
    ],
)
def test_what_cannot_be_tried_is_named_with_what_can(web: httpx.Client, parameter: str, value: str) -> None:
    answer = web.get("/api/v1/retention", params={parameter: value})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["parameter"] == parameter
    assert answer.json()["allowed"]


def test_it_is_for_operators_only_and_changes_nothing(web: httpx.Client) -> None:
    assert web.get("/api/v1/retention", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 403
    assert web.post("/api/v1/retention").status_code in (403, 405)
