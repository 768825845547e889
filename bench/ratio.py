"""One figure of ours against a reference measured in the same run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """`ours` against `reference`, both in `unit`.

    `limit` is the worst ratio that counts as good: the least one when `higher_is_better`, else the largest; None when
    nothing is promised. `note` says how it was measured.
    """

    name: str
    ours: float
    reference: float
    unit: str
    higher_is_better: bool
    limit: float | None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours divided by the reference; infinite when the reference is zero."""
        return self.ours / self.reference if self.reference else float("inf")

    @property
    def is_good(self) -> bool:
        """True when the limit is kept, or there is none."""
        if self.limit is None:
            return True
        return self.ratio >= self.limit if self.higher_is_better else self.ratio <= self.limit

    @property
    def verdict(self) -> str:
        """The limit in words, and whether it is kept."""
        if self.limit is None:
            return "-"
        sign = ">=" if self.higher_is_better else "<="
        return f"{sign} {self.limit:g} {'kept' if self.is_good else 'BROKEN'}"


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values were measured")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
