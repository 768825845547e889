"""The short form: one dose of what hurts most, on one rig, in `make test`.

An exchange that is away has a test of its own (tests/integration/test_line_exchange_away.py).
"""

from __future__ import annotations

import signal

from tests.chaos import feed
from tests.chaos.network import link_is
from tests.chaos.processes import connections_killed, engine_killed, kill_at, kill_at_random
from tests.chaos.scenario import Kind, Scenario
from tests.chaos.work import checkpoint_lost, late_bars, log_start_jumps
from tests.stack_process import SHORT_PAST

#: On a machine with all its cores busy the long form's limits would be judgements of the machine.
LIMIT_S = 90.0

KINDS = (
    kill_at("inserter", "before_commit"),
    kill_at_random("producer"),
    kill_at_random("aggregator"),
    engine_killed("kafka", signal.SIGKILL, 1),
    engine_killed("postgres", signal.SIGQUIT, 1),
    connections_killed(),
    link_is("broker", "reset", 1.0),
    link_is("database", "black_hole", 2.0),
    feed.bad_frames("bad_json", 5),
    feed.ordered("corrected closed bar", "corrected_kline", 1.0, count=5, stream="@kline_1s"),
    late_bars(),
    log_start_jumps(2.0),
    checkpoint_lost(),
)


def short() -> Scenario:
    """One dose of each."""
    kinds = tuple(Kind(kind.name, 1, kind.apply, LIMIT_S, 4.0) for kind in KINDS)
    return Scenario("SHORT", "one dose of what hurts most", kinds, SHORT_PAST, streams="kline_1s,kline_1m,trade")
