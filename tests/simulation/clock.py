"""The clock of a simulated machine: true time passes evenly, the wall clock may be set wrong, monotonic never is."""

from __future__ import annotations

#: Where every simulation begins: a full day, so that minutes and hours begin with it.
BASE_MS = 1_790_208_000_000


class SimClock:
    """`runtime.clock.Clock` for the product; `true_ms` is what the exchange's own clock says."""

    def __init__(self) -> None:
        self.true_ms = BASE_MS
        self.wrong_by_ms = 0

    def now_ms(self) -> int:
        """The machine's wall clock."""
        return self.true_ms + self.wrong_by_ms

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return (self.true_ms - BASE_MS) / 1000

    def advance(self, by_ms: int) -> None:
        """Time passes."""
        self.true_ms += by_ms
