"""Checks on the checker: every planted bug is caught, within a bounded number of seeds, under its own name."""

from __future__ import annotations

import pytest

from tests.simulation.plan import draw_plan
from tests.simulation.planted import PLANTED
from tests.simulation.run import quietly, run_plan, shrink
from tests.simulation.violations import Anomaly
from tests.simulation.world import Classes

FIRST = 50_001


@pytest.mark.parametrize(
    ("classes", "anomalies", "max_seeds"), PLANTED, ids=[classes.__name__ for classes, _, _ in PLANTED]
)
def test_planted_bug_is_caught(classes: type[Classes], anomalies: frozenset[Anomaly], max_seeds: int) -> None:
    with quietly():
        outcomes = (run_plan(draw_plan(seed), classes) for seed in range(FIRST, FIRST + max_seeds))
        caught = next((outcome for outcome in outcomes if outcome.anomaly), None)
    assert caught is not None, f"{classes.__doc__} was not caught by {max_seeds} seeds"
    assert caught.anomaly in {anomaly.value for anomaly in anomalies}, caught


def test_a_failing_plan_is_shrunk() -> None:
    classes = PLANTED[6][0]
    with quietly():
        plan = next(p for p in map(draw_plan, range(FIRST, FIRST + 50)) if run_plan(p, classes).anomaly and p.faults)
        anomaly = run_plan(plan, classes).anomaly
        small = shrink(plan, anomaly, classes)
        assert run_plan(small, classes).anomaly == anomaly
    assert len(small.faults) <= min(2, len(plan.faults))
    assert small.length_s <= plan.length_s
