"""The operators' page: on the whole stack, and on a web application of its own whose broker is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from runtime.clock import SystemClock
from tests.browser.conftest import DEADLINE_MS, PHONE, WIDE, Site, wait
from tests.conftest import Engines
from tests.stack_process import free_port
from tests.webapp_process import WebappProcess, insert_symbols, moment, name_of, run_webapp

HOUR_MS = 3_600_000
VERDICT = r"^(healthy|degraded|losing data)\b"
#: Asks at once instead of at the next turn of the page.
ASK = "window.candlewire.poll.ask()"
BIGGEST = """() => {
  const size = (element) => parseFloat(getComputedStyle(element).fontSize);
  const verdict = size(document.getElementById("verdict-word"));
  return [...document.querySelectorAll("body *")].every((one) => one.id === "verdict-word" || size(one) < verdict);
}"""
FROZEN = "aggregator-beat"


def wait_for_figures(page: Page) -> None:
    """Until the first figures are on the page."""
    wait(page, "document.getElementById('content').dataset.loaded === 'true'")


@pytest.mark.parametrize(
    ("name", "size", "theme"), [("wide", WIDE, "dark"), ("wide", WIDE, "light"), ("phone", PHONE, "dark")]
)
def test_how_it_looks_and_that_every_part_tells_something(
    site: Site, save_screenshot: Callable[[Page, str], Path], name: str, size: tuple[int, int], theme: str
) -> None:
    page = site.open("/operator", size=size, theme=theme)
    wait_for_figures(page)
    wait(page, f"/{VERDICT}/.test(document.getElementById('verdict').textContent)")
    assert page.evaluate(BIGGEST)
    parts = [
        ("topics", "kline_1s"),
        ("readers", "inserter kline_1s/0"),
        ("rooms", "producer"),
        ("hops", "exchange → received"),
    ]
    for table, rows in parts:
        expect(page.locator(f"#{table}-table tbody")).to_contain_text(rows)
    expect(page.locator("#engines li")).to_have_count(4)
    # Each reader has a headroom, a trend and its place between the ends of the log.
    wait(page, "/[0-9]/.test(document.querySelector('#readers-table td[data-label=Headroom]').textContent)")
    wait(page, "document.querySelectorAll('.small-chart canvas').length > 1")
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    save_screenshot(page, f"operator-{name}-{theme}")
    if size == PHONE:
        return
    # The formula with its terms, on demand and by keyboard.
    page.locator("#topics-table tr[data-key='kline_1s'] button").press("Enter")
    expect(page.locator("#topics-table tr[data-key='kline_1s'] .terms")).to_contain_text("retention")
    # What can be done about a room, and nothing that cannot.
    for room, tools in {"inserter": ["History", "Pause…"], "flask_stream": ["History"]}.items():
        row = page.locator(f"#rooms-table tr[data-key='{room}']")
        row.locator("button.row-name").press("Enter")
        expect(row.locator(".row-tools button")).to_have_text(tools)
    expect(page.locator("footer a[href='/operator']")).to_be_visible()


def test_a_room_that_does_not_answer_names_the_command_that_helps(
    site: Site, save_screenshot: Callable[[Page, str], Path]
) -> None:
    page = site.open("/operator")
    wait_for_figures(page)
    row = page.locator(f"#rooms-table tr[data-key='{FROZEN}']")
    pid = int(site.stack.room(FROZEN)["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        expect(row).to_have_attribute("data-state", "bad", timeout=DEADLINE_MS)
        expect(row.locator("code")).to_have_text(f"candlewire logs {FROZEN}")
        # The verdict tells of it too, unless there is worse.
        expect(page.locator("#verdict")).not_to_contain_text("healthy")
        save_screenshot(page, "operator-room-away")
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(row).to_have_attribute("data-state", "ok", timeout=DEADLINE_MS)
    expect(row.locator("code")).to_be_hidden()


@dataclass(frozen=True)
class Lonely:
    """A web application whose broker is away, and its database, which is not."""

    web: WebappProcess
    database_url: str
    server_url: str
    hour_ms: int


@pytest.fixture(scope="module")
def lonely(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lonely]:
    """One for all tests of this module, with a gap, its hour and two dead letters."""
    now_ms = SystemClock().now_ms()
    # The hour before: whole, whatever minute it is.
    hour_ms = now_ms - now_ms % HOUR_MS - HOUR_MS
    with psycopg.connect(module_database, autocommit=True) as connection:
        insert_symbols(connection, "BTCUSDT", "ETHUSDT")
        for symbol, missing in (("BTCUSDT", 312), ("ETHUSDT", 0)):
            connection.execute(
                "insert into completeness_hour values (%s, %s, 3600, %s, 0, 0, 0, %s)",
                [symbol, moment(hour_ms), 3600 - missing, missing],
            )
        connection.execute(
            # Long known: a new one alone would be the verdict.
            "insert into kline_gap (symbol, from_time, to_time, cause, detected_at) "
            "values ('BTCUSDT', %s, %s, 'silence', now() - interval '1 hour')",
            [moment(hour_ms + 60_000), moment(hour_ms + 372_000)],
        )
        for offset in (38_101, 38_102):
            connection.execute(
                "insert into dead_letter (topic, partition, record_offset, reason, payload, received_at) "
                "values ('kline_1s', 0, %s, 'k.x: not a boolean', '{\"k\":{\"x\":\"maybe\"}}', now())",
                [offset],
            )
    environment = {
        **engines.environment,
        "DATABASE_URL": module_database,
        "ANALYST_DATABASE_URL": engines.analyst_database_url.replace("/candlewire", f"/{name_of(module_database)}"),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "OPERATOR_REFRESH_MS": "1000",
    }
    log = tmp_path_factory.mktemp("operator") / "webapp.log"
    with run_webapp(environment, log) as web:
        web.wait_ready()
        yield Lonely(web, module_database, engines.database_url, hour_ms)


@pytest.fixture
def alone(browser: Browser, lonely: Lonely) -> Iterator[Page]:
    """The page of that web application; fails the test when it logged an error of a script."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{lonely.web.url}/operator")
    wait_for_figures(page)
    yield page
    context.close()
    assert errors == []


def test_the_broker_away_is_named_and_nothing_unknown_is_nought(
    alone: Page, save_screenshot: Callable[[Page, str], Path]
) -> None:
    wait(alone, "/^degraded .*the broker does not answer/.test(document.getElementById('verdict').textContent)")
    kafka = alone.locator("#engines li", has_text="Kafka")
    expect(kafka).to_have_attribute("data-state", "bad")
    expect(kafka.locator("code")).to_have_text("candlewire logs kafka")
    measured = alone.locator("#topics-table td[data-label='Measured']").all_inner_texts()
    assert measured
    assert {text.split("\n")[-1] for text in measured} == {"N/A"}
    expect(alone.locator("[data-figure='relay'] b")).to_have_text("N/A")
    expect(alone.locator("[data-figure='gaps'] b")).to_have_text("1")
    save_screenshot(alone, "operator-broker-away")


def test_a_dead_letter_is_dismissed_after_its_preview_and_the_audit_names_it(alone: Page, lonely: Lonely) -> None:
    letters = alone.locator("#dead-letters li")
    expect(letters).to_have_count(2)
    expect(letters.first).to_contain_text("k.x: not a boolean")
    identity = int(letters.first.get_attribute("data-id") or 0)
    letters.first.locator("input").check()
    alone.locator("#dismiss-all").click()
    expect(alone.locator("#action-fields input[name='ids']")).to_have_value(str(identity))
    confirm = alone.locator("#action-confirm")
    expect(confirm).to_be_enabled()
    expect(alone.locator("#action-effect")).to_have_attribute("data-state", "told")
    # Another argument needs another preview.
    alone.locator("#action-fields input[name='topic']").fill("kline_1m")
    expect(confirm).to_be_disabled()
    alone.locator("#action-fields input[name='topic']").fill("")
    alone.locator("#action-preview").click()
    confirm.click()
    expect(alone.locator("#action-dialog")).to_be_hidden()
    newest = alone.locator("#recent-actions li").first
    expect(newest).to_contain_text("Dismiss")
    expect(newest).to_contain_text("done: deleted 1 of kline_1s")
    with psycopg.connect(lonely.database_url) as connection:
        rows = connection.execute("select id from dead_letter").fetchall()
        asked = connection.execute("select action, state, requested_by from operator_action").fetchall()
    assert identity not in {row[0] for row in rows}
    assert asked == [("dismiss", "done", "127.0.0.1")]


def test_an_action_that_cannot_be_says_why_and_cannot_be_confirmed(alone: Page) -> None:
    alone.locator("[data-action='repair']").click()
    for name, text in (("symbol", "BTCUSDT"), ("from", "2026-11-21T10:00:00Z"), ("to", "2026-11-21T09:00:00Z")):
        alone.locator(f"#action-fields input[name='{name}']").fill(text)
    alone.locator("#action-preview").click()
    expect(alone.locator("#action-effect")).to_contain_text("Not possible")
    expect(alone.locator("#action-confirm")).to_be_disabled()
    alone.keyboard.press("Escape")
    expect(alone.locator("#action-dialog")).to_be_hidden()


def test_an_hour_of_the_strip_shows_its_gaps_by_mouse_and_by_key(
    alone: Page, lonely: Lonely, save_screenshot: Callable[[Page, str], Path]
) -> None:
    wait(alone, "window.candlewire.strip.symbols.length === 2")
    expect(alone.locator("#strip-share")).to_contain_text("312 s missing")
    canvas = alone.locator("#strip-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    # The last column is the running hour, ours the one before it or, by now, one further; the first row is BTCUSDT.
    hours_ago = alone.evaluate("(hour) => Math.floor((Date.now() - hour) / 3600000)", lonely.hour_ms)
    canvas.click(position={"x": box["width"] * (23.5 - hours_ago) / 24, "y": 8})
    expect(alone.locator("#hour-title")).to_contain_text("BTCUSDT")
    expect(alone.locator("#hour-gaps li").first).to_contain_text("gap: silence, 5 min 12 s")
    save_screenshot(alone, "operator-hour")
    alone.locator("#hour-repair").click()
    expect(alone.locator("#action-fields input[name='symbol']")).to_have_value("BTCUSDT")
    expect(alone.locator("#action-effect")).to_have_attribute("data-state", "told")
    alone.keyboard.press("Escape")
    canvas.focus()
    for key in ("ArrowRight", "ArrowLeft", "Enter"):
        alone.keyboard.press(key)
    expect(alone.locator("#hour-gaps li").first).to_contain_text("gap: silence")
    alone.keyboard.press("Escape")
    alone.keyboard.press("ArrowDown")
    expect(alone.locator("#strip-words")).to_contain_text("ETHUSDT")


def _allow(server_url: str, name: str, allowed: bool) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"alter database {name} allow_connections {str(allowed).lower()}")
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])


def test_the_page_comes_without_a_database_and_says_so(
    alone: Page, lonely: Lonely, save_screenshot: Callable[[Page, str], Path]
) -> None:
    name = name_of(lonely.database_url)
    _allow(lonely.server_url, name, False)
    try:
        answer = alone.reload()
        assert answer is not None
        assert answer.status == 200
        wait(alone, "/the database does not answer/.test(document.getElementById('verdict').textContent)")
        expect(alone.locator("#engines li", has_text="PostgreSQL")).to_have_attribute("data-state", "bad")
        wait(alone, "document.querySelector('[data-figure=gaps] b').textContent === 'N/A'")
        save_screenshot(alone, "operator-database-away")
    finally:
        _allow(lonely.server_url, name, True)
    wait(alone, "document.querySelector('[data-figure=gaps] b').textContent === '1'")


def test_figures_grow_stale_in_sight_when_nobody_answers(alone: Page, lonely: Lonely) -> None:
    alone.route("**/api/v1/operator", lambda route: route.abort())
    aged: dict[str, Any] = {"by": 60_000}
    alone.evaluate("({ by }) => { window.candlewire.seen.answer.taken_at_ms -= by; }", aged)
    wait(alone, "/^unknown .*stands here is of/.test(document.getElementById('verdict').textContent)")
    expect(alone.locator("#badge")).to_have_attribute("data-state", "stale")
    alone.unroute("**/api/v1/operator")
    alone.evaluate(ASK)
    wait(alone, "document.getElementById('badge').dataset.state === 'live'")
