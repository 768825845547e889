"""What a stack can be told: the variables of `make run` and `candlewire up`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from market.stream import Stream

DEFAULT_SYMBOLS = "BTCUSDT,ETHUSDT,BNBUSDT,SOLUSDT,XRPUSDT"
MAX_SYMBOLS = 5_000
MAX_TAPE_SPEED = 10_000


def _symbols(text: str) -> str:
    if found := re.fullmatch(r"top:([1-9]\d{0,5})", text.strip()):
        if int(found.group(1)) > MAX_SYMBOLS:
            raise ValueError(f"top:N with N at most {MAX_SYMBOLS}")
        return text.strip()
    names = [part.strip().upper() for part in text.split(",") if part.strip()]
    wrong = [name for name in names if not re.fullmatch(r"[A-Z0-9]{2,20}", name)]
    if wrong or not names:
        raise ValueError(
            f"a comma list such as {DEFAULT_SYMBOLS}, or top:N; {', '.join(wrong) or 'nothing'} is no symbol"
        )
    return ",".join(dict.fromkeys(names))


def _streams(text: str) -> str:
    allowed = [stream.value for stream in Stream]
    names = [part.strip() for part in text.split(",") if part.strip()]
    wrong = [name for name in names if name not in allowed]
    if wrong or not names:
        raise ValueError(f"a comma list of {', '.join(allowed)}; {', '.join(wrong) or 'nothing'} is none of them")
    return ",".join(dict.fromkeys(names))


def _tape_speed(text: str) -> str:
    if text != "max" and not (re.fullmatch(r"\d+(\.\d+)?", text) and 0 < float(text) <= MAX_TAPE_SPEED):
        raise ValueError(f"a factor above 0 and at most {MAX_TAPE_SPEED}, such as 1 or 60, or max")
    return text


def _schemes(*schemes: str) -> AfterValidator:
    def check(text: str) -> str:
        for url in filter(None, (part.strip() for part in text.split(","))):
            if not re.fullmatch(rf"(?:{'|'.join(schemes)})://[^\s/]+\S*", url):
                raise ValueError(f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text

    return AfterValidator(check)


def _bootstrap(text: str) -> str:
    for server in text.split(","):
        if not re.fullmatch(r"\s*[^\s:,]+:\d{1,5}\s*", server):
            raise ValueError("a comma list of host:port")
    return text


Port = Annotated[int, Field(ge=1, le=65_535)]
Milliseconds = Annotated[int, Field(ge=1_000)]


class StackSettings(BaseSettings):
    """Given by stack/check.py from the environment, then `.env` of the checkout; an empty value counts as none."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    source: Literal["auto", "binance", "sim", "tape"] = Field(
        "auto", description="`auto` (the live exchange if it answers within 5 s, else `sim`), `binance`, `sim`, `tape`"
    )
    symbols: Annotated[str, AfterValidator(_symbols)] = Field(
        DEFAULT_SYMBOLS, description="comma list, or `top:N`: the N most traded of the exchange"
    )
    streams: Annotated[str, AfterValidator(_streams)] = Field(
        ",".join(Stream), description="comma list of streams; rows, candles and the ledger need `kline_1s`"
    )
    data_dir: Path = Field(Path(".candlewire"), description="directory of all state")
    port: Port = Field(8000, description="port of the web pages and the HTTP API")
    stream_port: Port = Field(5000, description="port of the WebSocket relay")
    database_url: Annotated[str, _schemes("postgresql", "postgres")] | None = Field(
        None, description="use this PostgreSQL, start none"
    )
    kafka_bootstrap_servers: Annotated[str, AfterValidator(_bootstrap)] | None = Field(
        None, description="use this Kafka, start none"
    )
    celery_broker_url: Annotated[str, _schemes("redis", "rediss", "amqp", "amqps")] | None = Field(
        None, description="use this Celery broker, start none"
    )
    kafka_retention_ms: Milliseconds | None = Field(None, description="retention of every topic in this run")
    kafka_segment_ms: Milliseconds | None = Field(None, description="segment.ms of every topic in this run")
    kafka_retention_check_ms: Milliseconds | None = Field(
        None, description="how often the broker looks for old segments"
    )
    exchange_ws_url: Annotated[str, _schemes("ws", "wss")] | None = Field(
        None, description="WebSocket base URL of any server of Binance's protocol; goes with EXCHANGE_REST_URL"
    )
    exchange_rest_url: Annotated[str, _schemes("http", "https")] | None = Field(
        None, description="REST base URL of the same server"
    )
    tape: Path | None = Field(None, description="file of recorded traffic for SOURCE=tape")
    tape_speed: Annotated[str, AfterValidator(_tape_speed)] = Field("1", description="factor, or `max`")
    sim_seed: int = Field(1, ge=0, lt=2**63, description="seed of the simulated market: the same seed, the same market")
