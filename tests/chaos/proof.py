"""Long absences and a long mix: gaps listed and filled, completeness whole, every minute equal, one altered found."""

from __future__ import annotations

import signal

from runtime.clock import sleep_s
from tests.chaos import feed
from tests.chaos.network import link_is
from tests.chaos.processes import (
    CATCH_UP_DEADLINE_S,
    GAP_FILLED_MAX_S,
    SHORT_RETENTION,
    broker_paused,
    connections_killed,
    engine_killed,
    gap_listed_and_filled,
    kill_at_random,
    newest_gap,
    stopped,
)  # fmt: skip
from tests.chaos.rig import Rig
from tests.chaos.scenario import Kind, Scenario, account_of, audit

CUT_S = 300.0
STOPPED_S = 150.0
MINUTE_MS = 60_000
AUDIT_DEADLINE_S = 150.0
#: An altered trade counts for the minute it was ordered in only well inside it.
EARLIEST_S, LATEST_S = 5, 45


def stream_cut(seconds: float) -> Kind:
    """No stream for so long, Kafka and REST up."""

    def apply(rig: Rig) -> float:
        last = newest_gap(rig)
        rig.sim_fault("refuse", duration_ms=int(seconds * 1000), status=503)
        rig.sim_fault("cut")
        sleep_s(seconds)
        rig.catch_up_s(CATCH_UP_DEADLINE_S)
        return gap_listed_and_filled(rig, last)

    return Kind(f"stream cut {seconds:.0f} s", 1, apply, GAP_FILLED_MAX_S, seconds + 40)


def cut() -> Scenario:
    """Stream cut with Kafka up."""
    return Scenario("CUT", "stream cut for 5 minutes", (stream_cut(CUT_S),))


def absent() -> Scenario:
    """Inserter away for longer than the log keeps."""
    kind = stopped(STOPPED_S)
    one = Kind(kind.name, 1, kind.apply, kind.limit_s, kind.about_s)
    return Scenario("ABSENT", "inserter stopped for longer than the retention", (one,), SHORT_RETENTION)


def altered_trade_is_found(rig: Rig) -> list[str]:
    """One trade (and its second) altered on the stream: the audit finds that minute, no other, and it is mended."""
    symbol = str(rig.rows("select min(symbol) from symbol_watermark where symbol like 'BTC%%'")[0][0])
    rig.seconds_until("the middle of a minute", lambda: EARLIEST_S <= rig.clock.now_ms() // 1000 % 60 <= LATEST_S, 70)
    now_ms = rig.clock.now_ms()
    minute = now_ms - now_ms % MINUTE_MS
    found_query = (
        "select distinct symbol, extract(epoch from date_trunc('minute', from_time))::bigint * 1000 from suspect_range"
        " where reason = 'audit' and found_at >= to_timestamp(%s / 1000.0)"
    )
    rig.sim_fault("altered_trade", count=1, stream=f"{symbol.lower()}@trade")
    rig.seconds_until("the audit to find it", lambda: rig.rows(found_query, now_ms), AUDIT_DEADLINE_S)
    wrong = []
    left = rig.settle()
    if left:
        wrong.append(f"altered trade: {left}")
    found = rig.rows(found_query, now_ms)
    if found != [(symbol, minute)]:
        wrong.append(f"altered trade of {symbol} in minute {minute}: the audit found {found}")
    account = account_of(rig)
    if not account.is_exact:
        wrong.append(f"after the altered trade: {account}")
    return wrong + audit(rig)


def mixed() -> Scenario:
    """What may happen in half an hour, all of it; then one altered trade."""
    light = (
        kill_at_random("inserter"), kill_at_random("producer"), kill_at_random("aggregator"), stopped(20),
        engine_killed("kafka", signal.SIGKILL, 1), engine_killed("postgres", signal.SIGQUIT, 1), broker_paused(10),
        connections_killed(), link_is("exchange", "latency", 15), link_is("broker", "reset", 10),
        link_is("database", "black_hole", 15), link_is("exchange", "down", 10), link_is("rest", "down", 10),
        *feed.KINDS,
    )  # fmt: skip
    kinds = tuple(Kind(kind.name, 3, kind.apply, 60.0, kind.about_s) for kind in light)
    return Scenario("MIXED", "everything at once, every minute audited", kinds, finally_=(altered_trade_is_found,))


def altered() -> Scenario:
    """The altered trade alone."""
    kinds = (kill_at_random("inserter"),)
    return Scenario("ALTERED", "one trade altered on the stream", kinds, finally_=(altered_trade_is_found,))
