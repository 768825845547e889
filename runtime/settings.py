"""Settings: one pydantic-settings model per room, read from the environment, then `.env`, then the default.

A room declares what it can be told in `<room>/settings.py` as a subclass of RoomSettings; field names in
capitals are the variables. The mixins hold what several rooms share, so that each variable is declared once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class RoomSettings(BaseSettings):
    """What every room can be told."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    health_port: int = Field(
        0, ge=0, le=65535, description="loopback port of /healthz, /readyz, /metrics; 0 = any free one"
    )
    health_host: str = Field(
        "127.0.0.1", description="address the health server listens on; only a container needs another"
    )
    data_dir: Path = Field(Path(".candlewire"), description="directory of all state")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least level that is logged")
    log_json: bool = Field(True, description="one JSON object a line; false = for people")


class KafkaSettings(BaseSettings):
    """For rooms that use the broker."""

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port list of the Kafka broker")


class DatabaseSettings(BaseSettings):
    """For rooms that use the database."""

    database_url: str = Field(
        "postgresql://candlewire@127.0.0.1:5432/candlewire", description="PostgreSQL connection string"
    )


class BudgetSettings(BaseSettings):
    """For who asks the exchange in the background, and who tells what that would cost."""

    history_weight_per_minute: int = Field(
        3000,
        ge=20,
        le=6000,
        description="background work (history, repair, audit) asks nothing more of the exchange in a minute in which "
        "this address has used so much of its 6000 weights",
    )


class ExchangeSettings(BaseSettings):
    """For rooms that talk to the exchange."""

    source: str = Field("sim", pattern="^(binance|sim|tape)$", description="where the data come from (labels)")
    exchange_ws_url: str = Field(
        "wss://stream.binance.com:9443,wss://data-stream.binance.vision",
        description="WebSocket base URLs of the exchange, tried in order",
    )
    exchange_rest_url: str = Field(
        "https://api.binance.com,https://data-api.binance.vision",
        description="REST base URLs of the exchange, tried in order",
    )
    symbols: str = Field(
        "BTCUSDT,ETHUSDT,BNBUSDT,SOLUSDT,XRPUSDT", description="comma list, or top:N = the N most traded"
    )
    streams: str = Field(
        "kline_1s,kline_1m,trade,depth,depth20,bookTicker,miniTicker",
        description="comma list of streams; rows, candles and the ledger need kline_1s",
    )

    def ws_urls(self) -> tuple[str, ...]:
        """WebSocket base URLs in the order to try."""
        return split_list(self.exchange_ws_url)

    def rest_urls(self) -> tuple[str, ...]:
        """REST base URLs in the order to try."""
        return split_list(self.exchange_rest_url)


def split_list(text: str) -> tuple[str, ...]:
    """Parts of a comma list, without blanks and empty parts."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def shown(name: str, value: object) -> str:
    """A wrong value for a message, unless the variable holds a secret."""
    return "a secret" if name.endswith(("_TOKEN", "_KEY", "_PASSWORD")) else repr(value)


_S = TypeVar("_S", bound=BaseSettings)


def load(model: type[_S]) -> _S:
    """The room's settings; on any wrong value one message with all of them on stderr, and exit code 2."""
    try:
        return model()
    except ValidationError as error:
        lines = [
            f"  {name}: {e['msg']} (got {shown(name, e['input'])})"
            for e in error.errors()
            for name in [".".join(str(p) for p in e["loc"]).upper()]
        ]
        sys.stderr.write("Settings that cannot be used:\n" + "\n".join(lines) + "\n")
        raise SystemExit(2) from None
