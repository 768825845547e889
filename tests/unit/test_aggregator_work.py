"""What a step that cannot be done leaves behind: a reason in health, and a pause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from psycopg.errors import UndefinedTable

from aggregator.publish import BrokerAway
from aggregator.settings import AggregatorSettings
from aggregator.work import Work
from market.errors import BadFrame
from runtime.clock import ManualClock
from runtime.database import OperationalError, SchemaMissing
from runtime.exchange_rest import RestRefused, RestUnavailable
from runtime.health import Health
from runtime.retry import ENGINE_MAX_DELAY_S

ERRORS = (
    RestUnavailable("no host answered"),
    RestRefused(400, -1100, "Illegal characters."),
    BadFrame("bad klines answer"),
    BrokerAway("down"),
)


def failing(error: Exception) -> Callable[[], object]:
    def step() -> object:
        raise error

    return step


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failed_step_is_seen_in_health_and_mends_itself(error: Exception) -> None:
    clock, health = ManualClock(1_000_000), Health("aggregator")
    work = Work(AggregatorSettings(), health, clock)
    work._step("kafka", failing(error))
    status, report = health.report(readiness=False)
    assert status == 503
    assert str(error) in str(report["reasons"])
    clock.advance(int(max(ENGINE_MAX_DELAY_S, getattr(error, "retry_after_s", 0.0)) * 1000) + 1)
    work._step("kafka", lambda: None)
    assert health.report(readiness=False)[0] == 200


def test_a_lost_database_is_called_so_whatever_the_step_is_for() -> None:
    clock, health = ManualClock(1_000_000), Health("aggregator")
    work = Work(AggregatorSettings(), health, clock)
    work._step("exchange", failing(OperationalError("the connection is lost")))
    _, report = health.report(readiness=False)
    assert report["reasons"] == ["database: OperationalError: the connection is lost"]
    work._step("kafka", lambda: None)
    assert health.report(readiness=False)[0] == 200


def test_before_the_migrations_it_waits_and_says_for_what() -> None:
    health = Health("aggregator")
    work = Work(AggregatorSettings(), health, ManualClock(1_000_000))
    work._step("exchange", failing(SchemaMissing()))
    _, report = health.report(readiness=False)
    assert report["reasons"] == ["database: SchemaMissing: waiting for the schema (migrations)"]


def test_a_table_that_is_missing_though_the_schema_is_there_is_an_error() -> None:
    work = Work(AggregatorSettings(), Health("aggregator"), ManualClock(1_000_000))
    with pytest.raises(UndefinedTable):
        work._step("database", failing(UndefinedTable('relation "audit_du" does not exist')))
