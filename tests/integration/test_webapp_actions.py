"""/api/v1/operator/actions: who may, what is refused, and the audit of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.conftest import Engines
from tests.stack_process import HTTP_TIMEOUT_S
from tests.webapp_process import DEADLINE_S, END_MS, WebappProcess, moment, run_webapp

TOKEN = "only-for-tests-and-longer-than-32-characters"
ACTIONS = "/api/v1/operator/actions"


@pytest.fixture(scope="module")
def webapp(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebappProcess]:
    """A server; 127.0.0.2 is its proxy, so that requests can come from elsewhere."""
    directory = tmp_path_factory.mktemp("webapp_actions")
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "OPERATOR_TOKEN": TOKEN}
    variables |= {"DATA_DIR": str(directory), "WEB_TRUSTED_PROXIES": "127.0.0.2", "API_WEIGHT_PER_MINUTE": "0"}
    with run_webapp(engines.environment, directory / "webapp.log", **variables) as process:
        process.wait_ready()
        yield process


@pytest.fixture
def database(module_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(module_database, autocommit=True) as connection:
        connection.execute("delete from operator_action")
        yield connection


@pytest.fixture
def operator(webapp: WebappProcess) -> Iterator[httpx.Client]:
    """As the page does it: the cookie first, then the header with each request."""
    with httpx.Client(base_url=webapp.url, timeout=DEADLINE_S) as http:
        assert http.get(ACTIONS).status_code == 200
        http.headers["X-CSRFToken"] = http.cookies["csrftoken"]
        yield http


def stranger(webapp: WebappProcess, **headers: str) -> httpx.Client:
    """Somebody behind the proxy."""
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    return httpx.Client(
        base_url=webapp.url,
        transport=transport,
        headers={"X-Forwarded-For": "192.0.2.7", **headers},
        timeout=DEADLINE_S,
    )


def rows(database: psycopg.Connection) -> list[tuple[Any, ...]]:
    return database.execute("select action, state, requested_by, arguments from operator_action order by id").fetchall()


def test_the_catalogue_names_effect_arguments_and_command(operator: httpx.Client) -> None:
    found = {action["action"]: action for action in operator.get(ACTIONS).json()["actions"]}
    assert set(found) == {
        "repair", "reopen_gap", "redrive", "dismiss", "reset_checkpoint", "pause", "resume", "add_symbol",
        "remove_symbol", "rotate_tape",
    }  # fmt: skip
    assert [one["name"] for one in found["repair"]["arguments"]] == ["symbol", "from", "to"]
    assert all(action["effect"] and action["command"].startswith("candlewire ") for action in found.values())


def test_without_right_token_or_confirmation_nothing_is_done_and_it_is_written_down(
    webapp: WebappProcess, operator: httpx.Client, database: psycopg.Connection
) -> None:
    body = {"arguments": {"room": "producer"}, "confirm": True}
    with stranger(webapp) as foreign:
        for answer in (foreign.get(ACTIONS), foreign.post(f"{ACTIONS}/pause/preview", json={})):
            assert answer.status_code == 403
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert foreign.post(f"{ACTIONS}/pause", json=body).status_code == 403
    assert httpx.post(f"{webapp.url}{ACTIONS}/pause", json=body, timeout=HTTP_TIMEOUT_S).status_code == 403
    unconfirmed = operator.post(f"{ACTIONS}/pause", json={"arguments": {"room": "producer"}})
    assert unconfirmed.status_code == 403
    assert unconfirmed.headers["Content-Type"] == "application/problem+json"
    assert "confirm" in unconfirmed.json()["detail"]
    assert [(action, state, by) for action, state, by, _ in rows(database)] == [
        ("pause", "refused", "192.0.2.7"),
        ("pause", "refused", "127.0.0.1"),
        ("pause", "refused", "127.0.0.1"),
    ]
    assert database.execute("select count(*) from room_control").fetchone() == (0,)


def test_refused_requests_do_not_fill_the_table(webapp: WebappProcess, database: psycopg.Connection) -> None:
    with stranger(webapp) as foreign:
        for _ in range(40):
            assert foreign.post(f"{ACTIONS}/%00x", content=b"{" * 100).status_code == 403
    assert len(rows(database)) == 30


def test_a_token_opens_the_api_and_the_form(webapp: WebappProcess, database: psycopg.Connection) -> None:
    with stranger(webapp, Authorization=f"Bearer {TOKEN}") as bearer:
        assert bearer.get(ACTIONS).status_code == 200
        done = bearer.post(f"{ACTIONS}/rotate_tape", json={"confirm": True})
        assert (done.status_code, done.json()["state"]) == (202, "failed")
        assert "no recording" in done.json()["detail"]
    assert rows(database) == [("rotate_tape", "failed", "192.0.2.7 (token)", {})]
    with stranger(webapp) as visitor:
        form = visitor.get("/operator/login")
        assert 'type="password"' in form.text
        token = visitor.cookies["csrftoken"]
        wrong = visitor.post("/operator/login", data={"token": "x" * 40, "csrfmiddlewaretoken": token})
        assert (wrong.status_code, "operator" in visitor.cookies) == (403, False)
        right = visitor.post("/operator/login", data={"token": TOKEN, "csrfmiddlewaretoken": token})
        assert right.status_code == 302
        assert "HttpOnly" in right.headers["Set-Cookie"]
        assert "SameSite=Strict" in right.headers["Set-Cookie"]
        assert TOKEN not in right.headers["Set-Cookie"]
        assert visitor.get(ACTIONS).status_code == 200
        assert visitor.post(f"{ACTIONS}/rotate_tape", json={"confirm": True}).status_code == 403
        visitor.headers["X-CSRFToken"] = visitor.cookies["csrftoken"]
        assert visitor.post(f"{ACTIONS}/rotate_tape", json={"confirm": True}).status_code == 202


@pytest.mark.parametrize(
    ("action", "arguments", "parameter"),
    [
        ("pause", {"room": "webapp"}, "room"),
        ("pause", {}, "room"),
        ("repair", {"symbol": "BTCUSDT", "from": 2000, "to": 1000}, "to"),
        ("repair", {"symbol": "BTCUSDT", "from": "yesterday", "to": 1000}, "from"),
        ("repair", {"symbol": "B TC", "from": 0, "to": 1000}, "symbol"),
        ("dismiss", {}, "ids"),
        ("dismiss", {"ids": ["x"]}, "ids"),
        ("dismiss", {"ids": [1], "topic": "kline_1s"}, "ids"),
        ("reopen_gap", {"id": -1}, "id"),
        ("rotate_tape", {"file": "x"}, "file"),
        ("rotate_tape", [], "arguments"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(
    operator: httpx.Client, action: str, arguments: Any, parameter: str
) -> None:
    for path, body in ((f"{ACTIONS}/{action}/preview", {}), (f"{ACTIONS}/{action}", {"confirm": True})):
        answer = operator.post(path, json={"arguments": arguments, **body})
        assert (answer.status_code, answer.json().get("parameter")) == (400, parameter)


def test_other_bad_requests_are_problems(operator: httpx.Client) -> None:
    assert operator.post(f"{ACTIONS}/explode", json={"confirm": True}).status_code == 404
    assert operator.post(f"{ACTIONS}/pause", content=b"{").status_code in (400, 415)
    as_json = {"Content-Type": "application/json"}
    assert operator.post(f"{ACTIONS}/pause", content=b"{", headers=as_json).status_code == 400
    assert operator.post(f"{ACTIONS}/pause", content=b"[" * 60_000, headers=as_json).status_code == 400
    assert operator.post(f"{ACTIONS}/pause", content=b" " * 70_000, headers=as_json).status_code == 400
    assert operator.post(f"{ACTIONS}/pause", json=[1]).status_code == 400
    assert operator.put(f"{ACTIONS}/pause", json={}).status_code == 405


@pytest.mark.parametrize(
    "text", ['{"arguments":{"\\ud800":1}}', '{"arguments":{"topic":"\\ud800"}}', '{"arguments":1e999}']
)
@pytest.mark.parametrize("path", ["dismiss/preview", "dismiss"])
def test_what_nothing_can_be_written_with_is_refused_by_name(operator: httpx.Client, path: str, text: str) -> None:
    answer = operator.post(f"{ACTIONS}/{path}", content=text, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["parameter"]) == (400, "body")


def test_a_form_is_no_request(operator: httpx.Client) -> None:
    for path in ("dismiss/preview", "dismiss"):
        assert operator.post(f"{ACTIONS}/{path}", files={"topic": b"x"}).status_code == 415


def test_dead_letters_are_counted_then_dismissed(operator: httpx.Client, database: psycopg.Connection) -> None:
    for offset in range(3):
        database.execute(
            "insert into dead_letter (topic, partition, record_offset, reason, payload, received_at) "
            "values ('kline_1s', 0, %s, 'bad', 'x', %s)",
            [offset, moment(END_MS)],
        )
    arguments = {"arguments": {"topic": "kline_1s"}}
    assert operator.post(f"{ACTIONS}/dismiss/preview", json=arguments).json()["effect"].startswith("3 dead letters")
    assert database.execute("select count(*) from dead_letter").fetchone() == (3,)
    done = operator.post(f"{ACTIONS}/dismiss", json=arguments | {"confirm": True})
    assert (done.status_code, done.json()["state"]) == (202, "done")
    assert done.json()["detail"] == "deleted 3 of kline_1s (offsets 0 to 2)"
    assert database.execute("select count(*) from dead_letter").fetchone() == (0,)
    again = operator.post(f"{ACTIONS}/dismiss", json=arguments | {"confirm": True})
    assert again.json()["state"] == "failed"
    newest = operator.get(ACTIONS).json()["recent"][0]
    assert (newest["id"], newest["state"], newest["arguments"]) == (again.json()["id"], "failed", {"topic": "kline_1s"})


def test_a_room_is_told_to_pause_and_to_go_on(operator: httpx.Client, database: psycopg.Connection) -> None:
    told = {"arguments": {"room": "aggregator"}, "confirm": True}
    effect = operator.post(f"{ACTIONS}/pause/preview", json=told).json()["effect"]
    assert effect.startswith("aggregator: no candles")
    assert "producer" not in effect
    for action, is_paused in (("pause", True), ("pause", True), ("resume", False)):
        assert operator.post(f"{ACTIONS}/{action}", json=told).json()["state"] == "accepted"
        assert database.execute("select is_paused, updated_by from room_control").fetchone() == (is_paused, "127.0.0.1")
