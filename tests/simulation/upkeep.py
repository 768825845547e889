"""The aggregator's tasks over the tables in memory: roll-up by market.rollup, repair by the product's pure plan.

The product does the same in SQL; the contract suite holds both to the same results.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import msgspec

from aggregator.repair_plan import Call, DueGap, next_call
from market.binance_codec import decode_rest_klines
from market.errors import BadFrame
from market.interval import CHILD_INTERVAL, MINUTE_MS, SECOND_MS, STORED_INTERVALS, Interval
from market.kline import Candle, Kline, Source, differing_columns
from market.ledger import OPEN, REPAIRED, apply_arrivals, runs
from market.rest_rows import closed_rows, missing_seconds
from market.rollup import roll_up
from tests.simulation.exchange import SymbolTruth
from tests.simulation.tables import Database, StoredRow

SETTLED_MS, ABSENT_MS = 5_000, 20_000
#: How far the exchange's REST may lag behind its streams; below what counts as absent.
REST_LAG_MAX_MS = 18_000
RollUp = Callable[[Sequence[Kline | Candle], Interval], Candle]


class Upkeep:
    """What the worker does when beat says so."""

    #: tests that plant a bug put their own in
    roll_up: RollUp = staticmethod(roll_up)

    def __init__(self, database: Database, truths: dict[str, SymbolTruth], rng: random.Random) -> None:
        self._db, self._truths, self._rng = database, truths, rng
        #: what the exchange's REST does: ok, errors, partial, bad
        self.rest_mode = "ok"
        self._attempts: dict[int, int] = {}
        self._not_before_s: dict[int, float] = {}

    def roll_up_dirty(self, *, is_killed: bool = False) -> list[Candle]:
        """All dirty minutes below the watermarks; the candles that changed. Killed: before the commit."""
        if self._db.holder is not None:
            return []
        self._db.begin(self)
        changed: list[Candle] = []
        ready = [
            (symbol, minute)
            for symbol, minute in self._db.dirty
            if minute + MINUTE_MS <= self._db.watermarks.get(symbol, 0)
        ]
        for pair in sorted(ready):
            self._db.put("dirty", self._db.dirty, pair, None)
            self._make_minute(*pair, changed)
        self._make_parents({(symbol, minute) for symbol, minute in ready}, changed)
        if is_killed:
            self._db.abandon(self)
            return []
        self._db.commit()
        return changed

    def _make_minute(self, symbol: str, minute: int, changed: list[Candle]) -> None:
        rows = self._db.rows.get(symbol, {})
        times = range(minute, minute + MINUTE_MS, SECOND_MS)
        parts = [rows[time_ms].kline for time_ms in times if time_ms in rows]
        if parts:
            made = type(self).roll_up(parts, Interval.M1)
            self._store(msgspec.structs.replace(made, covered_until_ms=minute + MINUTE_MS, is_closed=True), changed)

    def _make_parents(self, given: set[tuple[str, int]], changed: list[Candle]) -> None:
        candles = self._db.candles
        for interval in STORED_INTERVALS[1:]:
            child = CHILD_INTERVAL[interval]
            work = {(symbol, interval.floor(time_ms)) for symbol, time_ms in given}
            for symbol, open_ms in sorted(work):
                times = range(open_ms, open_ms + interval.length_ms, child.length_ms)
                parts = [candles[symbol, child, t] for t in times if (symbol, child, t) in candles]
                if parts:
                    made = type(self).roll_up(parts, interval)
                    end_ms = open_ms + interval.length_ms
                    if end_ms <= self._db.watermarks[symbol]:
                        made = msgspec.structs.replace(made, covered_until_ms=end_ms, is_closed=True)
                    self._store(made, changed)

    def _store(self, made: Candle, changed: list[Candle]) -> None:
        key = (made.symbol, made.interval, made.open_time_ms)
        held = self._db.candles.get(key)
        if held is not None:
            if made.row_count < held.row_count:
                return
            is_revised = held.is_closed and (differing_columns(held, made) or held.row_count != made.row_count)
            made = msgspec.structs.replace(made, revision=held.revision + bool(is_revised))
            if msgspec.structs.replace(held, event_time_ms=made.event_time_ms) == made:
                return
        self._db.put("candle", self._db.candles, key, made)
        changed.append(made)

    def repair(self, now_s: float, exchange_now_ms: int, max_calls: int = 4) -> None:
        """Fill open gaps over REST, newest first; each failure waits longer."""
        for _ in range(max_calls):
            due = [
                DueGap(gap_id, gap.symbol, gap.from_ms, gap.to_ms, gap.state, self._attempts.get(gap_id, 0))
                for gap_id, gap in self._db.gaps.items()
                if gap.state == OPEN and self._not_before_s.get(gap_id, 0.0) <= now_s
            ]
            call = next_call(due)
            if call is None or self._db.holder is not None:
                return
            later = self._fill(call, exchange_now_ms)
            for gap in call.gaps:
                if later:
                    self._attempts[gap.gap_id] = gap.attempts + 1
                self._not_before_s[gap.gap_id] = now_s + min(8.0, 2.0**gap.attempts)

    def _fill(self, call: Call, exchange_now_ms: int) -> bool:
        """One call; true when something is left for later."""
        start, end = call.from_ms - SECOND_MS, call.to_ms + SECOND_MS
        try:
            answer = decode_rest_klines(
                self._answer(call.symbol, start, end, exchange_now_ms), call.symbol, Interval.S1, exchange_now_ms
            )
            klines = closed_rows(answer, start, end, exchange_now_ms)
        except BadFrame:
            return True
        missing = missing_seconds(call.wanted_ms, klines, exchange_now_ms, settled_ms=SETTLED_MS, absent_ms=ABSENT_MS)
        wanted = set(call.wanted_ms)
        self._settle(call.symbol, [k for k in klines if k.open_time_ms in wanted], missing.absent)
        return bool(missing.later)

    def _answer(self, symbol: str, start: int, end: int, exchange_now_ms: int) -> bytes:
        """The exchange's answer to "[start, end)" as bytes, as good as `rest_mode` lets it be."""
        if self.rest_mode == "errors" and self._rng.random() < 0.7:
            raise BadFrame("the simulated exchange answers 503")
        truth = self._truths[symbol]
        seconds = [s for s in truth.between(start, end) if s.open_ms + SECOND_MS <= exchange_now_ms]
        rows = [truth.rest_row(second) for second in seconds]
        if self.rest_mode == "partial":
            lag_ms = self._rng.randrange(REST_LAG_MAX_MS)
            rows = [row for row, second in zip(rows, seconds, strict=True) if second.open_ms < exchange_now_ms - lag_ms]
        elif self.rest_mode == "bad" and rows:
            rows = _spoiled(rows, self._rng)
        return b"[" + b",".join(rows) + b"]"

    def _settle(self, symbol: str, klines: Iterable[Kline], absent_ms: Sequence[int]) -> None:
        """Rows, ledger and dirty minutes in one transaction."""
        self._db.begin(self)
        filled: list[int] = []
        for kline in klines:
            gaps = self._db.gaps_touching(symbol, kline.open_time_ms, kline.open_time_ms + SECOND_MS)
            if any(g.state == OPEN and g.from_ms <= kline.open_time_ms < g.to_ms for g in gaps):
                self._db.put_row(StoredRow(kline, Source.REST))
                filled.append(kline.open_time_ms)
        for times, state in ((filled, REPAIRED), (absent_ms, "absent")):
            for from_ms, to_ms in runs(times):
                stored = self._db.gaps_touching(symbol, from_ms, to_ms)
                seconds = list(range(from_ms, to_ms, SECOND_MS))
                self._db.write_ledger(apply_arrivals(stored, [], seconds, "rest", state))
        self._db.mark_dirty({(symbol, time_ms - time_ms % MINUTE_MS) for time_ms in filled})
        self._db.commit()


def _spoiled(rows: list[bytes], rng: random.Random) -> list[bytes]:
    """One of the things that no exchange may send."""
    index = rng.randrange(len(rows))
    kind = rng.randrange(5)
    if kind == 0:
        rows[index] = rows[index].replace(b"000,", b"123,", 1)
    elif kind == 1:
        rows.append(rows[index])
    elif kind == 2:
        rows[index] = rows[index].rsplit(b",", 1)[0] + b"]"
    elif kind == 3:
        rows[index] = rows[index].replace(b'"', b'"x', 1)
    else:
        rows.reverse()
    return rows
