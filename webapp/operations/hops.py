"""Percentiles of the last minutes from histograms that only ever grow."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, get_args

from webapp.operations.scrape import Scrape
from webapp.operations.snapshot import Hop, HopRow

HOPS: Final[tuple[Hop, ...]] = get_args(Hop)
#: Rounds that the percentiles look back over: five minutes at 5 s.
WINDOW_ROUNDS: Final = 60

#: Room and histogram of the hops that the inserter does not measure.
ELSEWHERE: Final[dict[Hop, tuple[str, str]]] = {
    "kafka_to_relayed": ("flask_stream", "relay_delivery_seconds_bucket"),
    "relayed_to_painted": ("webapp", "page_painted_seconds_bucket"),
}
#: Cumulative counts by the upper bound of each bucket, in seconds, ascending; the last is infinite.
Buckets = list[tuple[float, float]]


def buckets_of(scrapes: Mapping[str, Scrape]) -> dict[Hop, Buckets]:
    """The histogram of each hop, of those whose room answers."""
    found: dict[Hop, Buckets] = {}
    for hop in HOPS:
        room, name = ELSEWHERE.get(hop, ("inserter", "line_hop_seconds_bucket"))
        scrape = scrapes.get(room)
        if scrape is None:
            continue
        labels = {} if hop in ELSEWHERE else {"hop": hop}
        buckets = sorted((float(sample.labels["le"]), sample.value) for sample in scrape.of(name, **labels))
        if buckets:
            found[hop] = buckets
    return found


class HopWindow:
    """The histograms of the last WINDOW_ROUNDS rounds."""

    def __init__(self) -> None:
        self._rounds: dict[Hop, deque[Buckets]] = {hop: deque(maxlen=WINDOW_ROUNDS) for hop in HOPS}

    def rows(self, scrapes: Mapping[str, Scrape]) -> list[HopRow]:
        """Take in this round; percentiles of what came since the oldest that is held."""
        found = buckets_of(scrapes)
        return [self._row(hop, found.get(hop)) for hop in HOPS]

    def _row(self, hop: Hop, buckets: Buckets | None) -> HopRow:
        held = self._rounds[hop]
        if buckets is None:
            return HopRow(hop=hop)
        if held and (held[-1][-1][1] > buckets[-1][1] or len(held[-1]) != len(buckets)):
            # The room has been started anew: its counts begin at zero.
            held.clear()
        since = grown(held[0], buckets) if held else buckets
        held.append(buckets)
        p50, p95, p99 = (quantile_ms(since, share) for share in (0.5, 0.95, 0.99))
        return HopRow(hop=hop, p50_ms=p50, p95_ms=p95, p99_ms=p99)


def grown(before: Buckets, now: Buckets) -> Buckets:
    """What was counted between two readings of one histogram."""
    return [(bound, count - earlier) for (bound, count), (_, earlier) in zip(now, before, strict=True)]


def quantile_ms(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """The quantile in ms, evenly spread inside its bucket; beyond the last finite bound that bound. None when empty."""
    total = buckets[-1][1] if buckets else 0
    if total <= 0:
        return None
    wanted, below, lower_s = share * total, 0.0, 0.0
    for upper_s, count in buckets:
        if count >= wanted:
            if math.isinf(upper_s) or count == below:
                return round(lower_s * 1000, 3)
            return round((lower_s + (upper_s - lower_s) * (wanted - below) / (count - below)) * 1000, 3)
        below, lower_s = count, upper_s
    return round(lower_s * 1000, 3)
