"""The operators' figures and alerts beside real engines: what is away is named, what falls back is told in time."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from market.alert import OperatorAlert
from market.record_codec import RecordDecoder
from market.topics import Topics
from runtime.kafka_client import TopicPartition, new_consumer
from tests import own_topics
from tests.conftest import Engines, with_database
from tests.stack_process import HTTP_TIMEOUT_S, free_port, wait_for
from tests.webapp_process import DEADLINE_S, WebappProcess, name_of, run_webapp

RETENTION_MS = 20_000
ROOM_PROGRAM = """
import sys
from runtime import health
from runtime.clock import sleep_s
room = health.Health("inserter")
room.set_ready()
health.serve(room, int(sys.argv[1]))
sleep_s(600)
"""


@dataclass
class Hook:
    """Where the webhook posts to; the first post is refused, so that it has to come again."""

    posts: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    is_refusing: bool = True

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Listen."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, hook.is_refusing = (500 if hook.is_refusing else 204), False
                if status == 204:
                    hook.posts.append(body)
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
        server.server_close()

    def states(self, condition: str) -> list[str]:
        """What was told of a condition, in order."""
        return [post["state"] for post in self.posts if post["alert"]["condition"] == condition]


#: Seconds of headroom a second, well before the trend has seen nothing but the fall.
FALLING = -0.2


@dataclass
class Watched:
    """A web application that watches one room and topics of its own."""

    web: WebappProcess
    hook: Hook
    topics: Topics
    database_url: str
    room_port: int

    def figures(self) -> dict[str, Any] | None:
        """The newest; None = the first are still being collected."""
        answer = self.web.http.get("/api/v1/operator")
        assert answer.status_code in (200, 503), answer.text
        return answer.json() if answer.status_code == 200 else None

    def wait(self, what: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Until the figures are so; those figures."""

        def look() -> dict[str, Any] | None:
            found = self.figures()
            return found if found is not None and is_so(found) else None

        return wait_for(what, look, DEADLINE_S)

    def execute(self, statement: str, *values: object) -> list[Any]:
        """One statement in the database of this test."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running_room(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process with nothing but a health server."""
    process = subprocess.Popen([sys.executable, "-c", ROOM_PROGRAM, str(port)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def watched(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One process for all tests of this module; each leaves things as it found them."""
    directory = tmp_path_factory.mktemp("operations")
    renamed = own_topics.renamed(f"operations_{directory.name}_{free_port()}")
    topics = Topics(
        **{
            name: msgspec.structs.replace(getattr(renamed, name), retention_ms=RETENTION_MS)
            for name in renamed.__struct_fields__
        }
    )
    asyncio.run(own_topics.create(engines.kafka_bootstrap_servers, topics))
    with psycopg.connect(module_database) as connection:
        connection.execute(
            "insert into kline_checkpoint (topic, topic_id, partition, next_offset, epoch)"
            " values (%s, gen_random_uuid(), 0, 0, 1)",
            [topics.dead_frame.name],
        )
    hook, room_port = Hook(), free_port()
    variables = {
        "DATABASE_URL": module_database,
        "ANALYST_DATABASE_URL": with_database(engines.analyst_database_url, name_of(module_database)),
        "ROOM_HEALTH_URLS": f"inserter=http://127.0.0.1:{room_port}",
        "OPERATOR_REFRESH_MS": "1000",
        "OPERATOR_SAMPLE_MS": "1000",
        "DATA_DIR": str(directory),
    }
    program = ("tests.operations_process", str(own_topics.write_file(topics, directory / "topics.toml")))
    with hook.serving():
        variables["OPERATOR_WEBHOOK_URL"] = f"http://127.0.0.1:{hook.port}/alerts"
        with run_webapp(engines.environment, directory / "log", program, **variables) as web:
            web.wait_ready()
            yield Watched(web, hook, topics, module_database, room_port)


def engine(figures: dict[str, Any], name: str) -> str:
    """Its state."""
    return next(str(row["state"]) for row in figures["engines"] if row["name"] == name)


def test_figures_of_topics_and_readers(watched: Watched) -> None:
    def is_whole(seen: dict[str, Any]) -> bool:
        """Two rounds, and none of the engines was late in the last."""
        up = {name for name in ("kafka", "postgres", "valkey") if engine(seen, name) == "up"}
        return len(up) == 3 and seen["topics"][0]["records_per_second"] is not None

    found = watched.wait("two rounds", is_whole)
    assert found["verdict"] == "degraded"
    assert engine(found, "exchange") == "unknown"
    assert {row["topic"] for row in found["topics"]} == {topic.name for topic in watched.topics.all()}
    row = found["topics"][0]
    assert (row["retention_ms"], row["records"], row["measured_oldest_age_s"]) == (RETENTION_MS, 0, None)
    assert row["predicted_oldest_age_s"]["min"] == 0
    assert "segment" in row["formula"]
    (reader,) = found["readers"]
    assert (reader["room"], reader["lag_records"], reader["lag_seconds"], reader["state"]) == ("inserter", 0, 0.0, "ok")
    assert found["data"]["disk"]["free_bytes"] > 0
    assert found["data"]["audit"] == {"equal": 0, "different": 0, "not_comparable": 0, "needs_person": []}
    assert watched.web.http.get("/api/v1/operator", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403
    status = watched.web.http.get("/api/v1/status").json()
    assert (status["verdict"], len(status["readers"])) == ("degraded", 1)


def known(seen: dict[str, Any]) -> bool:
    """What was written down of the room's restarts has been read."""
    return seen["rooms"][0]["restarts"] is not None


def test_a_killed_room_is_named_and_its_restart_counted(watched: Watched) -> None:
    with running_room(watched.room_port):
        ok = watched.wait("the room", lambda seen: seen["rooms"][0]["state"] == "ok" and known(seen))["rooms"][0]
        assert ok["memory_bytes"] > 0
        before = ok["restarts"]
    away = watched.wait("its end", lambda seen: seen["rooms"][0]["state"] == "bad")
    assert "not ready: inserter" in away["reason"]
    assert away["rooms"][0]["remedy"]["command"] == "candlewire logs inserter"
    assert "does not answer" in away["rooms"][0]["reasons"][0]
    with running_room(watched.room_port):
        watched.wait("the restart", lambda seen: seen["rooms"][0]["restarts"] == before + 1)
        watched.execute("insert into room_control values ('inserter', true, now(), 'tests')")
        paused = watched.wait("the pause", lambda seen: seen["rooms"][0]["is_paused"])
        assert paused["rooms"][0]["remedy"]["command"] == "candlewire resume inserter"
        assert "paused by an operator: inserter" in paused["reason"]
        watched.execute("delete from room_control")


def newest_alerts(engines: Engines, topics: Topics) -> list[OperatorAlert]:
    """All that the topic of alerts holds."""
    decoder = RecordDecoder(OperatorAlert)

    async def read() -> list[OperatorAlert]:
        partition = TopicPartition(topics.operator_alert.name, 0)
        consumer = new_consumer(engines.kafka_bootstrap_servers, "test")
        await consumer.start()
        try:
            end = (await consumer.end_offsets([partition]))[partition]
            consumer.assign([partition])
            consumer.seek(partition, 0)
            found: list[OperatorAlert] = []
            while len(found) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [decoder.decode(record.value) for record in records]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_a_reader_that_stands_is_told_before_it_loses_and_once(engines: Engines, watched: Watched) -> None:
    topic = watched.topics.dead_frame
    asyncio.run(own_topics.send(engines.kafka_bootstrap_servers, topic, [b"{}"]))

    def is_told(seen: dict[str, Any]) -> bool:
        """The trend is that of the last rounds: some have to pass before it falls with the clock."""
        return "losing data soon" in seen["reason"] and -1.8 < seen["readers"][0]["headroom_trend"] < FALLING

    soon = watched.wait("the warning", is_told)
    (reader,) = soon["readers"]
    assert (soon["verdict"], reader["lag_records"], reader["state"]) == ("degraded", 1, "bad")
    assert 0 < reader["headroom_seconds"] < 0.8 * RETENTION_MS / 1000
    alerted = watched.wait("the alert", lambda seen: bool(seen["alerts"]))["alerts"][0]
    assert (alerted["condition"], alerted["subject"]) == ("headroom", "room:inserter")
    assert alerted["remedy"]["command"] == "candlewire logs inserter"
    assert "started again by itself" in alerted["remedy"]["effect"]
    # As if the time were over: the broker deletes what was not read.
    asyncio.run(own_topics.expire(engines.kafka_bootstrap_servers, topic, {0: 1}))
    watched.wait("the loss", lambda seen: seen["verdict"] == "losing data")
    watched.execute("update kline_checkpoint set next_offset = 1")
    over = watched.wait("the recovery", lambda seen: all(row["recovered_at_ms"] for row in seen["alerts"]))
    assert (over["readers"][0]["lag_records"], "losing" in over["reason"]) == (0, False)
    wait_for("the webhook", lambda: watched.hook.states("headroom") == ["raised", "recovered"], DEADLINE_S)
    rows = "select subject, recovered_at is not null from operator_alert where condition = 'headroom'"
    wait_for("its row", lambda: watched.execute(rows) == [("room:inserter", True)], DEADLINE_S)

    def told() -> list[bool]:
        found = [alert for alert in newest_alerts(engines, watched.topics) if alert.condition == "headroom"]
        return [alert.recovered_at_ms is not None for alert in found]

    wait_for("both records", lambda: told() == [False, True], DEADLINE_S)


def test_history_is_kept_and_survives_a_database_that_is_away(watched: Watched) -> None:
    server, name = with_database(watched.database_url, "postgres"), name_of(watched.database_url)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"alter database {name} with allow_connections false")
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        try:
            away = watched.wait("its absence", lambda seen: engine(seen, "postgres") == "down")
            assert "the database does not answer" in away["reason"]
            assert away["data"]["open_gaps"]["count"] is None
            assert away["readers"][0]["lag_records"] is not None
            assert watched.web.http.get("/api/v1/status").json()["verdict"] == "degraded"
            answer = watched.web.http.get("/api/v1/operator/history?subject=system")
            assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
        finally:
            connection.execute(f"alter database {name} with allow_connections true")
    back = watched.wait("its return", lambda seen: engine(seen, "postgres") == "up")
    newest_ms = back["taken_at_ms"]

    def points(subject: str) -> list[dict[str, Any]]:
        answer = watched.web.http.get("/api/v1/operator/history", params={"subject": subject})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["points"]
        return found

    wait_for("a new sample", lambda: points("system")[-1]["at_ms"] >= newest_ms, DEADLINE_S)
    moments = [point["at_ms"] for point in points(f"reader:inserter:{watched.topics.dead_frame.name}/0")]
    assert moments == sorted(set(moments))
    assert points("nothing") == []
    assert watched.web.http.get("/api/v1/operator/history").status_code == 400
    partitions = watched.execute(
        "select count(*), count(obj_description(inhrelid, 'pg_class')) from pg_inherits"
        " where inhparent = 'operator_sample'::regclass"
    )
    assert partitions == [(2, 2)]


def test_one_of_two_processes_alerts(engines: Engines, watched: Watched, tmp_path: Path) -> None:
    program = ("tests.operations_process", str(own_topics.write_file(watched.topics, tmp_path / "topics.toml")))
    hook = Hook(is_refusing=False)
    with hook.serving():
        variables = {
            "DATABASE_URL": watched.database_url,
            "OPERATOR_REFRESH_MS": "1000",
            "OPERATOR_SAMPLE_MS": "1000",
            "OPERATOR_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/",
            "OPERATOR_DISK_FREE_SHARE": "0.9999",
        }
        with run_webapp(engines.environment, tmp_path / "log", program, **variables) as second:
            second.wait_ready()

            def alerts() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = second.http.get("/api/v1/operator").json().get("alerts", [])
                return found

            wait_for("what the first one raised", lambda: bool(alerts()), DEADLINE_S)
            assert {row["condition"] for row in alerts()} == {"headroom"}
    assert hook.posts == []


def test_broker_and_database_away_from_the_start(engines: Engines, tmp_path: Path) -> None:
    variables = {
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/nothing",
        "ANALYST_DATABASE_URL": "",
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "OPERATOR_REFRESH_MS": "1000",
    }
    with run_webapp(engines.environment, tmp_path / "log", **variables) as process:
        wait_for("webapp", lambda: process.readiness()[0] == 503, DEADLINE_S)
        answers: list[httpx.Response] = []

        def is_known() -> bool:
            answers[:] = [process.http.get("/api/v1/operator")]
            return answers[0].status_code == 200

        wait_for("the figures", is_known, DEADLINE_S)
        found = answers[0].json()
        assert [engine(found, name) for name in ("kafka", "postgres", "valkey")] == ["down"] * 3
        assert all(
            what in found["reason"] for what in ("the broker does not", "the database does not", "Valkey does not")
        )
        assert {row["state"] for row in found["topics"]} == {"unknown"}
        assert found["topics"][0]["records"] is None
        assert process.http.get("/api/v1/status").json()["readers"] == []
        told = process.http.get("/api/v1/status", headers={"Via": "a proxy"}).json()["reason"]
        assert told == "the broker does not answer; the database does not answer; Valkey does not answer"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"relayed_to_painted_ms": [12.5, 60000, 0]}', "application/json", 204),
        (b'{"relayed_to_painted_ms": [-1]}', "application/json", 400),
        (b'{"relayed_to_painted_ms": [1e9]}', "application/json", 400),
        (b'{"relayed_to_painted_ms": "12"}', "application/json", 400),
        (b'{"relayed_to_painted_ms": [' + b",".join([b"1"] * 61) + b"]}", "application/json", 400),
        (b'{"relayed_to_painted_ms": [' + b"1, " * 5_000 + b"1]}", "application/json", 400),
        (b'{"relayed_to_painted_ms": [\xff]}', "application/json", 400),
        (b'{"relayed_to_painted_ms": [1]}', "text/plain", 415),
    ],
)
def test_what_a_page_reports_of_its_last_hop_is_bounded(watched: Watched, body: bytes, kind: str, status: int) -> None:
    def counted() -> float:
        metrics = httpx.get(f"http://127.0.0.1:{watched.web.health_port}/metrics", timeout=HTTP_TIMEOUT_S).text
        return float(re.findall(r"^page_painted_seconds_count (\S+)", metrics, re.MULTILINE)[0])

    before = counted()
    answer = watched.web.http.post("/api/v1/painted", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert counted() - before == (3 if status == 204 else 0)


def test_a_body_that_is_far_too_large_is_refused_unread(watched: Watched) -> None:
    with socket.create_connection(("127.0.0.1", watched.web.port)) as connection:
        head = "POST /api/v1/painted HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 9000000\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(16).startswith(b"HTTP/1.1 413")
