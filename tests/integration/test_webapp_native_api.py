"""/api/v1 and what surrounds it: paging, ledger, completeness, status, problems, headers, the OpenAPI document."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from aggregator.completeness import mark_uncounted, recount
from market.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from runtime.database import connect
from runtime.kafka_client import load_topics, new_producer
from tests.conftest import Engines, with_database
from tests.stack_process import wait_for
from tests.webapp_process import (
    DEADLINE_S,
    END_MS,
    WebappProcess,
    insert_klines,
    insert_symbols,
    make_klines,
    moment,
    name_of,
    run_webapp,
)

MINUTES = make_klines("BTCUSDT", Interval.M1, END_MS, 130)
SECONDS = make_klines("BTCUSDT", Interval.S1, END_MS, 4000)
GAP = (END_MS - 30 * MINUTE_MS, END_MS - 29 * MINUTE_MS + 5_000)
#: When the candles of this module were written, and the one that was revised twice, a second apart, after that.
KNOWN_MS = END_MS + 60_000
REVISED = MINUTES[-2]
ABSENT = (END_MS - 10 * MINUTE_MS, END_MS - 10 * MINUTE_MS + 2_000)


@pytest.fixture(scope="module")
def webapp(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebappProcess]:
    """A server with rows, reading as the analyst does, and with two gaps."""
    missing = [GAP, ABSENT]
    with psycopg.connect(module_database) as connection:
        insert_symbols(connection, "BTCUSDT")
        stored = [k for k in SECONDS if not any(a <= k.open_time_ms < b for a, b in missing)]
        insert_klines(connection, stored)
        for (from_ms, to_ms), state in zip(missing, ("open", "absent"), strict=True):
            connection.execute(
                "insert into kline_gap (symbol, from_time, to_time, cause, state) "
                "values ('BTCUSDT', %s, %s, 'silence', %s)",
                [moment(from_ms), moment(to_ms), state],
            )
        connection.execute("insert into symbol_watermark values ('BTCUSDT', 'kline_1s', %s)", [moment(END_MS)])
        connection.execute(
            "insert into kline_checkpoint (topic, topic_id, partition, next_offset, epoch) "
            "values ('kline_1s', gen_random_uuid(), 0, 0, 1), ('no_such_topic', gen_random_uuid(), 0, 0, 1)"
        )
    with connect(module_database, "test") as counting:
        mark_uncounted(counting)
        assert recount(counting).hours == 2
    with psycopg.connect(module_database) as connection:
        insert_klines(connection, MINUTES)
        connection.execute("update aggregated_kline set updated_at = %s", [moment(KNOWN_MS)])
        revise = "update aggregated_kline set high = high + %s, revision = %s, updated_at = %s where open_time = %s"
        for revision in (1, 2):
            at = moment(KNOWN_MS + revision * 1000)
            connection.execute(revise, [revision, revision, at, moment(REVISED.open_time_ms)])
        connection.execute(
            "insert into minute_audit (symbol, open_time, state, reason, differences, tolerances, compared_with,"
            " revision, rechecks, needs_person) values"
            " ('BTCUSDT', %s, 'equal', null, '{}', '{quote_truncation}', 'stream', 0, 0, false),"
            " ('BTCUSDT', %s, 'different', null, '{\"high\": [\"3\", \"1.50\"]}', '{}', 'rest', 2, 2, true),"
            " ('BTCUSDT', %s, 'not_comparable', '55 of 60 seconds', '{}', '{}', null, 0, 0, false)",
            [moment(END_MS - n * MINUTE_MS) for n in (3, 2, 1)],
        )
        connection.execute(
            "insert into completeness_hour (symbol, hour, expected, stream, rest, trades, absent, open)"
            " select 'MANY' || n, hour, 3600, 3600, 0, 0, 0, 0 from generate_series(1, 70) n,"
            " generate_series(timestamptz '2000-01-01T00:00Z', '2000-01-31T23:00Z', interval '1 hour') hour"
        )
    analyst = with_database(engines.analyst_database_url, name_of(module_database))
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": analyst, "API_WEIGHT_PER_MINUTE": "0"}
    with run_webapp(engines.environment, tmp_path_factory.mktemp("webapp") / "log", **variables) as process:
        process.wait_ready()
        yield process


def get(webapp: WebappProcess, path: str, **query: Any) -> Any:
    """Body of a request that must work."""
    answer = webapp.http.get(f"/api/v1/{path}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["source"] == "sim"
    return answer.json()


def test_paging_back_gives_every_candle_once(webapp: WebappProcess) -> None:
    seen: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(webapp, "klines", symbol="btcusdt", interval="1m", limit=50, **cursor)
        rows = [dict(zip(page["columns"], row, strict=True)) for row in page["rows"]]
        seen = [row["open_time_ms"] for row in rows] + seen
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [kline.open_time_ms for kline in MINUTES]
    assert rows[0]["row_count"] == 60
    assert rows[0]["high"] == str(MINUTES[0].high)
    assert rows[0]["source"] == "seconds"


def test_times_are_ms_or_iso_and_the_end_is_exclusive(webapp: WebappProcess) -> None:
    query = {"symbol": "BTCUSDT", "interval": "1m"}
    iso = get(webapp, "klines", **query, start="2026-11-20T23:58:00Z", end="2026-11-20T23:59:00+00:00")
    assert [row[0] for row in iso["rows"]] == [END_MS - 2 * MINUTE_MS]
    in_ms = get(webapp, "klines", **query, start=END_MS - 2 * MINUTE_MS, end=END_MS - MINUTE_MS)
    assert in_ms["rows"] == iso["rows"]


def test_seconds_have_the_columns_of_candles(webapp: WebappProcess) -> None:
    page = get(webapp, "klines", symbol="BTCUSDT", interval="1s", limit=1)
    row = dict(zip(page["columns"], page["rows"][0], strict=True))
    assert (row["open_time_ms"], row["is_complete"], row["source"]) == (END_MS - 1000, True, "stream")


def test_minutes_tell_gaps(webapp: WebappProcess) -> None:
    body = get(webapp, "minutes", symbol="BTCUSDT", to=END_MS, **{"from": END_MS - HOUR_MS})
    states = {row[0]: row[1] for row in body["rows"]}
    assert len(states) == 60
    # The candles of this test claim to be complete: a gap in one means that it was repaired.
    assert states[END_MS - 30 * MINUTE_MS] == "repaired"
    assert states[END_MS - 31 * MINUTE_MS] == "complete"
    assert [(gap["cause"], gap["detector"], gap["attempts"]) for gap in body["gaps"]] == [
        ("silence", "open_times", 0)
    ] * 2
    assert body["columns"][-2:] == ["rest_count", "trades_count"]
    # The open gap, not the one that the exchange has nothing for.
    assert body["complete_since_ms"] == GAP[1]


def test_completeness_adds_up(webapp: WebappProcess) -> None:
    hours = get(webapp, "completeness", symbol="BTCUSDT")["hours"]
    for hour in hours:
        assert hour["expected"] == sum(hour[name] for name in ("stream", "rest", "trades", "absent", "open")), hour
    assert [hour["expected"] for hour in hours] == [400, 3600]
    assert (hours[1]["open"], hours[1]["absent"]) == (65, 2)


def test_completeness_is_of_whole_hours_and_says_how_old_it_is(webapp: WebappProcess) -> None:
    hours = get(webapp, "completeness", to=END_MS - HOUR_MS // 2, **{"from": END_MS - HOUR_MS // 2 - 1})["hours"]
    assert [(hour["hour"], hour["expected"]) for hour in hours] == [(END_MS - HOUR_MS, 3600)]
    assert hours[0]["updated_at_ms"] > 0


def test_audit_counts_all_and_lists_what_is_asked_for(webapp: WebappProcess) -> None:
    body = get(webapp, "audit", symbol="BTCUSDT")
    assert body["counts"] == {"equal": 1, "different": 1, "not_comparable": 1, "needs_person": 1}
    assert [row["state"] for row in body["minutes"]] == ["not_comparable", "different", "equal"]
    assert body["minutes"][2]["tolerances"] == ["quote_truncation"]
    assert body["minutes"][0]["reason"] == "55 of 60 seconds"
    (only,) = get(webapp, "audit", state="different")["minutes"]
    assert (only["symbol"], only["differences"], only["needs_person"]) == ("BTCUSDT", {"high": ["3", "1.50"]}, True)


def test_revisions_and_what_was_known_at_a_moment(webapp: WebappProcess) -> None:
    body = get(webapp, "revisions", symbol="BTCUSDT", interval="1m")
    rows = [dict(zip(body["columns"], row, strict=True)) for row in body["rows"]]
    highs = [str(REVISED.high + more) for more in (0, 1, 3)]
    assert [(row["revision"], row["high"]) for row in rows] == list(enumerate(highs))
    assert [row["open_time_ms"] for row in rows] == [REVISED.open_time_ms] * 3
    assert [row["replaced_at_ms"] is None for row in rows] == [False, False, True]

    def known(at_ms: int) -> list[tuple[int, str, int]]:
        page = get(webapp, "klines", symbol="BTCUSDT", interval="1m", limit=3, known_at=at_ms)
        found = [dict(zip(page["columns"], row, strict=True)) for row in page["rows"]]
        return [(row["open_time_ms"], row["high"], row["revision"]) for row in found]

    assert known(KNOWN_MS - 1) == []
    for revision, high in enumerate(highs):
        newest = known(KNOWN_MS + revision * 1000 + 999)
        assert [row[0] for row in newest] == [kline.open_time_ms for kline in MINUTES[-3:]]
        assert newest[1] == (REVISED.open_time_ms, high, revision)
        assert [row[2] for row in newest] == [0, revision, 0]


def test_gaps_by_range(webapp: WebappProcess) -> None:
    def gaps(from_ms: int, to_ms: int) -> list[int]:
        query = {"symbol": "BTCUSDT", "from": from_ms, "to": to_ms}
        return [gap["from_time_ms"] for gap in get(webapp, "gaps", **query)["gaps"]]

    assert gaps(END_MS - HOUR_MS, END_MS) == [GAP[0], ABSENT[0]]
    assert gaps(GAP[1], END_MS) == [ABSENT[0]]
    assert gaps(GAP[1] - 1, GAP[1]) == [GAP[0]]


def test_more_gaps_than_an_answer_holds_are_told(webapp: WebappProcess, module_database: str) -> None:
    first_ms = END_MS - 40 * DAY_MS
    with psycopg.connect(module_database) as connection:
        connection.execute(
            "insert into kline_gap (symbol, from_time, to_time, cause, state) select 'MANYUSDT', at,"
            " at + interval '1 second', 'silence', 'repaired' from generate_series(%s::timestamptz,"
            " %s::timestamptz + interval '5000 minutes', interval '1 minute') at",
            [moment(first_ms), moment(first_ms)],
        )
    query = {"from": str(first_ms)}
    for minutes, is_cut in ((5_000, False), (5_001, True)):
        body = get(webapp, "gaps", **query, to=str(first_ms + minutes * MINUTE_MS))
        assert (len(body["gaps"]), body["is_cut"]) == (5_000, is_cut)


async def write_record(engines: Engines) -> int:
    """One record on partition 0 of the topic; its offset."""
    producer = new_producer(engines.kafka_bootstrap_servers, "test_webapp")
    await producer.start()
    try:
        return (await producer.send_and_wait(load_topics().kline_1s.name, b"{}", partition=0)).offset
    finally:
        await producer.stop()


def test_status_asks_the_broker(engines: Engines, module_database: str, webapp: WebappProcess) -> None:
    offset = asyncio.run(write_record(engines))
    with psycopg.connect(module_database) as connection:
        connection.execute("update kline_checkpoint set next_offset = %s where topic = 'kline_1s'", [offset])

    def behind() -> dict[str, Any] | None:
        """Figures are collected beside the requests: the first may be none, or older than the record."""
        found: list[dict[str, Any]] = [row for row in get(webapp, "status")["readers"] if row["topic"] == "kline_1s"]
        return found[0] if found and found[0]["lag_records"] else None

    reader = wait_for("the broker's answer", behind, DEADLINE_S)
    assert 0 <= reader["lag_seconds"] < 900
    assert reader["headroom_seconds"] + reader["lag_seconds"] == pytest.approx(900, abs=0.1)


def test_symbols_checkpoints_status(webapp: WebappProcess) -> None:
    (symbol,) = get(webapp, "symbols")["symbols"]
    assert (symbol["symbol"], symbol["price_decimals"], symbol["quantity_decimals"]) == ("BTCUSDT", 2, 5)
    assert get(webapp, "checkpoints")["watermarks"][0]["event_time_ms"] == END_MS
    wait_for("the first figures", lambda: get(webapp, "status")["readers"], DEADLINE_S)
    status = get(webapp, "status")
    assert status["verdict"] in ("healthy", "degraded", "losing data")
    assert "silence" in status["reason"] or status["verdict"] == "losing data"


@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("klines?interval=1m", 400, "symbol"),
        ("klines?symbol=BTCUSDT", 400, "interval"),
        ("klines?symbol=BTCUSDT&interval=1M", 400, "interval"),
        ("klines?symbol=NOTHING&interval=1m", 404, "symbol"),
        ("klines?symbol=%00&interval=1m", 400, "symbol"),
        ("klines?symbol=BTCUSDT&interval=1m&limit=1001", 400, "limit"),
        ("klines?symbol=BTCUSDT&interval=1m&start=yesterday", 400, "start"),
        ("klines?symbol=BTCUSDT&interval=1m&cursor=x", 400, "cursor"),
        ("klines?symbol=BTCUSDT&interval=1m&start=2&end=2", 400, "end"),
        ("minutes?symbol=BTCUSDT&interval=1s", 400, "interval"),
        ("completeness?from=0&to=1795219200000", 400, "from"),
        ("completeness?from=2000-01-01&to=2000-02-01", 400, "from"),
        ("gaps?from=2&to=1", 400, "to"),
        ("audit?state=fine", 400, "state"),
        ("audit?from=0&to=1795219200000", 400, "from"),
        ("revisions?interval=1m", 400, "symbol"),
        ("klines?symbol=BTCUSDT&interval=1s&known_at=1", 400, "known_at"),
        ("klines?symbol=BTCUSDT&interval=1m&known_at=then", 400, "known_at"),
        ("klines?symbol=BTCUSDT&symbol=BTCUSDT&interval=1m", 400, "symbol"),
    ],
)
def test_problems(webapp: WebappProcess, path: str, status: int, parameter: str) -> None:
    answer = webapp.http.get(f"/api/v1/{path}")
    body = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert (body["status"], body["parameter"], body["instance"]) == (
        status,
        parameter,
        f"/api/v1/{path.split('?', maxsplit=1)[0]}",
    )


def test_no_path_ignores_a_parameter_that_it_does_not_have(webapp: WebappProcess) -> None:
    """A wrong name, or one of another path of ours, is told so; it never answers for another range."""
    document = webapp.http.get("/api/schema/").json()
    seen = 0
    for path, methods in document["paths"].items():
        if not path.startswith("/api/v1/") or "get" not in methods:
            continue
        names = [one["name"] for one in methods["get"].get("parameters", []) if one["in"] == "query"]
        wrong = {"startTime": "start", "to": "end"} if "end" in names else {"start": "from", "endTime": "to"}
        for name, here in {**wrong, "nonsense": "", "format": ""}.items():
            if name in names:
                continue
            answer = webapp.http.get(path.replace("{export_id}", "x"), params={name: "1"})
            told = (answer.status_code, answer.headers["Content-Type"], answer.json().get("parameter"))
            assert told == (400, "application/problem+json", name), path
            assert sorted(answer.json()["allowed"]) == sorted(names), path
            assert (f"it is called '{here}' here" in answer.json()["detail"]) == (here in names), path
            seen += 1
    assert seen > 50


def test_unknown_paths_and_methods_are_problems_too(webapp: WebappProcess) -> None:
    for answer in (webapp.http.get("/api/v1/nothing"), webapp.http.delete("/api/v1/klines")):
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.status_code in (403, 404, 405)


def test_every_answer_carries_strict_headers(webapp: WebappProcess) -> None:
    of_pages = r"default-src 'self'; (?!.*unsafe).*connect-src 'self' ws://127\.0\.0\.1:\d+;"
    pages = dict.fromkeys(("/", "/about/", "/api/docs/", "/nothing"), of_pages)
    data = ("/api/v1/symbols", "/api/v3/ping", "/api/v3/nothing", "/api/schema/", "/udf/config")
    for path, wanted in {**pages, **dict.fromkeys(data, "default-src 'none'; ")}.items():
        headers = webapp.http.get(path).headers
        assert re.match(wanted, headers["Content-Security-Policy"])
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"


def test_a_page_that_has_not_changed_keeps_its_policy(webapp: WebappProcess) -> None:
    fresh = webapp.http.get("/api/docs/").headers
    again = webapp.http.get("/api/docs/", headers={"If-None-Match": fresh["ETag"]})  # its headers replace the kept
    assert (again.status_code, again.headers["Content-Security-Policy"]) == (304, fresh["Content-Security-Policy"])


def test_pages_carry_no_inline_code(webapp: WebappProcess) -> None:
    for path in ("/", "/chart/BTCUSDT", "/about/", "/api/docs/"):
        html = webapp.http.get(path).text
        # A block of JSON is data: browsers do not run it, and the policy does not apply to it.
        code = r'<script(?![^>]*\bsrc=)(?![^>]*type="application/json")[^>]*>|<style|\sstyle=|\son\w+='
        assert re.findall(code, html) == []


def test_a_foreign_host_name_is_refused(webapp: WebappProcess) -> None:
    answer = webapp.http.get("/api/v1/symbols", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "evil" not in answer.headers["Content-Security-Policy"]


def test_static_files_are_kept_for_ever_and_only_ours(webapp: WebappProcess) -> None:
    html = webapp.http.get("/").text
    path = re.search(r'href="(/static/[0-9a-f]{12}/css/tokens\.css)"', html)
    assert path is not None
    answer = webapp.http.get(path[1])
    assert answer.status_code == 200
    assert "immutable" in answer.headers["Cache-Control"]
    assert webapp.http.get("/static/../webapp/settings.py").status_code == 404


def test_the_openapi_document_names_every_path(webapp: WebappProcess) -> None:
    document = webapp.http.get("/api/schema/").json()
    assert document["openapi"].startswith("3.1")
    assert {"/api/v1/klines", "/api/v1/status", "/api/v3/klines", "/api/v3/exchangeInfo"} <= set(document["paths"])
    for path, operations in document["paths"].items():
        assert all("429" in operation["responses"] for operation in operations.values()), path
        for parameter in (entry for operation in operations.values() for entry in operation.get("parameters", [])):
            if parameter["in"] == "query":
                assert parameter["description"], (path, parameter)
                assert "example" in parameter or "examples" in parameter, (path, parameter)


def test_generated_requests_are_answered_as_documented(webapp: WebappProcess) -> None:
    checks = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"
    tool = Path(sys.executable).with_name("schemathesis")
    options = ["--phases", "examples,fuzzing", "--max-examples", "10", "--checks", checks, "--seed", "1", "--no-color"]
    options += ["--suppress-health-check", "all"]
    # 503 is documented where nothing feeds the order book; a database that failed would show in the log.
    config = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 503]\n'
    (webapp.log.parent / "schemathesis.toml").write_text(config, "utf-8")
    result = subprocess.run(
        [str(tool), "run", f"{webapp.url}/api/schema/", *options],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(webapp.log.parent)},
        cwd=webapp.log.parent,
    )
    assert result.returncode == 0, result.stdout
    assert "database_error" not in webapp.log.read_text("utf-8")
