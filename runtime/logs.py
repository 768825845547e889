"""Structured logs: one JSON object a line on stdout, or coloured text for people."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.stdlib import BoundLogger

MAX_ERROR_CHARACTERS = 300
#: The newest warning or error of this process, in one line; at most one.
_newest_error: list[str] = []


def newest_error() -> str | None:
    """The newest warning or error that was logged, with its time; None = there was none."""
    return _newest_error[0] if _newest_error else None


def _remember(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    if event.get("level") in ("warning", "error", "critical"):
        why = event.get("error") or event.get("reason") or ""
        text = f"{event.get('timestamp')} {event.get('event')} {why}".strip()
        _newest_error[:] = [" ".join(text.split())[:MAX_ERROR_CHARACTERS]]
    return event


def configure(room: str, level: str = "INFO", *, as_json: bool = True, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's logging to stdout (or `stream`), each line bound to `room`."""
    stream = stream or sys.stdout
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _remember,
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # While the broker is away the Kafka client logs each retry, ten a second, as errors; health shows that already,
    # and every error that matters reaches us as an exception. The HTTP client logs each request.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("httpx").setLevel(max(logging.getLevelName(level), logging.WARNING))
    structlog.contextvars.bind_contextvars(room=room)


def get_logger(name: str) -> BoundLogger:
    """A logger; call it as log.info("event_name", key=value)."""
    logger: BoundLogger = structlog.stdlib.get_logger(name)
    return logger
