"""One seed draws a whole life: symbols, length, limits, and which faults happen when and how badly.

Each fault draws its own random numbers while it lasts, so taking one out of the plan leaves the others as they were:
that is what makes a failing plan shrinkable.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

from runtime.clock import new_random
from tests.simulation.broker import Retention

MIN_LENGTH_S, MAX_LENGTH_S = 30, 120
#: Quiet time after the last fault in which everything has to come right.
HEAL_S = 45
MAX_FAULTS = 12


class Kind(StrEnum):
    """What can go wrong. The comment says what `level` (0 to 1) means."""

    DROP = "drop frames"  # share, up to 30 %
    DUPLICATE = "duplicate frames"  # share, up to 30 %
    REORDER = "late frames"  # share, up to 30 %, up to 8 s late
    BAD_FRAME = "bad frames"  # share, up to 20 %
    CUT = "connection cut"  # at once
    UNREACHABLE = "exchange unreachable"  # while it lasts
    SILENCE = "stream silent"  # connected, nothing comes
    ROTATE = "connection replaced"  # at once
    PRODUCER_KILL = "producer killed"  # at once, back after level x 10 s
    PRODUCER_OVERLAP = "two producers"  # while it lasts
    BROKER_AWAY = "broker away"
    BROKER_FLAKY = "hand-overs fail, half of them after the fact"  # share, up to 30 %
    BROKER_TAIL = "broker loses its newest records"  # up to 20 records of each partition
    TOPIC_RECREATED = "topic deleted and made again"
    INSERTER_KILL = "inserter killed"  # at a random step
    INSERTER_STOP = "inserter stopped"
    INSERTER_ZOMBIE = "inserter paused, another one started"
    STORE_ERRORS = "store errors"  # share of operations, up to 10 %
    STORE_AWAY = "store away"
    COMMIT_LOST = "commits fail or lose their answer"  # share, up to 30 %
    CLOCK = "clock set wrong"  # up to an hour
    REST_ERRORS = "REST fails"
    REST_PARTIAL = "REST lags behind the streams"
    REST_BAD = "REST gives rows that cannot be"
    TASKS = "tasks lost, doubled, tripled"
    SLOW_CLIENTS = "clients that do not read"


#: Those that happen in one moment; all others last.
MOMENTS = frozenset(
    {Kind.CUT, Kind.ROTATE, Kind.PRODUCER_KILL, Kind.BROKER_TAIL, Kind.TOPIC_RECREATED, Kind.INSERTER_KILL}
)


@dataclass(frozen=True)
class Fault:
    """One fault from second `start_s` to `end_s` (exclusive) of the simulation."""

    kind: Kind
    start_s: int
    end_s: int
    level: float

    def __str__(self) -> str:
        return f"{self.kind.value} {self.start_s}-{self.end_s} s, level {self.level:.2f}"


@dataclass(frozen=True)
class Plan:
    """Everything that is drawn before the simulation begins."""

    seed: int
    symbols: tuple[str, ...]
    length_s: int
    with_trades: bool
    absent_share: float
    buffer_bytes: int
    batch_rows: int
    retention: Retention
    faults: tuple[Fault, ...] = field(default=())

    @property
    def total_s(self) -> int:
        """Faulty time and the quiet time after it."""
        return self.length_s + HEAL_S


def draw_plan(seed: int) -> Plan:
    """The plan of a seed. Few kinds of faults at a time, so that each can be alone or meet any other."""
    rng = rng_of(seed, "plan")
    length_s = rng.randrange(MIN_LENGTH_S, MAX_LENGTH_S)
    symbols = ("BTCUSDT", "ETHUSDT", "XRPUSDT")[: rng.choice((1, 1, 2, 2, 3))]
    with_trades = len(symbols) == 1 and rng.random() < 0.5
    kinds = [kind for kind in Kind if rng.random() < rng.choice((0.05, 0.15, 0.4))]
    faults = [fault for kind in kinds for fault in _faults_of(kind, length_s, rng)]
    rng.shuffle(faults)
    short = rng.random() < 0.3
    return Plan(
        seed=seed,
        symbols=symbols,
        length_s=length_s,
        with_trades=with_trades,
        absent_share=rng.choice((0.0, 0.0, 0.1)),
        buffer_bytes=rng.choice((8_000, 30_000, 10_000_000, 10_000_000)),
        batch_rows=rng.choice((1, 5, 50, 50, 1_000, 1_000)),
        retention=Retention(
            retention_ms=rng.choice((15_000, 30_000)) if short else 900_000,
            segment_ms=rng.choice((5_000, 20_000)) if short else 60_000,
            check_ms=rng.choice((2_000, 10_000)),
        ),
        faults=tuple(sorted(faults[:MAX_FAULTS], key=lambda fault: (fault.start_s, fault.kind))),
    )


def _faults_of(kind: Kind, length_s: int, rng: random.Random) -> list[Fault]:
    found = []
    for _ in range(rng.choice((1, 1, 2, 3)) if kind in MOMENTS else rng.choice((1, 1, 2))):
        start_s = rng.randrange(3, length_s - 5)
        lasts_s = 1 if kind in MOMENTS else rng.choice((2, 8, 20, 60))
        found.append(Fault(kind, start_s, min(length_s, start_s + lasts_s), rng.random()))
    return found


def rng_of(seed: int, part: str) -> random.Random:
    """The random numbers of one part of the simulation: independent of every other part's."""
    return new_random(int.from_bytes(f"{seed}/{part}".encode()))
