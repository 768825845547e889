"""Forming bars: the aggregator's newest candle of a bar, plus the seconds it has not covered yet.

The candle is authoritative; seconds only extend it, so a bar moves every second and starts by itself when a
second crosses its boundary. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from market.interval import Interval
from market.kline import Candle, Kline, Source
from market.rollup import Accumulator, to_candle

#: `revision` of a bar that rests on seconds alone and misses its start: whatever history says wins over it.
PROVISIONAL_REVISION: Final = -1


def bar_of_second(kline: Kline) -> Candle:
    """A 1s kline in the shape of a bar."""
    return Candle(
        symbol=kline.symbol,
        interval=kline.interval,
        open_time_ms=kline.open_time_ms,
        close_time_ms=kline.close_time_ms,
        open=kline.open,
        high=kline.high,
        low=kline.low,
        close=kline.close,
        base_volume=kline.base_volume,
        quote_volume=kline.quote_volume,
        trade_count=kline.trade_count,
        taker_buy_base_volume=kline.taker_buy_base_volume,
        taker_buy_quote_volume=kline.taker_buy_quote_volume,
        first_trade_id=kline.first_trade_id,
        last_trade_id=kline.last_trade_id,
        row_count=1,
        expected_count=1,
        covered_until_ms=kline.close_time_ms + 1,
        is_complete=kline.is_closed,
        is_closed=kline.is_closed,
        source=Source.STREAM,
        revision=0,
        event_time_ms=kline.event_time_ms,
        updated_at_ms=kline.received_at_ms,
    )


class SecondsWindow:
    """The newest 1s klines of a symbol by open time, at most `max_seconds` of them."""

    def __init__(self, max_seconds: int, klines: Iterable[Kline] = ()) -> None:
        self._max_seconds = max_seconds
        self._by_open: dict[int, Kline] = {}
        for kline in klines:
            self.add(kline)

    def add(self, kline: Kline) -> bool:
        """Take a second in; false when it is a duplicate or older than everything held."""
        held = self._by_open.get(kline.open_time_ms)
        if held is not None and (held.is_closed or not kline.is_closed) and held.event_time_ms >= kline.event_time_ms:
            return False
        in_order = held is not None or not self._by_open or kline.open_time_ms > next(reversed(self._by_open))
        self._by_open[kline.open_time_ms] = kline
        if not in_order:
            self._by_open = dict(sorted(self._by_open.items()))
        if len(self._by_open) > self._max_seconds:
            oldest = next(iter(self._by_open))
            del self._by_open[oldest]
            return oldest != kline.open_time_ms
        return True

    def between(self, start_ms: int, end_ms: int) -> Iterator[Kline]:
        """Seconds with start <= open time < end, in order."""
        return (kline for kline in self._by_open.values() if start_ms <= kline.open_time_ms < end_ms)

    def newest(self, count: int) -> list[Kline]:
        """The newest `count` seconds, oldest first."""
        return list(self._by_open.values())[-count:]


class BarSeries:
    """The newest bars of one symbol and interval."""

    def __init__(self, interval: Interval, window: SecondsWindow, candles: Iterable[Candle], max_bars: int) -> None:
        self._interval = interval
        self._window = window
        self._max_bars = max_bars
        self._candles: dict[int, Candle] = {}
        self._bar_open_ms = -1
        self._total: Accumulator | None = None
        self._misses_start = False
        for candle in candles:
            self._hold(candle)
        newest = window.newest(1)
        open_times = [*self._candles, *(interval.floor(kline.open_time_ms) for kline in newest)]
        if open_times:
            self._rebuild(max(open_times))

    def on_second(self, kline: Kline) -> Candle | None:
        """The bar as it stands after this second, which the window holds already.

        None for a second of an older bar (the aggregator will revise that one) or one that its candle has.
        """
        bar_open_ms = self._interval.floor(kline.open_time_ms)
        base = self._candles.get(bar_open_ms)
        if bar_open_ms < self._bar_open_ms or (base is not None and kline.open_time_ms < base.covered_until_ms):
            return None
        if bar_open_ms == self._bar_open_ms and self._total and kline.open_time_ms >= self._total.covered_until_ms:
            self._total.add(kline)
        else:
            self._rebuild(bar_open_ms)
        return self._current()

    def on_candle(self, candle: Candle) -> Candle | None:
        """What to show after a candle of the aggregator: the candle, or the forming bar resting on it now.

        None when a newer version of the candle is held already.
        """
        if not self._hold(candle):
            return None
        if candle.open_time_ms < self._bar_open_ms:
            return candle
        self._rebuild(candle.open_time_ms)
        return self._current()

    def bars(self) -> list[Candle]:
        """The newest bars, oldest first, at most `max_bars`; bars whose candle is still to come are built
        from their seconds when these reach back to the start."""
        bars = dict(self._candles)
        for open_ms in {self._interval.floor(kline.open_time_ms) for kline in self._window.newest(10_000)}:
            total, misses_start = self._accumulate(open_ms)
            held = bars.get(open_ms)
            if total is None or (misses_start and open_ms != self._bar_open_ms):
                continue
            if held is None or held.covered_until_ms < total.covered_until_ms:
                bars[open_ms] = self._to_bar(open_ms, total, misses_start)
        return [bars[open_ms] for open_ms in sorted(bars)][-self._max_bars :]

    def _hold(self, candle: Candle) -> bool:
        held = self._candles.get(candle.open_time_ms)
        if held is not None and (held.revision, held.covered_until_ms) > (candle.revision, candle.covered_until_ms):
            return False
        self._candles[candle.open_time_ms] = candle
        if len(self._candles) > self._max_bars:
            del self._candles[min(self._candles)]
        return True

    def _rebuild(self, bar_open_ms: int) -> None:
        self._bar_open_ms = bar_open_ms
        self._total, self._misses_start = self._accumulate(bar_open_ms)

    def _accumulate(self, bar_open_ms: int) -> tuple[Accumulator | None, bool]:
        """The values of a bar and whether its start is missing."""
        base = self._candles.get(bar_open_ms)
        start_ms = base.covered_until_ms if base is not None else bar_open_ms
        total = Accumulator.starting_with(base) if base is not None else None
        misses_start = False
        for kline in self._window.between(start_ms, bar_open_ms + self._interval.length_ms):
            if total is None:
                total = Accumulator.starting_with(kline)
                misses_start = kline.open_time_ms != bar_open_ms
            else:
                total.add(kline)
        return total, misses_start

    def _current(self) -> Candle | None:
        if self._total is None:
            return None
        return self._to_bar(self._bar_open_ms, self._total, self._misses_start)

    def _to_bar(self, open_ms: int, total: Accumulator, misses_start: bool) -> Candle:
        base = self._candles.get(open_ms)
        if base is not None and base.covered_until_ms >= total.covered_until_ms:
            return base
        if base is not None:
            symbol, source, revision = base.symbol, base.source, base.revision
        else:
            symbol, source = self._window.newest(1)[0].symbol, Source.SECONDS
            revision = PROVISIONAL_REVISION if misses_start else 0
        bar = to_candle(total, symbol, self._interval, open_ms, source)
        return msgspec.structs.replace(bar, revision=revision, updated_at_ms=total.event_time_ms)
