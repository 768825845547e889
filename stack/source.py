"""Where the data come from: resolves SOURCE=auto, and says whether the exchange answers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from runtime.settings import ExchangeSettings, split_list
from stack.settings import StackSettings

PING_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Source:
    """What the rooms are told: binance, sim or tape, and the exchange's addresses (comma lists).

    `note` is a line for people, empty when there is nothing to say.
    """

    name: str
    ws_url: str
    rest_url: str
    note: str = ""

    @property
    def starts_exchange(self) -> bool:
        """True when the exchange is our own exchange_sim."""
        return self.name in ("sim", "tape")


def resolve(settings: StackSettings, sim_port: int) -> Source:
    """Decide where the data come from; asks the live exchange when that matters (at most PING_TIMEOUT_S)."""
    ours = (f"ws://127.0.0.1:{sim_port}", f"http://127.0.0.1:{sim_port}")
    if settings.source in ("sim", "tape"):
        return Source(settings.source, *ours)
    live = ExchangeSettings.model_fields
    ws_url = settings.exchange_ws_url or str(live["exchange_ws_url"].default)
    rest_url = settings.exchange_rest_url or str(live["exchange_rest_url"].default)
    answers = any_answers(split_list(rest_url))
    if settings.source == "auto" and settings.exchange_ws_url is None and not answers:
        return Source("sim", *ours, note="the live exchange does not answer: SIMULATED market")
    note = "" if answers else f"the exchange cannot be reached ({rest_url}): waiting for it, trying again and again"
    return Source("binance", ws_url, rest_url, note=note)


def any_answers(rest_urls: Sequence[str]) -> bool:
    """True when one of the servers answers a ping."""
    with ThreadPoolExecutor(max(1, len(rest_urls))) as pool:
        return any(pool.map(_answers, rest_urls))


def _answers(rest_url: str) -> bool:
    try:
        return httpx.get(f"{rest_url.rstrip('/')}/api/v3/ping", timeout=PING_TIMEOUT_S).status_code == 200
    except (httpx.HTTPError, OSError, ValueError):
        return False
