"""Chromium of the system, driven by Playwright, against the whole stack. No page may log an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.stack_process import ROOT, StackProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
DEADLINE_MS = 30_000
#: Beside the start of other stacks a first page took longer than that.
NAVIGATION_DEADLINE_MS = 90_000
POLL_MS = 50
WIDE = (1440, 860)
PHONE = (390, 850)
#: Like the pages' own; its default of 5 s is a round trip through a busy machine.
expect.set_options(timeout=DEADLINE_MS)


class Site:
    """The stack as a visitor sees it."""

    def __init__(self, browser: Browser, stack: StackProcess, status: dict[str, Any]) -> None:
        self.browser, self.stack, self.status = browser, stack, status
        self.web = str(self.status["urls"]["web"]).rstrip("/")
        self.symbols: list[str] = self.status["symbols"]
        self.errors: list[str] = []
        #: Parts of messages that a test expects (a socket that is cut logs its failure).
        self.expected: list[str] = []
        self._pages: list[Page] = []

    def open(self, path: str, *, size: tuple[int, int] = WIDE, theme: str = "dark", **options: Any) -> Page:
        """A page in a context of its own (nothing kept from others), with its complaints collected."""
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="light" if theme == "light" else "dark",
            device_scale_factor=2 if size[0] < 700 else 1,
            **options,
        )
        context.set_default_timeout(DEADLINE_MS)
        context.set_default_navigation_timeout(NAVIGATION_DEADLINE_MS)
        page = context.new_page()
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        page.goto(self.web + path)
        self._pages.append(page)
        return page

    def chart(self, symbol: str = "BTCUSDT", interval: str = "1m", **options: Any) -> Page:
        """A chart page with its bars drawn and the feed live."""
        page = self.open(f"/chart/{symbol}?interval={interval}", **options)
        wait(page, "performance.getEntriesByName('candlewire:first-chart').length > 0")
        wait(page, "document.getElementById('badge').dataset.state === 'live'")
        return page

    def close_pages(self) -> None:
        """End what a test has opened."""
        for page in self._pages:
            page.context.close()
        self._pages.clear()

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not any(part in message.text for part in self.expected):
            self.errors.append(f"{message.type}: {message.text}")


def wait(page: Page, condition: str, argument: Any = None, *, deadline_ms: int = DEADLINE_MS, seen: str = "") -> Any:
    """Wait until the JavaScript condition holds (asked from outside: the page's own policy forbids evaluation); its
    value then.

    A timeout tells what the expression `seen` gives by then.
    """
    for _ in range(deadline_ms // POLL_MS):
        if value := page.evaluate(condition, argument):
            return value
        page.wait_for_timeout(POLL_MS)
    found = page.evaluate(seen) if seen else ""
    raise TimeoutError(f"waited {deadline_ms} ms for {condition}; {found}")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this package."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def addresses(full_stack: StackProcess) -> dict[str, Any]:
    """`candlewire status --json` of the stack; addresses and symbols do not change while it runs."""
    return full_stack.status()


@pytest.fixture
def site(browser: Browser, full_stack: StackProcess, addresses: dict[str, Any]) -> Iterator[Site]:
    """The site; fails the test when any page of it logged an error or broke its Content-Security-Policy."""
    opened = Site(browser, full_stack, addresses)
    yield opened
    opened.close_pages()
    assert opened.errors == []


@pytest.fixture
def save_screenshot() -> Callable[[Page, str], Path]:
    """Writes build/screenshots/NAME.png."""

    def save(page: Page, name: str) -> Path:
        path = ROOT / "build" / "screenshots" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path)
        return path

    return save
