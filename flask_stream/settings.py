"""What the relay can be told."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import KafkaSettings, RoomSettings, split_list


class StreamSettings(RoomSettings, KafkaSettings):
    """Variables of the relay; the limits are those of contract.md."""

    port: int = Field(8000, ge=1, le=65535, description="port of the web pages, for the default list of Origins")
    stream_port: int = Field(5000, ge=1, le=65535, description="port of the WebSocket relay")
    stream_host: str = Field("127.0.0.1", description="address the relay listens on; only a container needs another")
    stream_allowed_origins: str = Field(
        "", description="comma list of exact Origins of pages; empty = the web pages of this machine"
    )
    stream_allow_no_origin: bool = Field(
        True, description="let clients in that send no Origin: programs, never browsers"
    )
    stream_max_clients: int = Field(5000, ge=1, description="connections in all")
    stream_max_per_address: int = Field(20, ge=1, description="connections of one address")
    stream_max_frame_bytes: int = Field(4096, ge=125, le=65536, description="largest message of a client (else 1009)")
    stream_buffer_bytes: int = Field(262_144, ge=16_384, description="updates waiting for one client (else 4008)")
    stream_socket_buffer_bytes: int = Field(65_536, ge=4_096, description="kernel send buffer of one client")
    stream_write_deadline_ms: int = Field(2_000, ge=100, description="longest wait for a client to take bytes")
    stream_ping_interval_ms: int = Field(20_000, ge=100, description="ping of each client")
    stream_dead_after_ms: int = Field(40_000, ge=200, description="silence after which a client counts as dead")
    stream_linger_ms: int = Field(60_000, ge=0, description="how long a channel without viewers keeps its memory")

    def origins(self) -> frozenset[str]:
        """Origins that may connect: the listed pages, and the relay's own loopback address, which is what
        programs built on websocket-client send (no page can have it: the relay serves none)."""
        listed = split_list(self.stream_allowed_origins) or _loopback(self.port)
        return frozenset((*listed, *_loopback(self.stream_port)))


def _loopback(port: int) -> tuple[str, str]:
    return f"http://127.0.0.1:{port}", f"http://localhost:{port}"
