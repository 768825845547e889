"""The ledger on the page: a gap is shaded and explained while it is open, marked once healed, without a reload.

With UPDATE_IMAGES=1 the picture of the README is taken anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, WIDE, Site, wait
from tests.stack_process import HTTP_TIMEOUT_S, ROOT

STREAM = "btcusdt@kline_1s"
DROPPED_SECONDS = 4
FAULT_MS = 120_000
#: A repair that found the exchange away looks again after up to 10 s, and then waits for its turn.
REPAIR_DEADLINE_MS = 90_000

#: The newest gap of the ledger and the state of the slot it is in.
NEWEST_GAP = """() => {
  const { view, chart } = window.candlewire;
  const gap = view.ledger.gaps.at(-1);
  if (!gap || gap.lasts) return null;
  const slot = Math.floor(gap.from / view.feed.stepMs) * view.feed.stepMs;
  return { ...gap, slot, shown: chart.strip.stateAt(slot, [gap]), bar: view.feed.series.at(slot) };
}"""
#: Where the slot of an open time is on the page (CSS px).
PLACE = """(time) => {
  const { chart } = window.candlewire;
  const index = chart.points.findIndex((point) => point.time === time);
  const box = document.getElementById("chart").getBoundingClientRect();
  return [box.left + chart.chart.timeScale().logicalToCoordinate(index), box.top + box.height / 2];
}"""
STATE_IS = (
    f"(is) => {{ const gap = ({NEWEST_GAP})(); return gap?.state === is[0] && gap.shown === is[1] ? gap : null; }}"
)
#: As many rows as there are gaps, or one that says that there is none.
LISTED = """() => document.querySelectorAll("#ledger-list li").length ===
  Math.max(1, window.candlewire.view.ledger.gaps.length)"""
ALL_SECONDS = """([from, to]) => {
  const { series } = window.candlewire.view.feed;
  for (let time = from; time < to; time += 1000) if (!series.at(time)) return false;
  return true;
}"""
#: The newest bar and what is in view, once what has come is drawn.
VIEW = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done([
  window.candlewire.view.feed.series.last, window.candlewire.chart.chart.timeScale().getVisibleLogicalRange(),
]))))"""


@pytest.fixture
def faults(site: Site) -> Iterator[Callable[..., None]]:
    """Orders faults of the simulated exchange; all are cleared afterwards."""
    address = f"{site.status['urls']['exchange_rest']}/sim/faults"

    def order(fault: str, **more: Any) -> None:
        httpx.post(
            address, json={"fault": fault, "duration_ms": FAULT_MS, **more}, timeout=HTTP_TIMEOUT_S
        ).raise_for_status()

    yield order
    httpx.delete(address, timeout=HTTP_TIMEOUT_S).raise_for_status()


def wait_for_newest_gap(page: Page, state: str, shown: str) -> Any:
    """Until the newest gap of the ledger is in this state, and its slot is drawn so; that gap."""
    return wait(page, STATE_IS, [state, shown], deadline_ms=REPAIR_DEADLINE_MS, seen=NEWEST_GAP)


def hover(page: Page, slot: int) -> None:
    """Puts the pointer on the slot."""
    x, y = page.evaluate(PLACE, slot)
    page.mouse.move(x, y)


def test_a_gap_is_shaded_with_its_cause_and_marked_once_it_is_healed(
    site: Site, faults: Callable[..., None], save_screenshot: Callable[[Page, str], Path]
) -> None:
    page, phone = site.chart(), site.chart(theme="light", size=PHONE, has_touch=True)
    wait(page, "/Complete since [0-9]/.test(document.getElementById('ledger-since').textContent)")
    # The exchange's REST is away, so that the repair cannot heal the gap before anybody has seen it.
    faults("rest_status", status=503)
    faults("drop_kline", stream=STREAM, count=DROPPED_SECONDS)
    gap = wait_for_newest_gap(page, "open", "gap")
    newest, view = page.evaluate(VIEW)
    hover(page, gap["slot"])
    expect(page.locator("#gap-card")).to_contain_text(f"gap: {gap['cause']}")
    expect(page.locator("#gap-card")).to_contain_text("repairing")
    expect(page.locator("#gap-card")).to_contain_text("found by")
    expect(page.locator("#ledger-words")).to_contain_text("repairing")
    expect(page.locator("#ledger-button")).to_have_attribute("data-state", "open")
    save_screenshot(page, "gap-open-wide-dark")
    # On a phone the sheet lists the gap, and a press on it shows its card.
    wait_for_newest_gap(phone, "open", "gap")
    phone.locator("#ledger-button").tap()
    expect(phone.locator(".gap-row").first).to_contain_text(f"gap: {gap['cause']}")
    save_screenshot(phone, "gap-sheet-phone-light")
    phone.locator(".gap-row").first.tap()
    expect(phone.locator("#gap-card")).to_contain_text("repairing")
    save_screenshot(phone, "gap-open-phone-light")

    httpx.delete(f"{site.status['urls']['exchange_rest']}/sim/faults", timeout=HTTP_TIMEOUT_S).raise_for_status()
    healed = wait_for_newest_gap(page, "repaired", "repaired")
    hover(page, healed["slot"])
    expect(page.locator("#gap-card")).to_contain_text("repaired from REST")
    expect(page.locator("#ledger-button")).to_have_attribute("data-state", "calm")
    newest_now, view_now = page.evaluate(VIEW)
    if newest_now == newest:
        # No new bar has come meanwhile: the view has not moved.
        assert view_now == view
    assert healed["slot"] == gap["slot"]
    saved = save_screenshot(page, "gap-repaired-wide-dark")
    if os.environ.get("UPDATE_IMAGES"):
        shutil.copyfile(saved, ROOT / "docs" / "images" / "chart.png")
    wait_for_newest_gap(phone, "repaired", "repaired")
    # The seconds themselves are there too.
    page.keyboard.press("1")
    wait(page, "window.candlewire.view.interval === '1s' && window.candlewire.view.feed.series.size > 20")
    wait(page, ALL_SECONDS, [healed["from"], healed["to"]])


def test_single_seconds_that_were_repaired_come_onto_the_chart(site: Site, faults: Callable[..., None]) -> None:
    page = site.chart(interval="1s")
    faults("rest_status", status=503)
    faults("drop_kline", stream=STREAM, count=DROPPED_SECONDS)
    assert wait_for_newest_gap(page, "open", "gap")["bar"] is None
    httpx.delete(f"{site.status['urls']['exchange_rest']}/sim/faults", timeout=HTTP_TIMEOUT_S).raise_for_status()
    assert wait_for_newest_gap(page, "repaired", "repaired")["bar"]["source"] == "rest"


def revise(database_url: str, open_time_ms: int, high: str) -> None:
    """Gives a closed candle another high, as a correction of its seconds would: by row, revision and outbox."""
    where = "symbol = 'BTCUSDT' and interval = '1m' and open_time = to_timestamp(%s)"
    with psycopg.connect(database_url) as connection:
        connection.execute(
            f"update aggregated_kline set high = %s, revision = revision + 1, updated_at = now() where {where}",
            [high, open_time_ms / 1000],
        )
        connection.execute(
            "insert into candle_outbox (symbol, interval, open_time) values ('BTCUSDT', '1m', to_timestamp(%s)) "
            "on conflict (symbol, interval, open_time) do update set marks = candle_outbox.marks + 1",
            [open_time_ms / 1000],
        )


def test_a_revised_older_bar_is_drawn_again_where_it_stands(site: Site) -> None:
    page = site.chart()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    bar = page.evaluate("window.candlewire.view.feed.series.at(window.candlewire.view.feed.series.last - 45 * 60000)")
    drawn = "(time) => window.candlewire.chart.candles.data().find((point) => point.time === time / 1000)"
    newest, view = page.evaluate(VIEW)
    raised = str(float(bar["high"]) + 50)
    try:
        revise(site.status["database_url"], bar["open_time_ms"], raised)
        wait(page, f"([time, high]) => ({drawn})(time).high === high", [bar["open_time_ms"], float(raised)])
        held = page.evaluate("(time) => window.candlewire.view.feed.series.at(time)", bar["open_time_ms"])
        assert held["revision"] == bar["revision"] + 1
        newest_now, view_now = page.evaluate(VIEW)
        assert view_now == view or newest_now > newest
    finally:
        revise(site.status["database_url"], bar["open_time_ms"], bar["high"])
    wait(page, f"([time, high]) => ({drawn})(time).high === high", [bar["open_time_ms"], float(bar["high"])])


def test_the_sheet_opens_by_key_and_lists_every_gap(site: Site) -> None:
    page = site.chart(size=WIDE)
    wait(page, "window.candlewire.view.ledger.ledger.readAt !== null")
    page.keyboard.press("g")
    expect(page.locator("#ledger-dialog")).to_be_visible()
    wait(page, LISTED)
    page.keyboard.press("Escape")
    expect(page.locator("#ledger-dialog")).to_be_hidden()
    page.keyboard.press("1")
    page.keyboard.press("g")
    expect(page.locator("#ledger-sheet-since")).to_contain_text("Complete")
