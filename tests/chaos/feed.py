"""F7: what an exchange does to its listeners, ordered of exchange_sim."""

from __future__ import annotations

from typing import Any

from runtime.clock import sleep_s
from tests.chaos.rig import Rig
from tests.chaos.scenario import Kind, Scenario, Violation
from tests.stack_process import wait_for

CATCH_UP_DEADLINE_S = 60.0
#: Back-off of the producer is drawn up to 30 s.
BACK_MAX_S = 45.0
SILENCE_NOTICED_MAX_S = 5.0
LETTERS_MAX_S = 20.0
COUNT_DEADLINE_S = 30.0
DOSES = 5
HOUR_MS = 3_600_000
#: The exchange cuts at this age of a connection what it cuts after 24 h otherwise.
LIFETIME_MS = 120_000


def ordered(name: str, fault: str, lasts_s: float = 5.0, **bounds: Any) -> Kind:
    """The fault for a while, then the line catches up."""

    def apply(rig: Rig) -> float:
        rig.sim_fault(fault, duration_ms=int(lasts_s * 1000), **bounds)
        sleep_s(lasts_s)
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind(name, DOSES, apply, BACK_MAX_S, lasts_s + 10)


def refused(lasts_s: float) -> Kind:
    """All connections are cut and new ones refused for so long."""

    def apply(rig: Rig) -> float:
        rig.sim_fault("refuse", duration_ms=int(lasts_s * 1000), status=503)
        rig.sim_fault("cut")
        sleep_s(lasts_s)
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind("cut and refused", DOSES, apply, BACK_MAX_S, lasts_s + 15)


def silent(lasts_s: float) -> Kind:
    """Connected, but nothing comes: noticed in time."""

    def apply(rig: Rig) -> float:
        before = rig.metric("producer", "ingest_outages_total")
        rig.sim_fault("stall", duration_ms=int(lasts_s * 1000))

        def noticed() -> bool:
            count = rig.metric("producer", "ingest_outages_total") - before
            return count > 0 or rig.metric("producer", "ingest_open_outages") > 0

        noticed_s = rig.seconds_until("silence to be noticed", noticed, lasts_s)
        if noticed_s > SILENCE_NOTICED_MAX_S:
            raise Violation(f"silence noticed after {noticed_s:.1f} s")
        sleep_s(lasts_s - noticed_s)
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind("silent stall", DOSES, apply, BACK_MAX_S, lasts_s + 15)


def bad_frames(fault: str, count: int) -> Kind:
    """Frames that cannot be used become dead letters."""

    def apply(rig: Rig) -> float:
        before = wait_for("a count", lambda: rig.rows("select count(*) from dead_letter"), COUNT_DEADLINE_S)[0][0]
        # Not every stream names its symbol.
        rig.sim_fault(fault, count=count, stream="@kline_1s")

        def kept() -> bool:
            [(now,)] = rig.rows("select count(*) from dead_letter") or [(0,)]
            return bool(now >= before + count)

        if rig.seconds_until("the dead letters", kept, LETTERS_MAX_S) > LETTERS_MAX_S:
            raise Violation(f"fewer than {count} dead letters {LETTERS_MAX_S:.0f} s after {fault}")
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind(fault, DOSES, apply, BACK_MAX_S, 10.0)


KINDS = (
    ordered("drop without close", "cut"),
    ordered("serverShutdown", "server_shutdown"),
    refused(10.0),
    silent(12.0),
    ordered("duplicate", "duplicate", count=200),
    ordered("reordered", "reorder", count=200),
    ordered("corrected closed bar", "corrected_kline", count=20, stream="@kline_1s"),
    ordered("closed bar dropped", "drop_kline", count=5, stream="@kline_1s"),
    bad_frames("bad_json", 5),
    bad_frames("unknown_symbol", 5),
    ordered("1.5 MB frame", "oversized", count=3),
    ordered("clock +5 s", "clock_skew", skew_ms=5_000),
    ordered("clock -5 s", "clock_skew", skew_ms=-5_000),
    ordered("clock +1 h", "clock_skew", skew_ms=HOUR_MS),
    ordered("clock -1 h", "clock_skew", skew_ms=-HOUR_MS),
)


def f7() -> Scenario:
    """Each five times; connections are cut by age meanwhile, and more than 5 control messages a second too."""
    variables = {"SIM_CONNECTION_LIFETIME_MS": str(LIFETIME_MS), "SIM_LIMITS": "true"}
    return Scenario("F7", "faults of the feed", KINDS, variables)
