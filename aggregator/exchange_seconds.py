"""Closed 1 s klines of the exchange for any range: from REST klines, or from trades where it offers none (binance.us).

One object asks for one system; it remembers what it has learnt of the exchange: its clock, and whether it has 1 s
klines. Times are ms UTC, ends exclusive.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from market.aggregate_trades import AggregateTrade, require_unbroken, single_trades
from market.errors import BadFrame
from market.interval import SECOND_MS, Interval
from market.kline import Kline, Source
from market.rest_rows import closed_rows
from market.trade_klines import klines_of_trades
from runtime.clock import Clock
from runtime.exchange_rest import MAX_KLINE_ROWS, WEIGHTS, ExchangeRest, RestRefused
from runtime.logs import get_logger

#: The exchange's own code for an interval that it does not know.
BAD_INTERVAL: Final = -1120
#: The exchange's clock is asked for again after so long; ours may be wrong or be set meanwhile.
CLOCK_AGE_S: Final = 30.0
#: Pages of 1,000 aggregate trades for one range. More than a busy symbol makes in 1,000 s.
MAX_TRADE_PAGES: Final = 200

log = get_logger(__name__)


@dataclass(frozen=True)
class Answer:
    """What the exchange has of a range: checked rows, oldest first, where they come from, and its time then."""

    klines: list[Kline]
    source: Source
    exchange_now_ms: int


class ExchangeSeconds:
    """Asks the exchange for seconds. Used by one thread at a time."""

    def __init__(self, rest: ExchangeRest, clock: Clock) -> None:
        self._rest = rest
        self._clock = clock
        self._has_klines = True
        self._clock_asked_s: float | None = None
        self._exchange_ms = 0

    def has_room(self) -> bool:
        """True when the weight of one more question is there."""
        return self._rest.has_room(WEIGHTS["klines"] + WEIGHTS["time"])

    def ask(self, symbol: str, from_ms: int, to_ms: int) -> Answer:
        """The rows of at most MAX_KLINE_ROWS seconds.

        Raises BadFrame for an answer that has to be refused, RestUnavailable, RestRefused (the symbol is unknown).
        """
        now_ms = self._now_ms()
        if self._has_klines:
            try:
                rows = self._rest.klines(symbol, Interval.S1, from_ms, to_ms - SECOND_MS)
                return Answer(closed_rows(rows, from_ms, to_ms, now_ms), Source.REST, now_ms)
            except RestRefused as error:
                if error.code != BAD_INTERVAL:
                    raise
                log.warning("exchange_has_no_1s_klines", detail="seconds are built from its trades")
                self._has_klines = False
        until_ms = min(to_ms, now_ms - now_ms % SECOND_MS)
        klines = self._of_trades(symbol, from_ms, until_ms) if until_ms > from_ms else []
        return Answer(klines, Source.TRADES, now_ms)

    def _now_ms(self) -> int:
        """The exchange's time, by our own steady clock since its last answer: behind by the way of that answer, never
        ahead, so that a forming row cannot pass for a closed one."""
        asked_s = self._clock_asked_s
        if asked_s is None or self._clock.monotonic_s() - asked_s > CLOCK_AGE_S:
            self._exchange_ms = self._rest.server_time_ms()
            asked_s = self._clock_asked_s = self._clock.monotonic_s()
        return self._exchange_ms + int((self._clock.monotonic_s() - asked_s) * 1000)

    def _of_trades(self, symbol: str, from_ms: int, to_ms: int) -> list[Kline]:
        """The seconds out of all trades of the range; those before the first trade ever are left out."""
        rows = self._rest.aggregate_trades(symbol, startTime=from_ms, endTime=to_ms - 1)
        pages = 1
        while rows and rows[-1].trade_time_ms < to_ms and len(rows) >= MAX_KLINE_ROWS * pages:
            if pages == MAX_TRADE_PAGES:
                raise BadFrame(f"more than {MAX_TRADE_PAGES} pages of trades in {(to_ms - from_ms) // 1000} s")
            rows += self._rest.aggregate_trades(symbol, fromId=rows[-1].aggregate_id + 1)
            pages += 1
        require_unbroken(rows, symbol)
        inside = [row for row in rows if from_ms <= row.trade_time_ms < to_ms]
        before = self._close_before(symbol, from_ms, inside)
        return klines_of_trades(symbol, single_trades(inside, symbol), from_ms, to_ms, before)

    def _close_before(self, symbol: str, from_ms: int, inside: list[AggregateTrade]) -> Decimal | None:
        """The last price before the range; not asked for when the first second has a trade."""
        if inside and inside[0].trade_time_ms < from_ms + SECOND_MS:
            return None
        if inside and inside[0].aggregate_id > 0:
            rows = self._rest.aggregate_trades(symbol, fromId=inside[0].aggregate_id - 1)
        else:
            rows = self._rest.aggregate_trades(symbol, endTime=from_ms - 1)
        earlier = [row.price for row in rows if row.trade_time_ms < from_ms]
        return earlier[-1] if earlier else None
