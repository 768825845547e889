"""What the aggregator can be told."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import BudgetSettings, DatabaseSettings, ExchangeSettings, KafkaSettings, RoomSettings


class AggregatorSettings(RoomSettings, KafkaSettings, DatabaseSettings, ExchangeSettings, BudgetSettings):
    """Broker of the tasks, history and retention."""

    celery_broker_url: str = Field("redis://127.0.0.1:6379/0", description="broker of the Celery tasks")
    history_bars: int = Field(1000, ge=1, le=20_000, description="bars of each interval that a new symbol gets")
    history_seconds: int = Field(
        1000, ge=0, le=86_400, description="seconds before its first that a new symbol gets for its 1s chart"
    )
    repair_max_attempts: int = Field(
        10, ge=1, le=1000, description="a gap whose answers were refused so often is unrepairable until it is reopened"
    )
    repair_max_delay_s: float = Field(600.0, ge=1, description="longest wait between two tries of a gap")
    repair_absent_recheck_h: float = Field(
        24.0, gt=0, description="what the exchange does not have is asked for again after so many hours, for a week"
    )
    retention_1s_hours: int = Field(
        48, ge=1, description="how long 1 s rows are kept, counted back from the newest watermark"
    )
    retention_letters_days: int = Field(30, ge=1, description="how long dead letters and outages are kept")
    retention_proof_days: int = Field(
        90, ge=1, description="how long audits, revisions of candles, completeness of hours and alerts are kept"
    )
