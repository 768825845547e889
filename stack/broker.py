"""Asks the broker of a stack for `candlewire topics` and `candlewire retention`."""

from __future__ import annotations

import asyncio
import sys

import typer

from market.topics import Topics
from runtime.clock import SystemClock
from runtime.kafka_client import KafkaError, load_topics
from runtime.topic_logs import BrokerLogs, read_logs
from stack.layout import Layout
from stack.status import stack_environment


def read(layout: Layout) -> tuple[Topics, BrokerLogs, int]:
    """The declared topics, what the broker holds, and when it was asked. Exit code 1 if it does not answer."""
    servers = stack_environment(layout).get("KAFKA_BOOTSTRAP_SERVERS")
    if not servers:
        sys.stderr.write("no broker: nothing was started with this DATA_DIR; KAFKA_BOOTSTRAP_SERVERS is not given\n")
        raise typer.Exit(1)
    declared = load_topics()
    try:
        found = asyncio.run(read_logs(servers, [topic.name for topic in declared.all()]))
    except (KafkaError, OSError) as error:
        sys.stderr.write(f"the broker at {servers} does not answer: {error}\n")
        raise typer.Exit(1) from None
    return declared, found, SystemClock().now_ms()
