"""F6: every link made bad in every way of the proxy."""

from __future__ import annotations

from runtime.clock import sleep_s
from tests.chaos.proxy import KINDS, Toxic
from tests.chaos.rig import Rig
from tests.chaos.scenario import Kind, Scenario

LINKS = ("exchange", "rest", "broker", "database")
DOSE_S = 60.0
BLACK_HOLE_S = 30.0
#: A watermark moves once a second; with rows stored within 1 s it is never further away than this.
FRESH_WITHIN_S = 2.2
FRESH_AGAIN_MAX_S = 15.0
CATCH_UP_DEADLINE_S = 60.0


def link_is(link: str, kind: str, seconds: float) -> Kind:
    """The link is so for a while; rows come within a second again soon afterwards."""
    toxic: Toxic = KINDS[kind]

    def apply(rig: Rig) -> float:
        with rig.links[link].being(toxic):
            sleep_s(seconds)
        return rig.catch_up_s(CATCH_UP_DEADLINE_S, FRESH_WITHIN_S)

    return Kind(f"{link} {kind}", 1, apply, FRESH_AGAIN_MAX_S, seconds + 10)


def f6(seconds: float = DOSE_S) -> Scenario:
    """8 kinds on 4 links."""
    kinds = tuple(
        link_is(link, kind, min(seconds, BLACK_HOLE_S) if kind == "black_hole" else seconds)
        for kind in KINDS
        for link in LINKS
    )
    return Scenario("F6", "bad links to exchange, REST, broker, database", kinds)
