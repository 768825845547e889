"""The views for analysts in a real PostgreSQL: what they say, comments, index use, and what the role may not do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row

from tests.analyst_rows import COUNT, REVISED_AT_MS, REVISED_MS, SYMBOL, TORN_MS, store_analyst_rows
from tests.conftest import Engines, with_database
from tests.stack_process import ROOT
from tests.webapp_process import END_MS, moment, name_of
from webapp.analyst_role import ANALYST_TABLES, ANALYST_VIEWS

Analyst = psycopg.Connection[dict[str, Any]]
QUERIES = re.findall(
    r"^```sql\n(.*?)^```", (ROOT / "docs" / "ANALYSTS.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)


@pytest.fixture(scope="module")
def database(module_database: str) -> str:
    """URL of the owner, with rows."""
    with psycopg.connect(module_database) as connection:
        store_analyst_rows(connection)
    with psycopg.connect(module_database, autocommit=True) as connection:
        connection.execute("vacuum analyze")
    return module_database


@pytest.fixture
def analyst(engines: Engines, database: str) -> Iterator[Analyst]:
    """A session of the read-only role."""
    url = with_database(engines.analyst_database_url, name_of(database))
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def test_candles_are_those_of_the_tables_with_their_completeness(analyst: Analyst) -> None:
    query = "select * from candles where symbol = %s and interval = %s order by open_time"
    minutes = analyst.execute(query, [SYMBOL, "1m"]).fetchall()
    assert len(minutes) == COUNT
    torn = next(row for row in minutes if row["open_time"] == moment(TORN_MS))
    assert (torn["completeness"], torn["is_complete"], torn["row_count"]) == (Decimal("0.8"), False, 48)
    assert {row["completeness"] for row in minutes} == {Decimal(1), Decimal("0.8")}
    seconds = analyst.execute(query, [SYMBOL, "1s"]).fetchall()
    assert [row["source"] for row in seconds] == ["stream"] * 120
    assert seconds[-1]["covered_until"] == moment(END_MS)
    columns = "symbol, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count"
    for table, interval in (("kline_1s", "'1s'"), ("aggregated_kline", "interval")):
        missing = f"select {columns}, {interval} from {table} except all select {columns}, interval from candles"
        assert analyst.execute(missing).fetchall() == []


def test_candles_as_known_at_a_moment(analyst: Analyst) -> None:
    query = "select * from candles_known_at(%s, '1m', %s, %s, %s)"
    span = [moment(REVISED_MS), moment(REVISED_MS + 60_000)]
    now = analyst.execute(query, [SYMBOL, moment(REVISED_AT_MS), *span]).fetchall()
    before = analyst.execute(query, [SYMBOL, moment(REVISED_AT_MS - 1), *span]).fetchall()
    assert [(row["revision"], row["is_complete"]) for row in (*before, *now)] == [(0, False), (1, True)]
    assert before[0]["close"] == before[0]["low"]
    assert analyst.execute(query, [SYMBOL, moment(REVISED_MS), *span]).fetchall() == []
    whole = analyst.execute(
        "select count(*) as n from candles_known_at(%s, '1m', now() + interval '99 years')", [SYMBOL]
    )
    assert whole.fetchone() == {"n": COUNT}
    with pytest.raises(errors.InvalidParameterValue, match="1s") as refused:
        analyst.execute(query.replace("1m", "1s"), [SYMBOL, moment(REVISED_AT_MS), *span])
    assert refused.value.diag.message_hint == "Intervals: 1m, 5m, 15m, 1h, 4h, 1d."


def test_revisions_gaps_completeness_audits_and_the_latest(analyst: Analyst) -> None:
    versions = analyst.execute(
        "select revision, known_from, known_until from candle_revisions where symbol = %s and interval = '1m' "
        "and open_time = %s order by revision",
        [SYMBOL, moment(REVISED_MS)],
    ).fetchall()
    assert [row["known_until"] is None for row in versions] == [False, True]
    assert versions[1]["known_from"] == moment(REVISED_AT_MS)
    (hole,) = analyst.execute("select * from open_gaps").fetchall()
    assert (hole["seconds"], hole["cause"]) == (12, "disconnect")
    (settled,) = analyst.execute("select * from closed_gaps").fetchall()
    assert (settled["seconds"], settled["state"], settled["resolved_by"]) == (3, "repaired", "rest")
    assert {row["completeness"] for row in analyst.execute("select * from completeness")} == {Decimal("0.996667")}
    assert len(analyst.execute("select * from audits where state = 'equal'").fetchall()) == COUNT - 1
    differing = analyst.execute("select column_name, ours, exchange from audit_differences order by 1").fetchall()
    assert [tuple(row.values()) for row in differing] == [("close", "1.10", "1.11"), ("trade_count", "201", "240")]
    latest = analyst.execute("select interval, open_time from latest_candles where symbol = %s", [SYMBOL]).fetchall()
    assert {row["interval"]: row["open_time"] for row in latest} == {
        "1s": moment(END_MS - 1_000),
        "1m": moment(END_MS - 60_000),
        "1h": moment(END_MS - 3_600_000),
    }
    # The last second is newer than the ticker.
    (price,) = analyst.execute("select * from latest_prices").fetchall()
    assert (price["symbol"], price["price_from"], price["event_time"]) == (SYMBOL, "second", moment(END_MS))


@pytest.mark.parametrize(
    "query",
    [
        f"select * from candles where symbol = '{SYMBOL}' and interval = '1m' and open_time >= '2026-11-20 23:00Z'",
        f"select * from candles where symbol = '{SYMBOL}' and interval = '1m' order by open_time desc limit 5",
        f"select * from candles where symbol = '{SYMBOL}' and interval = '1s' order by open_time desc limit 5",
        f"select * from latest_candles where symbol = '{SYMBOL}' and interval = '1m'",
        f"select * from candle_revisions where symbol = '{SYMBOL}' and interval = '1m' and open_time < '2026-11-20'",
        f"select * from open_gaps where symbol = '{SYMBOL}' and from_time > '2026-11-20'",
    ],
)
def test_the_views_read_by_index(analyst: Analyst, query: str) -> None:
    # A few rows are read faster as a whole: what counts is that the index can serve the view's columns.
    analyst.execute("set enable_seqscan = off")
    plan = "\n".join(row["QUERY PLAN"] for row in analyst.execute(f"explain (costs off) {query}"))
    assert "Seq Scan" not in plan
    assert "Index Cond:" in plan
    other = "kline_1s" if "'1m'" in query else "aggregated_kline"
    assert other not in plan or "One-Time Filter" in plan


def test_every_view_column_and_function_explains_itself(database: str) -> None:
    with psycopg.connect(database) as connection:
        bare = connection.execute(
            "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 "
            "where c.relkind = 'v' and c.relnamespace = 'public'::regnamespace and (col_description(c.oid, a.attnum) "
            "is null or obj_description(c.oid, 'pg_class') is null)"
        ).fetchall()
        views = connection.execute("select viewname from pg_views where schemaname = 'public'").fetchall()
        functions = connection.execute(
            "select proname from pg_proc where pronamespace = 'public'::regnamespace "
            "and obj_description(oid, 'pg_proc') is null"
        ).fetchall()
    assert (bare, functions) == ([], [])
    assert {name for (name,) in views} == set(ANALYST_VIEWS)


def test_the_role_reads_what_is_its_own_and_nothing_else(analyst: Analyst) -> None:
    readable = {
        row["relname"]
        for row in analyst.execute(
            "select relname::text from pg_class where relnamespace = 'public'::regnamespace "
            "and relkind in ('r', 'p', 'v') and not relispartition and has_table_privilege(oid, 'select')"
        )
    }
    assert readable == {*ANALYST_TABLES, *ANALYST_VIEWS}
    for name in sorted(readable):
        analyst.execute(f"select * from {name} limit 1")
    for secret in ("operator_action", "room_control", "django_migrations", "pg_authid"):
        with pytest.raises(errors.InsufficientPrivilege):
            analyst.execute(f"select * from {secret}")


def test_the_role_writes_nothing_even_when_it_insists(engines: Engines, database: str, analyst: Analyst) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(f"revoke temporary on database {name_of(database)} from public")
    for name, value in (("statement_timeout", "30s"), ("idle_in_transaction_session_timeout", "5min")):
        assert analyst.execute(f"show {name}").fetchone() == {name: value}
    with pytest.raises(errors.ReadOnlySqlTransaction):
        analyst.execute("create temp table mine (x int)")
    analyst.execute("set default_transaction_read_only = off")
    for statement in (
        "create temp table mine (x int)",
        "create table mine (x int)",
        "create view mine as select 1",
        "select lo_create(0)",
        "select ensure_kline_1s_day('2030-01-01')",
        "update candles set close = 0",
        "delete from open_gaps",
        "insert into completeness (symbol) values ('X')",
        "truncate kline_1s",
        "copy candles to program 'true'",
        "set temp_file_limit = -1",
        "alter role analyst superuser",
    ):
        with pytest.raises((errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState)):
            analyst.execute(statement)
    analyst.execute("set statement_timeout = 50")
    with pytest.raises(errors.QueryCanceled):
        analyst.execute("select pg_sleep(5)")


@pytest.mark.parametrize("query", QUERIES, ids=[query.split("\n", 1)[0].removeprefix("-- ") for query in QUERIES])
def test_the_documented_queries_give_rows(analyst: Analyst, query: str) -> None:
    assert analyst.execute(query).fetchall()
