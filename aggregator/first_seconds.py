"""The seconds before our first one, for the 1 s chart of a new symbol: from the exchange, source `rest` or `trades`.

They end where our own rows begin, without a hole, so the account of every second simply starts earlier. Only for
symbols whose first row is young: what retention has dropped stays dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from aggregator.exchange_seconds import ExchangeSeconds
from aggregator.repair_store import ensure_days, store_seconds
from market.errors import BadFrame
from market.interval import SECOND_MS
from market.kline import Kline, Source
from runtime.clock import Clock
from runtime.database import Connection, TupleRow
from runtime.exchange_rest import MAX_KLINE_ROWS, ExchangeRest, RestRefused
from runtime.logs import get_logger

#: Followed symbols whose oldest row came over the stream within the last hour, with the time of that row.
BEGUN = """
select m.symbol, first.open_time
from market_symbol m
join symbol_watermark w on w.symbol = m.symbol and w.stream = 'kline_1s'
cross join lateral (
    select k.open_time, k.source from kline_1s k where k.symbol = m.symbol order by k.open_time limit 1
) first
where m.is_followed and first.source = 'stream' and first.open_time > w.event_time - interval '1 hour'
  and m.symbol <> all(%s::text[])
order by m.rank limit 1
"""
log = get_logger(__name__)


class FirstSeconds:
    """Loads one symbol at a time; each is asked for once in the life of the process."""

    def __init__(self, rest: ExchangeRest, clock: Clock, seconds: int = MAX_KLINE_ROWS) -> None:
        self._exchange = ExchangeSeconds(rest, clock)
        self._clock = clock
        self._seconds = seconds
        self._asked: set[str] = set()

    def load_until(self, connection: Connection[TupleRow], end_s: float) -> None:
        """Symbols until none is left or the monotonic clock passes `end_s`. Raises RestUnavailable."""
        while self._clock.monotonic_s() < end_s and self._next_symbol(connection):
            pass

    def _next_symbol(self, connection: Connection[TupleRow]) -> bool:
        row = connection.execute(BEGUN, [list(self._asked)]).fetchone() if self._seconds else None
        connection.commit()
        if row is None:
            return False
        symbol, first = row[0], _ms(row[1])
        klines, source = self._before(symbol, first)
        if klines:
            ensure_days(connection, [kline.open_time_ms for kline in klines])
            with connection.transaction():
                store_seconds(connection, symbol, klines, source)
        self._asked.add(symbol)
        log.info("first_seconds_loaded", symbol=symbol, seconds=len(klines), source=source.value)
        return True

    def _before(self, symbol: str, first_ms: int) -> tuple[list[Kline], Source]:
        """The seconds that lead up to the first, back to the first hole or as many as wanted; newest part first, all
        in memory, so that a kill cannot leave half of them."""
        klines: list[Kline] = []
        source = Source.REST
        while len(klines) < self._seconds:
            end_ms = first_ms - len(klines) * SECOND_MS
            start_ms = end_ms - min(MAX_KLINE_ROWS, self._seconds - len(klines)) * SECOND_MS
            try:
                answer = self._exchange.ask(symbol, start_ms, end_ms)
            except (RestRefused, BadFrame) as error:
                log.warning("first_seconds_refused", symbol=symbol, error=str(error))
                break
            source, part = answer.source, unbroken_before(answer.klines, end_ms)
            klines = part + klines
            if len(part) * SECOND_MS < end_ms - start_ms:
                break
        return klines, source


def unbroken_before(klines: Sequence[Kline], end_ms: int) -> list[Kline]:
    """The klines that lead up to `end_ms` second by second, oldest first; what lies before a hole is left out."""
    unbroken: list[Kline] = []
    for kline in sorted(klines, key=lambda k: k.open_time_ms, reverse=True):
        if kline.open_time_ms != end_ms - SECOND_MS * (len(unbroken) + 1):
            break
        unbroken.append(kline)
    return unbroken[::-1]


def _ms(time: datetime) -> int:
    return int(time.timestamp()) * 1000
