"""Thin views: each says what its page needs to begin; everything that moves comes over the API and /live."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template import engines
from django.template.loader import get_template
from django.templatetags.static import static
from django.urls import get_resolver, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.errors import UnknownInterval, UnknownSymbol
from market.interval import Interval
from market.symbol import parse_symbol
from webapp.context import SOURCE_LABELS, stream_origin
from webapp.selectors import find_symbol, followed_symbols

API: Final = {
    "klines": "/api/v1/klines",
    "gaps": "/api/v1/gaps",
    "minutes": "/api/v1/minutes",
    "symbols": "/api/v1/symbols",
    "painted": "/api/v1/painted",
}
#: Bars of the first page; static/js/history.js asks for the same address, which the page preloads.
PAGE_BARS: Final = 1_000
UNAVAILABLE_AGAIN_S: Final = 3
CHART_LIBRARY: Final = "vendor/lightweight-charts/lightweight-charts.standalone.production.mjs"
SOURCE_WORDS: Final = {
    "sim": "Prices of a simulated exchange, not of a real market",
    "tape": "A recording is played, not the market of this moment",
}


def modules_of(folder: str, *entries: str) -> list[str]:
    """Static paths of the ES modules of a folder but the entries, so that the browser fetches them at once, not in a
    chain."""
    skipped = {"theme-boot.js", *entries}
    files = sorted((settings.PAGES / "static" / folder).glob("*.js"))
    return [f"{folder}/{file.name}" for file in files if file.name not in skipped]


CHART_MODULES: Final = [CHART_LIBRARY, *modules_of("js", "page.js", "market-list.js", "sparkline.js")]


def load_pages() -> None:
    """Load all routes and templates: else the first visitor waits for them."""
    _ = get_resolver().reverse_dict
    for folder in map(Path, engines["django"].template_dirs):
        for file in folder.rglob("*.html"):
            get_template(str(file.relative_to(folder)))


@require_safe
@never_cache
def markets(request: HttpRequest) -> HttpResponse:
    """The market list."""
    return render(request, "markets.html", {"config": page_config(request)})


@require_safe
@never_cache
def chart(request: HttpRequest, symbol: str) -> HttpResponse:
    """The chart of one symbol; 404 for one that is not followed, 400 for an interval that is not known."""
    try:
        name = parse_symbol(symbol)
        interval = Interval.parse(request.GET.get("interval", Interval.M1))
    except UnknownSymbol as error:
        return _problem(request, 404, "No such symbol", str(error))
    except UnknownInterval as error:
        return _problem(request, 400, "No such interval", str(error))
    if name != symbol:
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        return HttpResponseRedirect(reverse("chart", args=[name]) + query)
    row = find_symbol(name)
    if row is None and not followed_symbols():
        words = "The exchange has not named its symbols yet, which it does in the first seconds. This page asks again."
        return _problem(request, 503, "Not ready yet", words, again_s=2)
    if row is None:
        words = f"{name} is not one of the symbols followed here. A symbol appears once the exchange has named it."
        return _problem(request, 404, "No such symbol", words)
    config = {
        **page_config(request),
        "symbol": name,
        "interval": interval.value,
        "intervals": [item.value for item in Interval],
        "base": row["base_asset"],
        "quote": row["quote_asset"],
        "tickSize": row["tick_size"],
        "stepSize": row["step_size"],
    }
    first_page = urlencode({"symbol": name, "interval": interval.value, "limit": PAGE_BARS})
    context = {
        "config": config,
        "first_bars_url": f"{API['klines']}?{first_page}",
        "stream_http_url": stream_origin(request).replace("ws", "http", 1),
        "source_words": SOURCE_WORDS.get(settings.ROOM.source, ""),
        "modules": CHART_MODULES,
    }
    return render(request, "chart.html", context)


@require_safe
def about(request: HttpRequest) -> HttpResponse:
    """What this is, and the notices of what it uses."""
    notice = settings.ROOT / "NOTICE"
    return render(request, "about.html", {"notice": notice.read_text("utf-8") if notice.is_file() else ""})


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Browsers that ask for the old name get the mark."""
    return HttpResponseRedirect(static("img/mark.svg"))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Any path that leads nowhere; the site's handler404."""
    return _problem(request, 404, "Nothing here", "This address leads to no page of Candlewire.")


def unavailable(request: HttpRequest) -> HttpResponse:
    """The database is away: the page says so, goes on asking, and comes when it is back."""
    words = (
        "The database does not answer. What comes in from the exchange meanwhile is kept and stored once it does. "
        "This page asks again by itself."
    )
    answer = _problem(request, 503, "The database is away", words, again_s=UNAVAILABLE_AGAIN_S)
    answer["Retry-After"] = str(UNAVAILABLE_AGAIN_S)
    return answer


def _problem(request: HttpRequest, status: int, title: str, words: str, *, again_s: int = 0) -> HttpResponse:
    """A page that says what is wrong; with `again_s` the browser asks again by itself."""
    return render(request, "problem.html", {"title": title, "words": words, "again_s": again_s}, status=status)


def page_config(request: HttpRequest) -> dict[str, Any]:
    """What the scripts of a page are told (static/js reads it from the JSON block with id config)."""
    return {
        "api": API,
        "source": settings.ROOM.source,
        "sourceLabel": SOURCE_LABELS[settings.ROOM.source],
        "streamUrl": f"{stream_origin(request)}/live",
        "version": settings.APP_VERSION,
    }
