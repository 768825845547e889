"""What the inserter can be told."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import DatabaseSettings, KafkaSettings, RoomSettings


class InserterSettings(RoomSettings, KafkaSettings, DatabaseSettings):
    """Limits of a batch, and when bad records are too many."""

    inserter_batch_max_rows: int = Field(20_000, ge=1, le=200_000, description="records in one transaction, at most")
    inserter_batch_max_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="record bytes in one transaction")
    inserter_batch_wait_ms: int = Field(
        120, ge=0, le=250, description="how long a live batch waits for more records after its first"
    )
    inserter_copy_min_rows: int = Field(300, ge=0, description="from this many rows on a batch goes in by COPY")
    inserter_bad_max_share: float = Field(
        0.5, gt=0, le=1, description="stop when more than this share of the newest records is bad"
    )
    inserter_partitions_ahead_days: int = Field(2, ge=0, le=30, description="daily partitions made ahead of the newest")
    kafka_retention_ms: int | None = Field(None, ge=1_000, description="retention of every topic, this run")
