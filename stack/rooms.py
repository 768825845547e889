"""The rooms and engines of one run: what is started, and what each is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

from stack.check import Checked
from stack.credentials import Credentials
from stack.engines import kafka, postgres, valkey
from stack.layout import Layout
from stack.program import Program
from stack.source import Source

# Room, the arguments of its process.
ROOMS: Mapping[str, tuple[str, ...]] = {
    "exchange_sim": ("exchange_sim",),
    "producer": ("producer",),
    "inserter": ("inserter",),
    "aggregator": ("aggregator", "worker"),
    "aggregator-beat": ("aggregator", "beat"),
    "flask_stream": ("flask_stream",),
    "webapp": ("webapp",),
}
PORT_NAMES = (
    "supervisor",
    "kafka",
    "kafka_controller",
    "postgres",
    "valkey",
    "exchange_sim",
    *(f"health.{room}" for room in ROOMS),
)


@dataclass(frozen=True)
class Addresses:
    """Where the engines are, ours or given ones. With passwords: for the rooms and `status` only."""

    database_url: str
    analyst_database_url: str
    kafka_bootstrap_servers: str
    celery_broker_url: str


def addresses(checked: Checked, ports: Mapping[str, int], credentials: Credentials) -> Addresses:
    """Addresses of the engines."""
    settings = checked.settings
    place = f"127.0.0.1:{ports['postgres']}/{postgres.DATABASE}"
    analyst = f"postgresql://{postgres.ANALYST}:{quote(credentials.analyst)}@{place}"
    given_analyst = checked.given.get("ANALYST_DATABASE_URL")
    return Addresses(
        database_url=settings.database_url or f"postgresql://{postgres.OWNER}:{quote(credentials.database)}@{place}",
        analyst_database_url=given_analyst or (settings.database_url or analyst),
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers or f"127.0.0.1:{ports['kafka']}",
        celery_broker_url=settings.celery_broker_url
        or f"redis://:{quote(credentials.broker)}@127.0.0.1:{ports['valkey']}/0",
    )


def prepare_engines(
    layout: Layout, checked: Checked, ports: Mapping[str, int], credentials: Credentials
) -> list[Program]:
    """Make the engines ready to be started, all at the same time. Raises EngineError."""
    settings = checked.settings
    kafka_options = kafka.KafkaOptions(ports["kafka"], ports["kafka_controller"], settings.kafka_retention_check_ms)
    postgres_options = postgres.PostgresOptions(ports["postgres"], credentials.database, credentials.analyst)
    steps: list[Callable[[], Program]] = []
    if settings.kafka_bootstrap_servers is None:
        steps.append(lambda: kafka.prepare(layout, kafka_options))
    if settings.database_url is None:
        steps.append(lambda: postgres.prepare(layout, postgres_options))
    if settings.celery_broker_url is None:
        steps.append(lambda: valkey.prepare(layout, ports["valkey"], credentials.broker))
    with ThreadPoolExecutor(max(1, len(steps))) as pool:
        return list(pool.map(lambda step: step(), steps))


def rooms(source: Source, ports: Mapping[str, int]) -> list[Program]:
    """The rooms of this run. The exchange is ours only when the data are simulated or from a tape."""
    programs = []
    started = [name for name in ROOMS if name != "exchange_sim" or source.starts_exchange]
    health_urls = ",".join(f"{name}=http://127.0.0.1:{ports[f'health.{name}']}" for name in started)
    for name in started:
        arguments = ROOMS[name]
        health_port = ports[f"health.{name}"]
        environment = {"HEALTH_PORT": str(health_port)}
        if name == "webapp":
            environment["ROOM_HEALTH_URLS"] = health_urls
        programs.append(
            Program(
                name,
                (sys.executable, "-m", *arguments),
                health_url=f"http://127.0.0.1:{health_port}/healthz",
                environment=environment,
            )
        )
    return programs


def engine_probes(ports: Mapping[str, int]) -> dict[str, Callable[[], bool]]:
    """For each engine, what tells whether it is ready."""
    return {
        "kafka": lambda: kafka.is_ready(ports["kafka"]),
        "postgres": lambda: postgres.is_ready(ports["postgres"]),
        "valkey": lambda: valkey.is_ready(ports["valkey"]),
    }


@dataclass(frozen=True, repr=False)
class RunPlan:
    """All that one run is made of."""

    checked: Checked
    source: Source
    ports: Mapping[str, int]
    credentials: Credentials
    addresses: Addresses

    def environment(self) -> dict[str, str]:
        """What every room is told, on top of the environment that we have ourselves."""
        settings = self.checked.settings
        told = {
            **self.checked.given,
            "SOURCE": self.source.name,
            "SYMBOLS": settings.symbols,
            "STREAMS": settings.streams,
            "DATA_DIR": str(self.checked.data_dir),
            "PORT": str(settings.port),
            "STREAM_PORT": str(settings.stream_port),
            "DATABASE_URL": self.addresses.database_url,
            "ANALYST_DATABASE_URL": self.addresses.analyst_database_url,
            "KAFKA_BOOTSTRAP_SERVERS": self.addresses.kafka_bootstrap_servers,
            "CELERY_BROKER_URL": self.addresses.celery_broker_url,
            "EXCHANGE_WS_URL": self.source.ws_url,
            "EXCHANGE_REST_URL": self.source.rest_url,
            "TAPE_SPEED": settings.tape_speed,
            "SIM_SEED": str(settings.sim_seed),
            "SIM_PORT": str(self.ports["exchange_sim"]),
            "SECRET_KEY": self.checked.given.get("SECRET_KEY") or self.credentials.secret_key,
            "PYTHONUNBUFFERED": "1",
            # Fewer malloc arenas: threads cost little memory then.
            "MALLOC_ARENA_MAX": "2",
        }
        if settings.tape is not None:
            told["TAPE"] = str(settings.tape.absolute())
        for name in ("kafka_retention_ms", "kafka_segment_ms", "kafka_retention_check_ms"):
            value = getattr(settings, name)
            if value is not None:
                told[name.upper()] = str(value)
        path = f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, **told, "PATH": path}

    def description(self, programs: list[Program], layout: Layout) -> dict[str, object]:
        """What `candlewire status` reads; the fixed part of contract.md's shape."""
        settings = self.checked.settings
        return {
            "source": self.source.name,
            "symbols": settings.symbols.split(","),
            "urls": {
                "web": f"http://127.0.0.1:{settings.port}",
                "stream": f"ws://127.0.0.1:{settings.stream_port}",
                "exchange_ws": self.source.ws_url,
                "exchange_rest": self.source.rest_url,
            },
            "database_url": self.addresses.database_url,
            "analyst_database_url": self.addresses.analyst_database_url,
            "kafka_bootstrap_servers": self.addresses.kafka_bootstrap_servers,
            "celery_broker_url": self.addresses.celery_broker_url,
            "ports": dict(self.ports),
            "rooms": [
                {"name": program.name, "health_url": program.health_url, "log": str(layout.log(program.name))}
                for program in programs
            ],
        }
