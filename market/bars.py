"""Candles of every interval out of one symbol's seconds, as a stream: what is over comes out, little is held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from market.interval import STORED_INTERVALS, Interval
from market.kline import Candle, Kline
from market.rollup import roll_up

_PARENT_OF: Final = dict(pairwise(STORED_INTERVALS))


class BarStream:
    """Takes minutes in order of time; holds the children of the bars that still form."""

    def __init__(self) -> None:
        self._children: dict[Interval, list[Candle]] = {interval: [] for interval in _PARENT_OF.values()}

    def minute(self, seconds: Sequence[Kline], *, is_over: bool) -> Iterator[Candle]:
        """The minute's candle from its seconds (at least one), and the longer bars that ended before it.

        `is_over`: the minute is closed even where its last seconds are missing.
        """
        candle = roll_up(seconds, Interval.M1)
        yield from self._give(closed(candle) if is_over else candle)

    def finish(self) -> Iterator[Candle]:
        """The longer bars that still form, as far as they are covered."""
        for interval in _PARENT_OF.values():
            children, self._children[interval] = self._children[interval], []
            if children:
                yield from self._give(roll_up(children, interval))

    def _give(self, candle: Candle) -> Iterator[Candle]:
        yield candle
        parent = _PARENT_OF.get(candle.interval)
        if parent is None:
            return
        children = self._children[parent]
        if children and parent.floor(children[0].open_time_ms) != parent.floor(candle.open_time_ms):
            self._children[parent] = []
            yield from self._give(closed(roll_up(children, parent)))
        self._children[parent].append(candle)


def closed(candle: Candle) -> Candle:
    """The candle of a bar that is over, although its last seconds may be missing."""
    return msgspec.structs.replace(candle, covered_until_ms=candle.close_time_ms + 1, is_closed=True)
