"""What every page is told."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from webapp.operations.permission import operator_of

SOURCE_LABELS = {"binance": "", "sim": "SIMULATED", "tape": "TAPE"}


def stream_origin(request: HttpRequest) -> str:
    """WebSocket origin for this visitor: the setting, else the host that the page was asked from."""
    room = settings.ROOM
    if room.web_stream_url:
        return str(room.web_stream_url).rstrip("/")
    host = request.get_host()
    name = host.rsplit(":", 1)[0] if not host.endswith("]") and ":" in host else host
    return f"{'wss' if request.is_secure() else 'ws'}://{name}:{room.stream_port}"


def site(request: HttpRequest) -> dict[str, object]:
    """Template variables of every page: where data come from, where they stream, and whether an operator asks."""
    source = settings.ROOM.source
    return {
        "source": source,
        "source_label": SOURCE_LABELS[source],
        "stream_url": stream_origin(request),
        "app_version": settings.APP_VERSION,
        "is_operator": operator_of(request) is not None,
    }
