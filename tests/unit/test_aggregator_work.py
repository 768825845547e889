"""What a step that cannot be done leaves behind: a reason in health, and a pause."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aggregator.publish import BrokerAway
from aggregator.settings import AggregatorSettings
from aggregator.work import Work
from market.errors import BadFrame
from runtime.clock import ManualClock
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


@pytest.mark.parametrize(("wanted", "then"), [("top:2", "BUSDT,AUSDT"), ("BUSDT,NEWUSDT", "BUSDT,NEWUSDT")])
def test_the_most_traded_are_asked_once_and_a_list_stands(
    monkeypatch: pytest.MonkeyPatch, wanted: str, then: str
) -> None:
    asked: list[str] = []

    def refresh(_connection: object, _rest: object, symbols: str) -> list[str]:
        asked.append(symbols)
        return ["BUSDT", "AUSDT"]

    monkeypatch.setattr("aggregator.work.refresh_symbols", refresh)
    monkeypatch.setattr(Work, "_connection", lambda _: None)
    monkeypatch.setenv("SYMBOLS", wanted)
    work = Work(AggregatorSettings(), Health("aggregator"), ManualClock())
    work.refresh_symbols()
    work.refresh_symbols()
    assert asked == [wanted, then]
