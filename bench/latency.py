"""From the exchange's event to the browser's pixel, and to a bare WebSocket client, in the same run.

A whole stack with the simulated exchange. Chromium shows the chart of one symbol; beside it a client without a page
subscribes to the same channels. The reference is what the line itself takes up to the receipt of that client; the
difference is the page.
"""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright
from websockets.sync.client import connect

from bench.ratio import Ratio, percentile
from runtime.clock import SystemClock
from tests.stack_process import StackProcess

SYMBOL = "BTCUSDT"
INTERVAL = "1s"
WATCH_MS = 20_000
READY_UPDATES = 10
CHROMIUM = "/usr/bin/chromium"
#: Promised to viewers: 95 of 100 updates are drawn within this time of the event.
PROMISE_MS = 500.0
FIRST_CHART_PROMISE_MS = 1_500
#: What the page measures by.
CHANNELS = (f"kline:{SYMBOL}:{INTERVAL}", f"trade:{SYMBOL}")
PAGE_IS_LIVE = f"() => window.candlewire && window.candlewire.latency().count >= {READY_UPDATES}"


class BareClient(threading.Thread):
    """Subscribes and notes, for each update, the milliseconds from the event to its receipt."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.delays_ms: list[float] = []
        self._url = url
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Until asked to stop."""
        clock = SystemClock()
        with connect(f"{self._url}/live") as socket:
            socket.send(json.dumps({"op": "subscribe", "ch": list(CHANNELS)}))
            while not self._stop_asked.is_set():
                message = json.loads(socket.recv(timeout=10))
                if message.get("kind") == "update" and message["t"]["event"] is not None:
                    self.delays_ms.append(clock.now_ms() - message["t"]["event"])

    def stop(self) -> None:
        """End after the next message."""
        self._stop_asked.set()
        self.join(10)


def run() -> list[Ratio]:
    """95th percentiles of both, and the page against what is promised."""
    with (
        tempfile.TemporaryDirectory(prefix="candlewire-bench-") as directory,
        StackProcess(Path(directory), SOURCE="sim", SYMBOLS=SYMBOL) as stack,
    ):
        urls = stack.status()["urls"]
        client = BareClient(urls["stream"])
        page_p95_ms, count, first_chart_ms = watch_page(f"{urls['web']}/chart/{SYMBOL}?interval={INTERVAL}", client)
        client.stop()
    line_p95_ms = percentile(client.delays_ms, 0.95)
    note = f"Chromium {count} updates, bare client {len(client.delays_ms)}"
    return [
        Ratio("event to pixel p95 : event to bare client p95", page_p95_ms, line_p95_ms, "ms", False, None, note),
        Ratio("event to pixel p95 : promised", page_p95_ms, PROMISE_MS, "ms", False, 1.0, note),
        Ratio("first chart : promised", first_chart_ms, FIRST_CHART_PROMISE_MS, "ms", False, 1.0, "one cold page"),
    ]


def watch_page(url: str, client: BareClient) -> tuple[float, int, float]:
    """The page's own measures after WATCH_MS: 95th percentile in ms of its updates, how many, its first chart in ms.

    `client` is started when the page is live, so that both see the same time.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_function(PAGE_IS_LIVE, timeout=60_000)
        client.start()
        page.wait_for_timeout(WATCH_MS)
        found = page.evaluate("() => window.candlewire.latency()")
        first_chart_ms = page.evaluate("performance.getEntriesByName('candlewire:first-chart')[0].startTime")
        browser.close()
    return float(found["p95"]), int(found["count"]), float(first_chart_ms)
