"""The other pages, what bad addresses get, and how everything looks (build/screenshots)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, WIDE, Site, wait
from tests.stack_process import HTTP_TIMEOUT_S


def test_the_market_list_is_live_sortable_and_leads_to_charts(site: Site) -> None:
    page = site.open("/")
    expect(page.locator("#markets tbody tr:not(.skeleton-row)")).to_have_count(len(site.symbols))
    before = page.locator("#markets tbody").inner_text()
    wait(page, "(text) => document.querySelector('#markets tbody').innerText !== text", before)
    page.locator("th[data-sort='symbol'] button").click()
    expect(page.locator("#markets tbody tr").first).to_have_attribute("data-symbol", min(site.symbols))
    page.locator("tr[data-symbol='XRPUSDT'] .star").click()
    expect(page.locator("#markets tbody tr").first).to_have_attribute("data-symbol", "XRPUSDT")
    page.keyboard.press("/")
    page.keyboard.type("nothing like this")
    expect(page.locator("#empty")).to_contain_text("No symbol")
    page.locator("#search").fill("sol")
    page.keyboard.press("Enter")
    page.wait_for_url("**/chart/SOLUSDT?interval=1m")
    wait(page, "document.querySelector('.brand') && window.candlewire.view.feed.series.size > 0")


def test_addresses_that_lead_nowhere_say_so(site: Site) -> None:
    for path, status, words in [
        ("/chart/NOSUCH", 404, "No such symbol"),
        ("/chart/BTCUSDT?interval=7m", 400, "allowed: 1s"),
        ("/no/such/page", 404, "Nothing here"),
    ]:
        answer = httpx.get(site.web + path, timeout=HTTP_TIMEOUT_S)
        assert (answer.status_code, words in answer.text) == (status, True), path
    moved = httpx.get(f"{site.web}/chart/btcusdt?interval=5m", timeout=HTTP_TIMEOUT_S)
    assert moved.headers["location"] == "/chart/BTCUSDT?interval=5m"


def test_no_inline_code_and_the_licences_are_named(site: Site) -> None:
    answer = httpx.get(f"{site.web}/chart/BTCUSDT", timeout=HTTP_TIMEOUT_S)
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert 'href="https://www.tradingview.com/"' in answer.text
    about = httpx.get(f"{site.web}/about/", timeout=HTTP_TIMEOUT_S).text
    assert "Apache License" in about
    assert "SIL Open Font License" in about


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize(("name", "size"), [("wide", WIDE), ("phone", PHONE)])
def test_how_it_looks(
    site: Site, save_screenshot: Callable[[Page, str], Path], theme: str, name: str, size: tuple[int, int]
) -> None:
    page = site.chart(theme=theme, size=size)
    wait(page, "document.querySelectorAll('#tape .trade').length > 5 && window.candlewire.latency().count > 10")
    panel = {"dark": "rgb(13, 16, 20)", "light": "rgb(244, 244, 241)"}[theme]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == panel
    assert page.evaluate("document.fonts.check(\"13px 'Inter Variable'\")")
    save_screenshot(page, f"chart-{name}-{theme}")
    site.close_pages()
    save_screenshot(_settled(site.open("/", theme=theme, size=size)), f"markets-{name}-{theme}")


def _settled(page: Page) -> Page:
    wait(page, "document.querySelectorAll('#markets tbody tr:not(.skeleton-row)').length > 1")
    return page
