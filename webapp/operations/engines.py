"""Broker, database, Valkey and exchange: up, down or not known, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from webapp.operations.scrape import Scrape
from webapp.operations.snapshot import EngineRow

PING_DEADLINE_S: Final = 1.5
REDIS_PORT: Final = 6379
AMQP_PORT: Final = 5672
MAX_ERROR_CHARACTERS: Final = 200
#: How the producer words it, for each of its connections.
UNREACHED: Final = "exchange cannot be reached"


async def ask_valkey(broker_url: str) -> EngineRow:
    """Whether somebody answers at the address of CELERY_BROKER_URL: any answer is life, no password is needed."""
    if not broker_url:
        return EngineRow(name="valkey", state="unknown", error="CELERY_BROKER_URL is not told to webapp")
    address = urlsplit(broker_url)
    is_redis = address.scheme.startswith("redis")
    try:
        async with asyncio.timeout(PING_DEADLINE_S):
            port = address.port or (REDIS_PORT if is_redis else AMQP_PORT)
            reader, writer = await asyncio.open_connection(address.hostname, port)
            try:
                if address.scheme == "redis":
                    writer.write(b"PING\r\n")
                    answer = await reader.readline()
                    if not answer.startswith((b"+", b"-")):
                        return EngineRow(name="valkey", state="down", error=f"answers {answer[:40]!r}")
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError) as error:
        return EngineRow(name="valkey", state="down", error=one_line(error))
    return EngineRow(name="valkey", state="up")


def exchange_row(scrapes: Mapping[str, Scrape], now_ms: int, stale_after_s: float) -> EngineRow:
    """The exchange as the producer hears it."""
    producer = scrapes.get("producer")
    if producer is None or producer.error is not None:
        return EngineRow(name="exchange", state="unknown", error="the producer, which hears it, does not answer")
    newest = max((s.value for s in producer.of("ingest_last_message_timestamp_seconds")), default=None)
    if newest is None:
        return EngineRow(name="exchange", state="down", error="; ".join(producer.reasons) or "nothing was heard yet")
    unreached = [reason for reason in producer.reasons if UNREACHED in reason]
    if unreached:
        # Sooner than the silence tells: the producer has tried to connect, in vain.
        return EngineRow(name="exchange", state="down", error=unreached[0][:MAX_ERROR_CHARACTERS])
    age_s = now_ms / 1000 - newest
    if age_s > stale_after_s:
        return EngineRow(name="exchange", state="down", error=f"nothing heard for {age_s:.0f} s")
    return EngineRow(name="exchange", state="up")


def one_line(error: BaseException) -> str:
    """The first line of an error, for people."""
    lines = str(error).strip().splitlines()
    if not lines and isinstance(error, TimeoutError):
        return "no answer in time"
    return (lines[0] if lines else type(error).__name__)[:MAX_ERROR_CHARACTERS]
