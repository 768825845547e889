"""The schema as the migrations leave it: comments everywhere, models in step, the analyst reads and cannot write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from structlog.testing import capture_logs

from runtime.database import LAST_OF_SCHEMA
from runtime.health import Health
from runtime.operations.room_control import RoomControl
from tests.conftest import Engines, with_database
from tests.stack_process import ROOT, wait_for

COMMAND_TIMEOUT_S = 120
CONTRACT_TABLES = ["kline_1s", "aggregated_kline", "kline_checkpoint", "symbol_watermark", "kline_gap", "dead_letter"]


def manage(engines: Engines, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m webapp ...`."""
    return subprocess.run(
        [sys.executable, "-m", "webapp", *arguments],
        cwd=ROOT,
        env={**os.environ, **engines.environment, **variables},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def test_a_room_that_is_there_before_the_schema_warns_of_nothing(engines: Engines, tmp_path: Path) -> None:
    control = RoomControl(with_database(engines.database_url, "postgres"), "inserter", tmp_path, Health("inserter"))
    with capture_logs() as lines:
        control.look()
    assert [(line["event"], line["log_level"]) for line in lines] == [("control_not_read", "info")]
    assert control.wait_first()


def test_every_table_and_column_has_a_comment(fresh_database: str) -> None:
    with psycopg.connect(fresh_database) as connection:
        bare = connection.execute(
            """
            select c.relname, a.attname from pg_class c
            join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
            left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            where c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'django_migrations'
                and (obj_description(c.oid, 'pg_class') is null or col_description(c.oid, a.attnum) is null)
            """
        ).fetchall()
    assert bare == []


def test_models_mirror_the_tables(engines: Engines, fresh_database: str) -> None:
    result = manage(engines, "makemigrations", "--check", "--dry-run", DATABASE_URL=fresh_database)
    assert result.returncode == 0, result.stdout + result.stderr
    script = """
from django.apps import apps
from django.db import connections
cursor = connections['default'].cursor()
for model in apps.get_models():
    table = model._meta.db_table
    cursor.execute('select attname from pg_attribute where attrelid = %s::regclass and attnum > 0', [table])
    real = {row[0] for row in cursor.fetchall()}
    ours = {field.column for field in model._meta.concrete_fields if field.column}
    assert real == ours, (table, real ^ ours)
    list(model.objects.all()[:1])
"""
    result = manage(engines, "shell", "--verbosity", "0", "-c", script, DATABASE_URL=fresh_database)
    assert result.returncode == 0, result.stderr


def test_migrations_are_at_home_on_their_second_run(engines: Engines, fresh_database: str) -> None:
    first, second = (
        subprocess.Popen(
            [sys.executable, "-m", "webapp", "migrate"],
            cwd=ROOT,
            env={**os.environ, **engines.environment, "DATABASE_URL": fresh_database},
        )
        for _ in range(2)
    )
    assert (first.wait(COMMAND_TIMEOUT_S), second.wait(COMMAND_TIMEOUT_S)) == (0, 0)


def test_the_grant_waits_for_who_writes_the_same_table(engines: Engines, fresh_database: str) -> None:
    # A grant locks nothing: beside the first partition of kline_1s it failed with "tuple concurrently updated".
    with psycopg.connect(fresh_database, autocommit=True) as owner:
        owner.execute("revoke select on kline_1s from analyst")
        with psycopg.connect(fresh_database) as inserter:
            inserter.execute("select ensure_kline_1s_day('2026-11-22')")
            migrating = subprocess.Popen(
                [sys.executable, "-m", "webapp", "migrate"],
                cwd=ROOT,
                env={**os.environ, **engines.environment, "DATABASE_URL": fresh_database},
            )
            waiting = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            wait_for("the grant to wait", lambda: owner.execute(waiting).fetchone(), COMMAND_TIMEOUT_S)
        assert migrating.wait(COMMAND_TIMEOUT_S) == 0
        assert owner.execute("select has_table_privilege('analyst', 'kline_1s', 'select')").fetchone() == (True,)


def test_migrations_go_back_and_forth(engines: Engines, fresh_database: str) -> None:
    newest_but_one = sorted(path.stem for path in (ROOT / "webapp" / "migrations").glob("0*.py"))[-2]
    # A room that finds LAST_OF_SCHEMA finds everything.
    for target, gone in ((newest_but_one, LAST_OF_SCHEMA), ("zero", "kline_1s")):
        assert manage(engines, "migrate", "webapp", target, DATABASE_URL=fresh_database).returncode == 0
        with psycopg.connect(fresh_database) as connection:
            assert connection.execute("select to_regclass(%s)", [gone]).fetchone() == (None,)
    assert manage(engines, "migrate", DATABASE_URL=fresh_database).returncode == 0


def test_the_analyst_reads_everything_of_the_contract_and_writes_nothing(engines: Engines, fresh_database: str) -> None:
    url = with_database(engines.analyst_database_url, fresh_database.rsplit("/", 1)[1].split("?", maxsplit=1)[0])
    with psycopg.connect(url, autocommit=True) as connection:
        for table in CONTRACT_TABLES:
            assert connection.execute(f"select count(*) from {table}").fetchone() == (0,)
        assert connection.execute("show statement_timeout").fetchone() != ("0",)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("select * from django_migrations")
        for statement in (
            "insert into symbol_watermark values ('X', 'kline_1s', now())",
            "delete from kline_gap",
            "update kline_checkpoint set next_offset = 0",
            "drop table kline_1s",
            "create table mine (x int)",
        ):
            with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
                connection.execute(statement)
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("delete from kline_gap")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("create table mine (x int)")


def test_the_deployment_check_is_clean(engines: Engines) -> None:
    result = manage(
        engines, "check", "--deploy", "--fail-level", "WARNING", WEB_HTTPS="true", SECRET_KEY="abcde12345" * 6
    )
    assert result.returncode == 0, result.stderr


def test_wrong_settings_are_all_named_and_nothing_starts(engines: Engines) -> None:
    result = manage(engines, PORT="99999", SOURCE="moon", WEB_THREADS="0")
    assert result.returncode == 2
    assert [name for name in ("PORT", "SOURCE", "WEB_THREADS") if name not in result.stderr] == []
