"""`python -m producer`: the exchange's feed to Kafka."""

from __future__ import annotations

from producer.room import run_producer
from producer.settings import ProducerSettings
from runtime import logs
from runtime.clock import SystemClock
from runtime.health import Health, serve
from runtime.lifecycle import Stop, run_service
from runtime.settings import load


def main() -> None:
    """Read the settings, serve health, run."""
    settings = load(ProducerSettings)
    logs.configure("producer", settings.log_level, as_json=settings.log_json)
    health = Health("producer")
    serve(health, settings.health_port, settings.health_host)

    async def room(stop: Stop) -> None:
        await run_producer(settings, health, SystemClock(), stop)

    run_service(room)


if __name__ == "__main__":
    main()
