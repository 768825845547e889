"""Back-off with full jitter and a ceiling (AWS Architecture Blog, "Exponential Backoff And Jitter").

For single calls use stamina; this is for loops that run for ever and reset on the first good message.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

#: Ceiling for our own broker and database: a room is at work within so long after they are.
ENGINE_MAX_DELAY_S: Final = 2.0
#: At a start the exchange may be starting too (the simulated one): so many tries are made as quickly.
STARTING_TRIES: Final = 10


@dataclass
class Backoff:
    """Delays that double up to a ceiling, each drawn evenly between zero (or the floor) and the current bound.

    Before the first success the first `quick_tries` of them stay under ENGINE_MAX_DELAY_S.
    """

    rng: random.Random
    first_delay_s: float = 1.0
    max_delay_s: float = 30.0
    min_delay_s: float = 0.0
    quick_tries: int = 0
    attempt: int = field(default=0, init=False)

    def next_delay_s(self) -> float:
        """How long to wait before the next try; counts the try."""
        bound_s = min(self.max_delay_s, self.first_delay_s * 2.0 ** min(self.attempt, 30))
        if self.attempt < self.quick_tries:
            bound_s = min(bound_s, ENGINE_MAX_DELAY_S)
        self.attempt += 1
        return self.rng.uniform(min(self.min_delay_s, bound_s), bound_s)

    def reset(self) -> None:
        """Call on the first good message, not on the accepted connection."""
        self.attempt = self.quick_tries = 0
