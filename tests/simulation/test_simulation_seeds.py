"""A thousand fresh lives of the whole line every time, and those that once went wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.plan import draw_plan
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.run import fresh_seed, quietly, run_and_report, run_plan, run_seeds

SEEDS = 1_000


# Half a minute on a free machine, ten on one that is thirty times overbooked: the limit is there for what hangs.
@pytest.mark.timeout(1_800)
def test_fresh_seeds_keep_every_promise(record_property: Callable[[str, object], None]) -> None:
    first = fresh_seed()
    report, texts = run_and_report(run_seeds(first, SEEDS))
    record_property("last_line", str(report))
    assert not texts, "\n".join([f"seeds {first} to {first + SEEDS - 1}", *texts, str(report)])
    assert report.seeds == SEEDS
    assert report.faults > SEEDS


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_seeds_that_once_failed(seed: int) -> None:
    with quietly():
        outcome = run_plan(draw_plan(seed))
    assert not outcome.anomaly, f"{outcome.anomaly}: {outcome.violation} ({REGRESSIONS[seed]})"


def test_a_seed_is_one_life() -> None:
    """The same seed gives the same plan, the same faults and the same end."""
    with quietly():
        assert draw_plan(11) == draw_plan(11)
        assert run_plan(draw_plan(11)) == run_plan(draw_plan(11))
        assert draw_plan(11) != draw_plan(12)
