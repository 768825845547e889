"""What the web application can be told."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from runtime.settings import BudgetSettings, DatabaseSettings, ExchangeSettings, KafkaSettings, RoomSettings, split_list

MIN_TOKEN_LENGTH: Final = 32


def _long_enough(token: SecretStr) -> SecretStr:
    if 0 < len(token.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError(f"at least {MIN_TOKEN_LENGTH} characters")
    return token


class WebappSettings(DatabaseSettings, KafkaSettings, BudgetSettings, RoomSettings):
    """Settings of `webapp`."""

    port: int = Field(8000, ge=0, le=65535, description="port of pages and HTTP API; 0 = any free one")
    web_host: str = Field("127.0.0.1", description="address that the web server listens on; a container needs 0.0.0.0")
    web_threads: int = Field(8, ge=1, le=64, description="requests served at the same time")
    web_max_exports: int = Field(
        2, ge=1, le=16, description="exports served at the same time, each by one of WEB_THREADS; more are told to wait"
    )
    web_export_max_s: int = Field(600, ge=1, description="an export that takes longer than this is broken off")
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
    api_cors_origins: str = Field(
        "",
        pattern=r"^(\s*https?://[^\s,/*]+\s*(,|$))*$",
        description="comma list of origins (https://charts.example.org) whose pages may read the APIs; empty = none",
    )
    web_trusted_proxies: str = Field(
        "", description="comma list of proxy addresses whose X-Forwarded-For is believed; empty = none"
    )
    celery_broker_url: str = Field(
        "",
        description="address of the Celery broker, asked whether it answers; needs no password; empty = not known",
    )
    room_health_urls: str = Field(
        "",
        pattern=r"^([\w-]+=https?://[^\s,=/]+/?(\s*,\s*|\s*$))*$",
        description="comma list of `room=http://host:port`, where each room serves its health; empty = none is asked",
    )
    operator_refresh_ms: int = Field(5_000, ge=1_000, le=60_000, description="pace of the figures of /operator")
    operator_sample_ms: int = Field(10_000, ge=1_000, le=600_000, description="pace of the figures' history")
    operator_history_days: int = Field(7, ge=1, le=366, description="days for which that history is kept")
    operator_headroom_s: int = Field(
        300, ge=0, description="alert when a reader's headroom is below this, or below 80 % of the retention if less"
    )
    operator_stale_s: int = Field(30, ge=2, description="alert when nothing new of a feed was stored for so long")
    operator_dead_letter_share: float = Field(
        0.001, gt=0, le=1, description="alert when more than this share of the last five minutes' rows is unusable"
    )
    operator_disk_free_share: float = Field(
        0.1, gt=0, lt=1, description="alert when less than this share of the disk of DATA_DIR is free"
    )
    operator_webhook_url: str = Field(
        "", pattern=r"^(https?://[^\s]+)?$", description="where alerts are posted as JSON; empty = nowhere"
    )
    operator_webhook_timeout_ms: int = Field(5_000, ge=100, le=60_000, description="deadline of one such post")
    kafka_retention_ms: int | None = Field(None, ge=1_000, description="retention of every topic, this run")
    source: str = Field("sim", pattern="^(binance|sim|tape)$", description="where the data come from (labels)")
    streams: str = Field(
        str(ExchangeSettings.model_fields["streams"].default), description="comma list of streams that are asked for"
    )

    def allowed_hosts(self) -> list[str]:
        """Host names that the site answers to."""
        return list(split_list(self.web_allowed_hosts))

    def room_urls(self) -> dict[str, str]:
        """Base address of each room's health server."""
        pairs = (part.partition("=") for part in split_list(self.room_health_urls))
        return {name.strip(): url.strip() for name, _, url in pairs}

    def cors_origins(self) -> frozenset[str]:
        """Origins whose pages may read the APIs."""
        return frozenset(split_list(self.api_cors_origins))

    def trusted_proxies(self) -> tuple[str, ...]:
        """Addresses whose X-Forwarded-For is believed."""
        return split_list(self.web_trusted_proxies)
