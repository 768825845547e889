"""The engines as `candlewire up --engines` leaves them: real, on loopback, with roles and topics that rooms expect."""

from __future__ import annotations

from pathlib import Path

import psutil
import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from runtime import topic_state
from runtime.kafka_client import load_topics
from stack.engines import jars, kafka
from stack.engines.java import find_java
from stack.layout import Layout
from tests.conftest import Engines
from tests.stack_process import free_port


def test_the_database_is_a_real_postgresql_with_an_owner_and_a_read_only_role(engines: Engines) -> None:
    with psycopg.connect(engines.database_url) as connection:
        row = connection.execute("select version(), current_user, current_setting('jit')").fetchone()
    assert row is not None
    assert row[0].startswith("PostgreSQL 18")
    assert row[1:] == ("candlewire", "off")
    with psycopg.connect(engines.analyst_database_url) as connection:
        assert connection.execute("select current_user, current_setting('statement_timeout')").fetchone() == (
            "analyst",
            "30s",
        )
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("create table forbidden (n int)")


def test_the_database_refuses_a_wrong_password(engines: Engines) -> None:
    wrong = engines.analyst_database_url.replace("analyst:", "analyst:not-", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


async def test_every_declared_topic_is_on_the_broker(engines: Engines) -> None:
    declared = {topic.name: topic.partitions for topic in load_topics().all()}
    admin = AIOKafkaAdminClient(bootstrap_servers=engines.kafka_bootstrap_servers)
    await admin.start()
    try:
        found = await topic_state.describe(admin, list(declared))
    finally:
        await admin.close()
    assert {name: len(state.partitions) for name, state in found.items()} == declared


def test_the_broker_has_its_classes_from_the_archive_that_the_set_up_made(engines: Engines) -> None:
    archive = kafka.archive_of(find_java(), jars.ensure())
    mapped = Path("/proc", str(engines.stack.room("kafka")["pid"]), "maps").read_text()
    assert (str(archive) in mapped) == archive.exists()


def test_a_damaged_archive_of_classes_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "CACHE", tmp_path)
    archive = kafka.archive_of(find_java(), jars.ensure())
    archive.write_bytes(b"damaged")
    layout = Layout(tmp_path / "stack")
    layout.create()
    program = kafka.prepare(layout, kafka.KafkaOptions(free_port(), free_port(), None))
    assert f"-XX:AOTCache={archive}" in program.command
    assert (layout.data_dir / "kafka" / "data" / "meta.properties").exists(), "Java formatted the storage"


def test_nothing_listens_beyond_loopback(engines: Engines) -> None:
    addresses = set()
    for room in engines.stack.status()["rooms"]:
        process = psutil.Process(room["pid"])
        addresses |= {
            connection.laddr.ip
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_secrets_are_for_their_owner_only(engines: Engines) -> None:
    files = [*(engines.data_dir / "secrets").iterdir(), engines.data_dir / "run" / "stack.json"]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_no_secret_is_in_a_log(engines: Engines) -> None:
    secrets = [path.read_text().strip() for path in (engines.data_dir / "secrets").iterdir()]
    logs = [path.read_text(errors="replace") for path in (engines.data_dir / "logs").iterdir()]
    logs += engines.stack.output
    assert [secret for secret in secrets for log in logs if secret in log] == []
