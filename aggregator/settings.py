"""What the aggregator can be told."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import DatabaseSettings, ExchangeSettings, KafkaSettings, RoomSettings


class AggregatorSettings(RoomSettings, KafkaSettings, DatabaseSettings, ExchangeSettings):
    """Broker of the tasks, history and retention."""

    celery_broker_url: str = Field("redis://127.0.0.1:6379/0", description="broker of the Celery tasks")
    history_weight_per_minute: int = Field(
        1200, ge=20, le=6000, description="share of the exchange's 6000 request weights a minute that history takes"
    )
    retention_1s_hours: int = Field(
        48, ge=1, description="how long 1 s rows are kept, counted back from the newest watermark"
    )
    retention_letters_days: int = Field(30, ge=1, description="how long dead letters and outages are kept")
