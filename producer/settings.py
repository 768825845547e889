"""What the producer can be told."""

from __future__ import annotations

from pydantic import Field, field_validator

from market.stream import Stream
from runtime.settings import DatabaseSettings, ExchangeSettings, KafkaSettings, RoomSettings, split_list


class FeedSettings(ExchangeSettings):
    """How the exchange is listened to; shared with the recorder."""

    streams_per_connection: int = Field(
        400, ge=1, le=1024, description="most streams on one WebSocket connection (the exchange allows 1024)"
    )
    connection_lifetime_s: int = Field(
        23 * 3600, ge=2, le=24 * 3600, description="age at which a connection is replaced, before the exchange cuts it"
    )
    rotation_overlap_s: int = Field(
        20, ge=1, le=600, description="longest time for which an old and a new connection run side by side"
    )
    max_frame_bytes: int = Field(4 * 1024 * 1024, ge=65536, description="a larger WebSocket frame ends its connection")
    reconnect_max_delay_s: float = Field(
        12.0,
        gt=0,
        le=600,
        description="ceiling of the back-off between connections: listening 15 s after the exchange is back",
    )

    @field_validator("streams")
    @classmethod
    def _known_streams(cls, value: str) -> str:
        allowed = ", ".join(Stream)
        names = split_list(value)
        unknown = [name for name in names if name not in set(Stream)]
        if unknown or not names:
            raise ValueError(f"unknown stream {', '.join(unknown) or '(none given)'}; allowed: {allowed}")
        return value

    def stream_list(self) -> tuple[Stream, ...]:
        """The wanted streams, each once."""
        return tuple(dict.fromkeys(Stream(name) for name in split_list(self.streams)))


class ProducerSettings(RoomSettings, KafkaSettings, DatabaseSettings, FeedSettings):
    """The producer's settings. The database only says what operators want; the producer works without it."""

    produce_buffer_bytes: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, description="most bytes that wait for the broker before records are dropped"
    )
    produce_fact_linger_ms: int = Field(20, ge=0, le=1000, description="how long facts are gathered into one batch")
    produce_bulk_linger_ms: int = Field(
        50, ge=0, le=1000, description="how long state and chain records are gathered into one batch"
    )
    produce_stall_s: float = Field(
        30.0, gt=0, le=600, description="age of an unacknowledged batch at which the Kafka client is replaced"
    )
    bad_frame_window_frames: int = Field(
        200, ge=10, le=100_000, description="number of last frames over which the share of bad ones is judged"
    )
    bad_frame_max_share: float = Field(
        0.5, gt=0, le=1, description="the producer stops when a larger share of the last frames is bad"
    )


class RecordSettings(RoomSettings, FeedSettings):
    """The recorder's settings."""

    record_max_bytes: int = Field(
        4 * 1024 * 1024 * 1024, ge=64 * 1024, description="most bytes of a recording on disk, all its parts together"
    )
    record_part_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="size at which a recording goes on in another file"
    )
    record_part_s: float = Field(3600.0, gt=0, description="age at which a recording goes on in another file")
