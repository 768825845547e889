"""The chart page in a real browser: it moves, joins without a hole, says how old it is, and comes back."""

from __future__ import annotations

import math
import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Site, wait
from tests.stack_process import HTTP_TIMEOUT_S

UPDATES = 20

#: Slots of the loaded bars between two open times that hold nothing and that the gap ledger does not explain.
MISSING_SLOTS = """async ([from, to]) => {
  const { config, feed, symbol } = window.candlewire.view;
  const { series, stepMs } = feed;
  const { gaps } = await (await fetch(`${config.api.gaps}?symbol=${symbol}`)).json();
  const explained = (time) => gaps.some((gap) => gap.from_time_ms < time + stepMs && gap.to_time_ms > time);
  const missing = [];
  for (let time = from; time <= to; time += stepMs) if (!series.at(time) && !explained(time)) missing.push(time);
  return missing;
}"""
NOTHING_MISSING = f"async (range) => (await ({MISSING_SLOTS})(range)).length === 0"


#: Both of one moment.
BADGE = """([state, words]) => {
  const badge = document.getElementById("badge");
  return badge.dataset.state === state && badge.innerText.includes(words);
}"""


def newest(page: Page) -> Any:
    """The newest bar on the chart."""
    return page.evaluate("window.candlewire.view.feed.series.newest")


def test_the_page_measures_its_first_paint_and_its_updates(site: Site) -> None:
    """The figures themselves are measured by `python -m bench latency`, on a machine that does nothing else."""
    page = site.chart()
    first_chart_ms = page.evaluate("performance.getEntriesByName('candlewire:first-chart')[0].startTime")
    wait(page, f"window.candlewire.latency().count >= {UPDATES}")
    summary = page.evaluate("window.candlewire.latency()")
    print(f"first chart {first_chart_ms:.0f} ms, event to pixel {summary}")
    assert first_chart_ms > 0
    assert 0 < summary["p95"] < math.inf
    # The history of a young stack comes beside its start.
    wait(page, "window.candlewire.view.feed.series.size >= 1000")
    # It tells the operators of its last hop.
    with page.expect_response("**/api/v1/painted") as told:
        page.evaluate("window.candlewire.report()")
    assert told.value.status == 204
    metrics = httpx.get(
        httpx.URL(site.stack.room("webapp")["health_url"]).join("/metrics"), timeout=HTTP_TIMEOUT_S
    ).text
    assert float(re.findall(r"^page_painted_seconds_count (\S+)", metrics, re.MULTILINE)[0]) > 0


def test_the_chart_moves_and_the_panels_fill(site: Site) -> None:
    page = site.chart(interval="1s")
    before = page.locator("#chart").screenshot()
    bar = newest(page)
    wait(page, "(open) => window.candlewire.view.feed.series.last > open + 2000", bar["open_time_ms"])
    assert page.locator("#chart").screenshot() != before
    expect(page.locator(".source-label")).to_have_text("SIMULATED")
    assert page.locator("#asks .level:visible").count() == page.locator("#bids .level:visible").count() >= 10
    assert page.locator("#tape .trade").count() > 0
    expect(page.locator("#price")).not_to_have_text("–")
    expect(page.locator("#day-high")).not_to_have_text("–")
    expect(page.locator("#latency")).to_contain_text("ms")


def test_history_and_live_join_without_a_hole(site: Site) -> None:
    page = site.chart(interval="1m")
    first = newest(page)["open_time_ms"]
    assert page.evaluate(MISSING_SLOTS, [first - 600 * 60_000, first]) == []
    page.keyboard.press("1")
    wait(page, "window.candlewire.view.interval === '1s' && window.candlewire.view.feed.series.size > 20")
    seconds = newest(page)["open_time_ms"]
    wait(page, "(time) => window.candlewire.view.feed.series.last > time", seconds)
    wait(page, NOTHING_MISSING, [seconds - 20_000, seconds])


def test_an_older_bar_changes_its_place_and_throws_nothing(site: Site) -> None:
    page = site.chart()
    shown = page.evaluate(
        """() => {
          const { view, live, chart } = window.candlewire;
          const { series, channel } = view.feed;
          const { handler } = live.channels.get(channel);
          const tell = (bar) => handler({ ch: channel, kind: "update", seq: 1, t: {}, data: bar }, live.clock());
          const old = series.at(series.last - 5 * 60000);
          tell({ ...old, revision: old.revision + 1, close: old.high });
          tell({ ...old, open_time_ms: series.first - 3 * 60000, close_time_ms: series.first - 120001 });
          tell({ ...old, open_time_ms: series.last + 4 * 60000, close_time_ms: series.last + 299999 });
          const drawn = chart.candles.data();
          const time = old.open_time_ms / 1000;
          return { close: drawn.find((bar) => bar.time === time).close, high: Number(old.high),
            ascending: drawn.every((bar, index) => !index || bar.time > drawn[index - 1].time) };
        }"""
    )
    assert shown["close"] == shown["high"]
    assert shown["ascending"]


def test_the_badge_turns_when_the_exchange_goes_silent(site: Site) -> None:
    """Within 3 s, as tests/unit/scripts/live.test.mjs says."""
    page = site.chart()
    fault = {"fault": "stall", "duration_ms": 6_000}
    httpx.post(
        f"{site.status['urls']['exchange_rest']}/sim/faults", json=fault, timeout=HTTP_TIMEOUT_S
    ).raise_for_status()
    wait(page, BADGE, ["stale", "Stale since"])
    wait(page, "document.getElementById('badge').dataset.state === 'live'")


def test_after_the_relay_was_killed_it_reconnects_and_fills_its_gap(site: Site) -> None:
    site.expected.append("WebSocket connection to")
    page = site.chart(interval="1s")
    start = newest(page)["open_time_ms"]
    died = site.stack.kill("flask_stream")
    wait(page, BADGE, ["reconnecting", "try "])
    site.stack.wait_restarted("flask_stream", died)
    wait(page, "document.getElementById('badge').dataset.state === 'live'")
    again = newest(page)["open_time_ms"]
    wait(page, "(time) => window.candlewire.view.feed.series.last > time + 2000", again)
    wait(page, NOTHING_MISSING, [start, again])


def test_intervals_and_symbols_switch_in_place(site: Site) -> None:
    page = site.chart()
    page.evaluate("window.samePage = true")
    page.mouse.move(500, 400)
    switches = []
    for interval in ("5m", "15m", "1h", "4h", "1d", "1s", "1m"):
        page.mouse.move(520, 410)
        page.locator(f"[data-interval='{interval}']").click()
        wait(page, "(name) => candlewire.view.interval === name && candlewire.view.feed.series.size > 0", interval)
        assert page.url.endswith(f"interval={interval}")
        wait(page, "candlewire.view.shown === candlewire.view.feed.series && candlewire.view.switchMs !== undefined")
        switches.append(page.evaluate("window.candlewire.view.switchMs"))
    print("interval switch (ms):", [round(took) for took in switches])
    page.keyboard.press("/")
    page.keyboard.type("ETH")
    page.keyboard.press("Enter")
    wait(page, "window.candlewire.view.symbol === 'ETHUSDT' && window.candlewire.view.feed.series.size > 0")
    expect(page.locator("#symbol-base")).to_have_text("ETH")
    assert "/chart/ETHUSDT" in page.url
    page.go_back()
    wait(page, "window.candlewire.view.symbol === 'BTCUSDT' && window.candlewire.view.feed.series.size > 0")
    assert page.evaluate("window.samePage")
    # Only the channels of what is on screen are held.
    channels = page.evaluate("[...window.candlewire.live.channels.keys()]")
    assert all("BTCUSDT" in channel for channel in channels)
    assert len(channels) <= 6


def test_scrolling_back_loads_older_bars_and_the_keys_work(site: Site) -> None:
    # Small pages, so that a young stack has more than one of them.
    page = site.open("/about/")
    page.route("**/api/v1/klines?*", lambda route: route.continue_(url=route.request.url.replace("=1000", "=300")))
    page.goto(f"{site.web}/chart/BTCUSDT?interval=1m")
    wait(page, "window.candlewire?.view.feed.series.size > 290")
    loaded = page.evaluate("window.candlewire.view.feed.series.size")
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    for _ in range(10):
        page.keyboard.press("-")
    wait(page, "(count) => window.candlewire.view.feed.series.size > count + 250", loaded)
    expect(page.locator("#to-live")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#to-live")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    assert page.locator("#table-dialog tbody tr").count() > 20
    page.keyboard.press("Escape")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background
    page.reload()
    wait(page, "document.documentElement.dataset.theme === 'light'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background


def test_a_hidden_tab_paints_nothing_and_resumes_cleanly(site: Site) -> None:
    page = site.chart(interval="1s")
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    drawn = page.evaluate("window.candlewire.chart.points.at(-1).time")
    wait(page, "(time) => window.candlewire.view.feed.series.last > time + 2000", drawn)
    assert page.evaluate("window.candlewire.chart.points.at(-1).time") == drawn
    page.evaluate(hide, False)
    wait(page, "(time) => window.candlewire.chart.points.at(-1).time > time", drawn)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_phone_page_fits_and_hides_nothing(site: Site, theme: str) -> None:
    page = site.chart(size=PHONE, theme=theme, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    height = page.evaluate("document.getElementById('chart-area').offsetHeight / innerHeight")
    assert height == pytest.approx(0.56, abs=0.01)
    expect(page.locator("#asks")).to_be_visible()
    page.locator("#tab-trades").tap()
    expect(page.locator("#tape .trade").first).to_be_visible()
    expect(page.locator("#asks")).to_be_hidden()
    page.locator("#tab-markets").tap()
    page.locator(".markets-tab .list-row[data-symbol='SOLUSDT']").tap()
    wait(page, "window.candlewire.view.symbol === 'SOLUSDT' && window.candlewire.view.feed.series.size > 0")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
