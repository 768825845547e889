"""What the web application can be told."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from runtime.settings import DatabaseSettings, ExchangeSettings, KafkaSettings, RoomSettings, split_list

MIN_TOKEN_LENGTH: Final = 32


def _long_enough(token: SecretStr) -> SecretStr:
    if 0 < len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError(f"at least {MIN_TOKEN_LENGTH} characters")
    return token


class WebappSettings(DatabaseSettings, KafkaSettings, RoomSettings):
    """Settings of `webapp`."""

    port: int = Field(8000, ge=0, le=65535, description="port of pages and HTTP API; 0 = any free one")
    web_host: str = Field("127.0.0.1", description="address that the web server listens on; a container needs 0.0.0.0")
    web_threads: int = Field(8, ge=1, le=64, description="requests served at the same time")
    web_allowed_hosts: str = Field(
        "localhost,127.0.0.1,[::1]", description="comma list of the host names that the site answers to"
    )
    web_https: bool = Field(
        False, description="the site is reached over TLS (through a proxy): secure cookies, HSTS, redirect"
    )
    web_stream_url: str = Field(
        "",
        pattern=r"^(wss?://[^\s;,'\"/]+)?$",
        description="WebSocket origin that browsers use; empty = the page's own host with STREAM_PORT",
    )
    stream_port: int = Field(5000, ge=1, le=65535, description="port of the WebSocket relay")
    secret_key: str = Field("", description="Django's secret key, 50 characters or more; empty = a new one each start")
    operator_token: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""),
        description="32 characters or more; who knows it may see and do what operators may; empty = only this machine",
    )
    analyst_database_url: str = Field(
        "", description="connection string of the read-only role, used for all API reads; empty = DATABASE_URL"
    )
    api_weight_per_minute: int = Field(
        6000, ge=0, description="request weight that one address may use a minute, in Binance's weights; 0 = no limit"
    )
    web_trusted_proxies: str = Field(
        "", description="comma list of proxy addresses whose X-Forwarded-For is believed; empty = none"
    )
    kafka_retention_ms: int | None = Field(None, ge=1_000, description="retention of every topic, this run")
    source: str = Field("sim", pattern="^(binance|sim|tape)$", description="where the data come from (labels)")
    streams: str = Field(
        str(ExchangeSettings.model_fields["streams"].default), description="comma list of streams that are asked for"
    )

    def allowed_hosts(self) -> list[str]:
        """Host names that the site answers to."""
        return list(split_list(self.web_allowed_hosts))

    def trusted_proxies(self) -> tuple[str, ...]:
        """Addresses whose X-Forwarded-For is believed."""
        return split_list(self.web_trusted_proxies)
