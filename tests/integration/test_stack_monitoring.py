"""The files of docs/monitoring are held against what the rooms of a running stack really expose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import typer.main
import yaml
from prometheus_client.parser import text_string_to_metric_families

from stack.cli import app
from tests.stack_process import HTTP_TIMEOUT_S, StackProcess

MONITORING = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
ROOMS = {"producer", "inserter", "aggregator", "flask_stream", "webapp"}
#: Made by Prometheus itself for each target.
OF_PROMETHEUS = {"up"}
OF_TARGETS = {"job", "room"}
#: The names that operators' dashboards rely on, and the rooms that expose them.
PROMISED = {
    "chart_build_info": ROOMS,
    "ingest_messages_total": {"producer"},
    "ingest_reconnects_total": {"producer"},
    "ingest_last_message_timestamp_seconds": {"producer"},
    "produce_errors_total": {"producer"},
    "produce_ack_seconds": {"producer"},
    "inserter_rows_total": {"inserter"},
    "inserter_checkpoint_offset": {"inserter"},
    "inserter_offset_out_of_range_total": {"inserter"},
    "inserter_missing_seconds_total": {"inserter"},
    "inserter_retention_headroom_seconds": {"inserter"},
    "kafka_partition_earliest_offset": {"inserter"},
    "kafka_partition_latest_offset": {"inserter"},
    "kafka_consumergroup_group_lag": {"inserter"},
    "kafka_consumergroup_group_lag_seconds": {"inserter"},
    "aggregate_windows_total": {"aggregator"},
    "aggregate_lateness_seconds": {"aggregator"},
    "data_completeness_ratio": {"aggregator"},
    "relay_connections": {"flask_stream"},
    "relay_disconnects_total": {"flask_stream"},
    "relay_queue_bytes": {"flask_stream"},
    "relay_conflated_total": {"flask_stream"},
    "relay_delivery_seconds": {"flask_stream"},
}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return [rule["expr"] for rule in rules()] + shown


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Every selector of a metric. Raises ValueError when Prometheus would refuse the expression."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@pytest.fixture(scope="module")
def exposed(full_stack: StackProcess) -> dict[str, dict[str, set[str]]]:
    """Metric name -> room -> labels seen, of every room of a running stack; names as Prometheus stores them."""
    found: dict[str, dict[str, set[str]]] = {}
    # A histogram with labels has no samples before its first observation.
    httpx.get(f"{full_stack.status()['urls']['web']}/api/v3/ping", timeout=HTTP_TIMEOUT_S)
    for room in full_stack.status()["rooms"]:
        if room["health_url"] is None:
            continue
        text = httpx.get(room["health_url"].replace("/healthz", "/metrics"), timeout=HTTP_TIMEOUT_S).text
        for name, labels in _names(text):
            found.setdefault(name, {}).setdefault(room["name"], set()).update(labels)
    return found


def _names(text: str) -> Iterator[tuple[str, set[str]]]:
    for family in text_string_to_metric_families(text):
        # One that has not counted yet has no samples, only its name and type.
        yield family.name + ("_total" if family.type == "counter" else ""), set()
        yield from ((sample.name, set(sample.labels)) for sample in family.samples)


def test_every_promised_name_is_exposed_by_its_room(exposed: dict[str, dict[str, set[str]]]) -> None:
    missing = {name: rooms - set(exposed.get(name, ())) for name, rooms in PROMISED.items()}
    assert not {name: rooms for name, rooms in missing.items() if rooms}


def test_every_expression_parses_and_names_what_is_exposed(exposed: dict[str, dict[str, set[str]]]) -> None:
    unknown = set()
    for expression in expressions():
        for selector in selectors(expression):
            if selector.name in OF_PROMETHEUS:
                continue
            if selector.name not in exposed:
                unknown.add(selector.name)
                continue
            labels = set().union(*exposed[selector.name].values())
            asked = {matcher.name for matcher in selector.matchers.matchers}
            assert asked <= labels | OF_TARGETS, expression
    assert not unknown


def test_every_label_that_is_summed_by_exists(exposed: dict[str, dict[str, set[str]]]) -> None:
    seen = {label for rooms in exposed.values() for labels in rooms.values() for label in labels}
    # Counters that have not counted yet show no labels.
    seen |= OF_TARGETS | {"error", "symbol", "reason", "outcome", "table", "topic", "partition"}
    for expression in expressions():
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            assert {label.strip() for label in group.split(",")} <= seen, expression


def test_every_alert_says_what_is_wrong_and_names_a_command_that_exists() -> None:
    commands = frozenset(typer.main.get_group(app).commands)
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 10
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        named = re.findall(r"candlewire ([a-z-]+)", rule["annotations"]["remedy"])
        assert named, rule["alert"]
        assert set(named) <= commands, rule["alert"]


def test_the_scrape_configuration_knows_every_room_of_the_deployment() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    assert all((MONITORING / name).exists() for name in config["rule_files"])
    (job,) = config["scrape_configs"]
    targets = {entry["labels"]["room"]: entry["targets"] for entry in job["static_configs"]}
    compose = (MONITORING.parents[1] / "docker-compose.yml").read_text("utf-8")
    rooms = dict(re.findall(r"([a-z_-]+)=http://([a-z_-]+:\d+)", compose))
    assert targets == {room: [address] for room, address in rooms.items()}
    assert job["job_name"] == "candlewire"


def test_an_expression_that_prometheus_refuses_is_found() -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        selectors("sum by (room (up)")
    assert [found.name for found in selectors("rate(a_total[5m]) / on (x) b{c='d'} > 3")] == ["a_total", "b"]
