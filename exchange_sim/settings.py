"""What the simulated exchange can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from exchange_sim.symbols import MAX_SYMBOLS
from runtime.settings import RoomSettings


class SimSettings(RoomSettings):
    """Settings of exchange_sim; times of the protocol can be shortened for tests."""

    source: Literal["sim", "tape"] = Field("sim", description="sim = seeded market, tape = recorded traffic")
    sim_host: str = Field("127.0.0.1", description="address that WebSocket and REST listen on")
    sim_port: int = Field(8090, ge=0, le=65535, description="port of WebSocket, REST and fault control; 0 = any")
    sim_seed: int = Field(1, ge=0, lt=2**63, description="the seeded market is a pure function of this number")
    sim_symbols: int = Field(2_000, ge=1, le=MAX_SYMBOLS, description="how many pairs are listed")
    sim_history_days: int = Field(12, ge=3, le=60, description="how far back REST answers go")
    sim_limits: bool = Field(True, description="enforce request weights and the message rate")
    sim_ping_interval_ms: int = Field(20_000, ge=50, description="server ping every so often")
    sim_pong_timeout_ms: int = Field(60_000, ge=50, description="a ping not echoed for so long cuts")
    sim_connection_lifetime_ms: int = Field(86_400_000, ge=100, description="a connection is cut at this age")
    sim_send_buffer_bytes: int = Field(8_388_608, ge=65_536, description="unsent bytes at which a slow reader is cut")
    sim_1s_klines: bool = Field(True, description="false = no 1s klines over REST, like binance.us")
    sim_weight_per_minute: int = Field(6_000, ge=1, description="REST weight per address and clock minute")
    sim_rest_fetch_threads: int = Field(1, ge=1, le=4, description="threads that compute REST answers")
    tape: Path | None = Field(None, description="recorded traffic to play")
    tape_speed: str = Field("1", description="times real time, or max = as fast as the readers take it")
    tape_shift: Literal["days", "none"] = Field(
        "days", description="days = moved by whole days so that it seems live, none = original times"
    )
    tape_wait: bool = Field(True, description="start the tape with the first subscriber")

    @field_validator("tape_speed")
    @classmethod
    def _speed(cls, value: str) -> str:
        if value == "max":
            return value
        try:
            speed = float(value)
        except ValueError:
            raise ValueError("must be a number or max") from None
        if not 0 < speed <= 10_000:
            raise ValueError("must be above 0 and at most 10000, or max")
        return value

    @model_validator(mode="after")
    def _tape_given(self) -> SimSettings:
        if self.source == "tape" and self.tape is None:
            raise ValueError("SOURCE=tape needs TAPE (the file to play)")
        return self
