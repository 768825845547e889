"""What a broker keeps and what an outage costs, for any settings; an integration test asks the broker itself."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from runtime.retention import (
    FOREVER_MS,
    Flow,
    Rules,
    disk_bytes,
    expected_age_s,
    flow_of,
    formula,
    is_idle,
    oldest_age_s,
    outage_cost,
    predicted,
    segment_span_ms,
)
from runtime.topic_logs import TopicLog

MS = st.integers(min_value=1_000, max_value=7 * 86_400_000)
RULES = st.builds(Rules, MS, MS, st.integers(2**20, 2**30), MS, st.integers(0, 60_000))
RATE = st.floats(0.001, 1e6)
FLOWS = st.builds(Flow, st.integers(1, 64), RATE, RATE, st.booleans())
OUTAGE_S = st.floats(0, 1e6)
NOW_MS = 1_800_000_000_000
LINE = Rules(900_000, 60_000, 16 * 2**20, 10_000, 10_000)
BUSY = Flow(2, 20.0, 8_000.0, is_idle=False)


@given(RULES, st.integers(0, 10_000_000))
def test_the_predicted_age_is_bounded_by_the_brokers_rule(rules: Rules, age_ms: int) -> None:
    check_ms = rules.check_interval_ms
    log = TopicLog("t", 1, rules.retention_ms, rules.segment_ms, 10, NOW_MS - age_ms - 5, NOW_MS - age_ms)
    found = predicted(log, check_ms, NOW_MS)
    assert found["max"] == (rules.retention_ms + rules.segment_ms + check_ms) / 1000
    assert found["min"] == (0 if age_ms > check_ms else rules.retention_ms / 1000)
    assert is_idle(log, check_ms, NOW_MS) == (age_ms > check_ms)


@given(RULES, FLOWS)
def test_what_is_expected_lies_within_what_can_be_counted_on(rules: Rules, flow: Flow) -> None:
    bound, expected = oldest_age_s(rules, idle=flow.is_idle), expected_age_s(rules, flow)
    assert bound.least == expected.least
    assert bound.most is not None
    assert expected.most is not None
    assert expected.least <= expected.most <= bound.most
    assert 0 < segment_span_ms(rules, flow) <= rules.segment_ms


@given(RULES, FLOWS, st.integers(1, 86_400_000))
def test_more_retention_keeps_more_and_takes_more_disk(rules: Rules, flow: Flow, more_ms: int) -> None:
    longer = replace(rules, retention_ms=rules.retention_ms + more_ms)
    assert (expected_age_s(longer, flow).most or 0) > (expected_age_s(rules, flow).most or 0)
    assert (disk_bytes(longer, flow) or 0) >= (disk_bytes(rules, flow) or 0)


@given(RULES, FLOWS, OUTAGE_S, st.integers(1, 500), st.integers(20, 6000))
def test_an_outage_costs_nothing_while_it_is_shorter_than_the_retention(
    rules: Rules, flow: Flow, outage_s: float, symbols: int, budget: int
) -> None:
    cost = outage_cost(rules, flow, outage_s, symbols, budget)
    assert cost.lost_s.most is not None
    assert 0 <= cost.lost_s.least <= cost.lost_s.most <= outage_s
    assert (cost.lost_s.most == 0) == (outage_s <= rules.retention_ms / 1000)
    assert cost.lost_records is not None
    assert cost.records_behind is not None
    assert cost.lost_records.least <= (cost.lost_records.most or 0) <= cost.records_behind
    assert cost.repair is not None
    assert cost.repair.rows <= 1000 * cost.repair.calls
    assert cost.repair.rows >= math.floor(cost.lost_s.most) * symbols
    assert cost.repair.weight == 2 * cost.repair.calls
    assert cost.repair.seconds * budget == cost.repair.weight * 60 or math.isclose(
        cost.repair.seconds * budget, cost.repair.weight * 60
    )


def test_an_hour_of_a_hundred_symbols_costs_what_the_guide_says() -> None:
    cost = outage_cost(LINE, BUSY, 3600 + 900, 100, 3000)
    assert cost.lost_s.least == 3600 - 70
    assert cost.lost_s.most == 3600
    assert cost.repair is not None
    assert (cost.repair.calls, cost.repair.weight, cost.repair.seconds) == (400, 800, 16.0)
    assert outage_cost(LINE, BUSY, 4500, None, 3000).repair is None


def test_a_topic_that_never_forgets_costs_nothing_and_has_no_limit() -> None:
    forever = replace(LINE, retention_ms=FOREVER_MS)
    assert oldest_age_s(forever, idle=False).most is None
    assert disk_bytes(forever, BUSY) is None
    assert outage_cost(forever, BUSY, 1e6, 5, 3000).lost_s.most == 0
    assert "nothing is ever deleted" in formula(forever, idle=False)


def test_unknown_is_not_zero() -> None:
    log = TopicLog("t", 2, 900_000, 60_000, 0, None, None)
    flow = flow_of(log, 10_000, NOW_MS)
    assert flow == Flow(2, None, None, is_idle=True)
    assert disk_bytes(LINE, flow) is None
    cost = outage_cost(LINE, flow, 3600, 5, 3000)
    assert cost.records_behind is None
    assert cost.lost_records is None


def test_rates_come_from_what_is_held() -> None:
    log = TopicLog("t", 2, 900_000, 60_000, 1_000, NOW_MS - 100_000, NOW_MS, bytes=250_000)
    assert flow_of(log, 10_000, NOW_MS) == Flow(2, 10.0, 2_500.0, is_idle=False)


def test_the_formula_names_its_terms() -> None:
    assert formula(LINE, idle=False) == "900 s to retention 900 s + segment 60 s + check 10 s = 970 s"
