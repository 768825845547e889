"""REST answers: views of the same trade log and order book that the streams show (binance.md 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from exchange_sim import exchange_info, wire
from exchange_sim.klines import bar, next_open, open_of, opens_between
from exchange_sim.rest_params import Query, RestError
from exchange_sim.statistics import Best, day_statistics, texts
from exchange_sim.symbols import SymbolSpec, text8
from exchange_sim.trades import Bar, TradeLog, Trades, aggregates

DAY_MS: Final = 86_400_000
AGGREGATE_SPAN_MS: Final = 3_600_000
#: What klines.bars gives of the log: symbol, edges in ms, only trades before this time.
Bars = Callable[[SymbolSpec, list[int], int], list[Bar]]


class Ask(NamedTuple):
    """One request: its parameters, the exchange's time, and 1 or 1000 for ms or microseconds."""

    query: Query
    now_ms: int
    unit: int


class Rest:
    """Answers of all endpoints as bytes. Safe to call in a thread."""

    def __init__(self, log: TradeLog, weight_per_minute: int, bars: Bars) -> None:
        self._log = log
        self._bars = bars
        self._weight_per_minute = weight_per_minute

    def ping(self, ask: Ask) -> bytes:
        """GET ping."""
        return b"{}"

    def time(self, ask: Ask) -> bytes:
        """GET time."""
        return _json({"serverTime": ask.now_ms * ask.unit})

    def exchange_info(self, ask: Ask, statuses: Mapping[str, str]) -> bytes:
        """GET exchangeInfo. `statuses`: of every symbol asked for."""
        specs, _ = ask.query.symbols()
        return _json(exchange_info.document(specs, statuses, ask.now_ms * ask.unit, self._weight_per_minute))

    def klines(self, ask: Ask) -> bytes:
        """GET klines: the last row may still be forming."""
        query = ask.query
        spec, interval = query.symbol(), query.interval()
        zone_ms, limit = query.zone_ms(), query.limit(500, 1000)
        start, end = query.span_ms()
        oldest, now = self._log.oldest_ms, ask.now_ms
        last = min(now if end is None else end, now)
        if start is None:
            first = open_of(interval, last, zone_ms)
            for _ in range(limit - 1):
                if first <= oldest:
                    break
                first = open_of(interval, first - 1, zone_ms)
        else:
            first = start
        opens = opens_between(interval, max(first, oldest), last, limit, zone_ms)
        if not opens:
            return b"[]"
        edges = [*opens, next_open(interval, opens[-1], zone_ms)]
        made = self._bars(spec, edges, now + 1)
        return _json([wire.kline_row(spec, row, ask.unit) for row in made])

    def trades(self, ask: Ask) -> bytes:
        """GET trades: the most recent ones."""
        spec, limit = ask.query.symbol(), ask.query.limit(500, 1000)
        last = self._log.last_before(spec, ask.now_ms + 1)
        if last is None:
            return b"[]"
        return self._trades_from(spec, max(0, last.first_id - limit + 1), limit, ask)

    def historical_trades(self, ask: Ask) -> bytes:
        """GET historicalTrades: from fromId on, else the most recent ones."""
        spec, limit = ask.query.symbol(), ask.query.limit(500, 1000)
        from_id = ask.query.integer("fromId")
        return self.trades(ask) if from_id is None else self._trades_from(spec, from_id, limit, ask)

    def aggregate_trades(self, ask: Ask) -> bytes:
        """GET aggTrades by fromId, by time, or the most recent ones."""
        query = ask.query
        spec, limit = query.symbol(), query.limit(500, 1000)
        from_id = query.integer("fromId")
        start, end = query.span_ms()
        if from_id is not None and (start is not None or end is not None):
            raise RestError(400, -1128, "Combination of optional parameters invalid.")
        if from_id is None and start is None and end is None:
            last = self._log.last_before(spec, ask.now_ms + 1)
            if last is None:
                return b"[]"
            from_id = max(0, last.first_aggregate_id - limit + 1)
        if from_id is not None:
            runs = self._log.from_id(spec, self._floor_id(spec, from_id, aggregate=True), aggregate=True)
            rows = aggregates(_until(runs, ask.now_ms + 1))
            wanted = list(islice((row for row in rows if row[0][0] >= from_id), limit))
        else:
            last_ms = min(ask.now_ms, end if end is not None else (start or 0) + AGGREGATE_SPAN_MS)
            first_ms = start if start is not None else last_ms - AGGREGATE_SPAN_MS
            found = aggregates(self._log.slices(spec, max(first_ms, self._log.oldest_ms), last_ms + 1))
            wanted = list(islice(found, limit)) if start is not None else list(found)[-limit:]
        return _json([wire.aggregate_object(spec, row, ids, ask.unit) for row, ids in wanted])

    def price(self, ask: Ask) -> bytes:
        """GET ticker/price."""
        specs, single = ask.query.symbols()
        rows: list[dict[str, object]] = []
        for spec in specs:
            last = self._log.last_before(spec, ask.now_ms + 1)
            if last is not None:
                rows.append({"symbol": spec.name, "price": text8(int(last.price[0]) * spec.price_unit)})
        return _json(rows[0] if single and rows else rows)

    def day(self, ask: Ask, best: dict[str, Best | None]) -> bytes:
        """GET ticker/24hr. `best`: best levels of the symbols whose book is at hand."""
        specs, single = ask.query.symbols()
        rows: list[dict[str, object]] = []
        for spec in specs:
            stats = self._day_bar(spec, ask.now_ms)
            if stats is None:
                continue
            day = day_statistics(self._log, spec, stats, best.get(spec.name))
            rows.append(
                {
                    "symbol": spec.name,
                    **texts(spec, day),
                    "openTime": stats.open_ms * ask.unit,
                    "closeTime": stats.close_ms * ask.unit,
                    "firstId": stats.first_id,
                    "lastId": stats.last_id,
                    "count": stats.trade_count,
                }
            )
        return _json(rows[0] if single and rows else rows)

    def average_price(self, ask: Ask) -> bytes:
        """GET avgPrice: volume weighted over five minutes."""
        spec, now = ask.query.symbol(), ask.now_ms
        made = bar(self._log, spec, (now + 1 - 300_000, now + 1), now + 1)
        last = self._log.last_before(spec, now + 1)
        if made is None or last is None:
            raise RestError(400, -1121, "Invalid symbol.")
        value = made.quote * spec.price_unit // made.base if made.base else made.close * spec.price_unit
        closed_at = (last.base_ms + int(last.offset_ms[0])) * ask.unit
        return _json({"mins": 5, "price": text8(value), "closeTime": closed_at})

    def _day_bar(self, spec: SymbolSpec, now_ms: int) -> Bar | None:
        return bar(self._log, spec, (now_ms + 1 - DAY_MS, now_ms + 1), now_ms + 1)

    def _trades_from(self, spec: SymbolSpec, from_id: int, limit: int, ask: Ask) -> bytes:
        first = self._floor_id(spec, from_id, aggregate=False)
        runs = _until(self._log.from_id(spec, first, aggregate=False), ask.now_ms + 1)
        rows = islice((row for run in runs for row in run.rows()), limit)
        return _json([wire.trade_object(spec, row, ask.unit) for row in rows])

    def _floor_id(self, spec: SymbolSpec, wished_id: int, *, aggregate: bool) -> int:
        """The wished id, or the oldest served one when that is later."""
        for run in self._log.slices(spec, self._log.oldest_ms, self._log.oldest_ms + DAY_MS):
            return max(wished_id, run.first_aggregate_id if aggregate else run.first_id)
        return wished_id


def _until(runs: Iterator[Trades], end_ms: int) -> Iterator[Trades]:
    """The runs up to the first trade at or after end_ms."""
    for run in runs:
        stop = run.index_at(end_ms)
        if stop:
            yield run.part(0, stop)
        if stop < len(run):
            return


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)
