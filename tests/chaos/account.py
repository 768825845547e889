"""The account that every line must be able to give: each second a row or a gap, each candle recomputed.

Anomaly names after Jepsen (reliability.md 2): lost, duplicate, phantom, skewed aggregate, unflagged gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import psycopg

from exchange_sim import wire
from exchange_sim.klines import bar, bars
from exchange_sim.market import SeededMarket
from exchange_sim.rest import Ask, Rest
from exchange_sim.rest_params import Query
from exchange_sim.symbols import SymbolSpec
from market.binance_codec import decode_event, decode_rest_klines
from market.interval import SECOND_MS, Interval
from market.kline import VALUE_COLUMNS, Kline, differing_columns
from market.rollup import roll_up
from runtime.clock import Clock

REST_ROWS = 1000
#: The newest minutes of a symbol may wait for their roll-up; an older one that does was forgotten.
MARKED_MAX = 2
HISTORY_DAYS = 12


class Truth(Protocol):
    """What the exchange itself says: its REST, or the same answers made in this process."""

    def get(self, endpoint: str, query: dict[str, str | int]) -> bytes:
        """Body of GET /api/v3/`endpoint`."""
        ...


class MarketTruth:
    """The seeded market's own answers, not asked of its busy server: they are a pure function of seed and time."""

    def __init__(self, seed: int, listed: Sequence[SymbolSpec], clock: Clock) -> None:
        self._market = SeededMarket(seed, listed, clock.now_ms, HISTORY_DAYS)
        self._rest = Rest(self._market, 1, partial(bars, self._market))
        self._clock = clock

    def get(self, endpoint: str, query: dict[str, str | int]) -> bytes:
        """Body of GET /api/v3/klines."""
        assert endpoint == "klines"
        values = {name: str(value) for name, value in query.items()}
        return self._rest.klines(Ask(Query(values, self._market.symbols), self._clock.now_ms(), 1))

    def second(self, symbol: str, open_ms: int) -> Kline:
        """The kline of one second as the stream has it, trade ids included."""
        spec = self._market.symbols[symbol]
        made = bar(self._market, spec, (open_ms, open_ms + SECOND_MS), open_ms + SECOND_MS)
        assert made is not None
        payload = wire.kline_event(spec, "1s", made, (open_ms + SECOND_MS + 2, True, 1))
        kline = decode_event(f"{symbol.lower()}@kline_1s", payload, self._clock.now_ms())
        assert isinstance(kline, Kline)
        return kline


@dataclass
class Account:
    """What was found; every list empty means that the ledger is exact."""

    symbols: int = 0
    rows: int = 0
    gap_seconds: int = 0
    minutes: int = 0
    unflagged: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    skewed: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Seconds up to the watermark that are no rows, listed as gaps or not."""
        return self.gap_seconds + len(self.unflagged)

    @property
    def is_exact(self) -> bool:
        """Nothing wrong was found, and something was looked at."""
        return self.rows > 0 and not (self.unflagged or self.double or self.skewed or self.phantom)

    def __str__(self) -> str:
        counts = f"{self.symbols} symbols, {self.rows} rows, {self.gap_seconds} s in gaps, {self.minutes} minutes"
        bad = {name: getattr(self, name) for name in ("unflagged", "double", "skewed", "phantom")}
        found = {name: [*items[:5], f"... {len(items)} in all"] for name, items in bad.items() if items}
        return f"{counts}; {'exact' if self.is_exact else found}"


def to_kline(row: dict[str, Any]) -> Kline:
    """A row of kline_1s as the type of market/."""
    open_time_ms = int(row["open_time"].timestamp() * 1000)
    return Kline(
        symbol=row["symbol"],
        interval=Interval.S1,
        open_time_ms=open_time_ms,
        close_time_ms=open_time_ms + SECOND_MS - 1,
        first_trade_id=row["first_trade_id"],
        last_trade_id=row["last_trade_id"],
        is_closed=True,
        event_time_ms=int(row["event_time"].timestamp() * 1000),
        **{name: row[name] for name in VALUE_COLUMNS},
    )


def take_account(connection: psycopg.Connection[Any], rest: Truth | None = None) -> Account:
    """Go through every symbol of the database. With `rest`, each row is also compared with the exchange's."""
    account = Account()
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    marks = cursor.execute("select symbol, event_time from symbol_watermark where stream = 'kline_1s'").fetchall()
    for mark in marks:
        symbol, end_ms = mark["symbol"], int(mark["event_time"].timestamp() * 1000)
        account.symbols += 1
        rows = cursor.execute("select * from kline_1s where symbol = %s order by open_time", [symbol]).fetchall()
        klines = {kline.open_time_ms: kline for kline in map(to_kline, rows)}
        account.rows += len(klines)
        if not klines:
            account.unflagged.append(f"{symbol}: a watermark without rows")
            continue
        _check_seconds(cursor, account, symbol, klines, end_ms)
        _check_minutes(cursor, account, symbol, klines)
        if rest is not None:
            _check_values(rest, account, symbol, klines)
    return account


def _check_seconds(cursor: Any, account: Account, symbol: str, klines: dict[int, Kline], end_ms: int) -> None:
    """Each second from the first row to the watermark: a row, or in exactly one gap that is still open."""
    listed: set[int] = set()
    gaps = cursor.execute(
        "select from_time, to_time from kline_gap where symbol = %s and interval = '1s' and state <> 'repaired'",
        [symbol],
    ).fetchall()
    for gap in gaps:
        seconds = range(int(gap["from_time"].timestamp() * 1000), int(gap["to_time"].timestamp() * 1000), SECOND_MS)
        account.double += [f"{symbol} {s}: in two gaps" for s in seconds if s in listed]
        account.double += [f"{symbol} {s}: a row and in a gap" for s in seconds if s in klines]
        listed.update(seconds)
    account.gap_seconds += len(listed)
    account.unflagged += [
        f"{symbol} {second}"
        for second in range(min(klines), end_ms, SECOND_MS)
        if second not in klines and second not in listed
    ]
    account.phantom += [f"{symbol} {second}: past the watermark" for second in klines if second >= end_ms]


def _check_minutes(cursor: Any, account: Account, symbol: str, klines: dict[int, Kline]) -> None:
    """Each closed 1m candle from seconds equals its recomputation; each full minute of rows has its candle."""
    candles = cursor.execute(
        "select * from aggregated_kline where symbol = %s and interval = '1m' and source = 'seconds' and is_closed",
        [symbol],
    ).fetchall()
    # Of this same snapshot: what has just come and no roll-up has seen yet is promised by the mark.
    dirty = cursor.execute("select open_time from dirty_minute where symbol = %s", [symbol]).fetchall()
    by_minute: dict[int, list[Kline]] = {}
    for kline in klines.values():
        by_minute.setdefault(Interval.M1.floor(kline.open_time_ms), []).append(kline)
    newest = sorted(by_minute)[-MARKED_MAX:]
    marked = {int(row["open_time"].timestamp() * 1000) for row in dirty}.intersection(newest)
    for row in candles:
        minute_ms = int(row["open_time"].timestamp() * 1000)
        if minute_ms in marked:
            continue
        account.minutes += 1
        parts = by_minute.get(minute_ms)
        if parts is None:
            account.phantom.append(f"{symbol} minute {minute_ms}: no second of it is stored")
            continue
        wanted = roll_up(parts, Interval.M1)
        differing = [name for name in VALUE_COLUMNS if row[name] != getattr(wanted, name)]
        if differing or (row["row_count"], row["is_complete"]) != (wanted.row_count, wanted.is_complete):
            account.skewed.append(
                f"{symbol} minute {minute_ms}: {differing} rows {row['row_count']}/{wanted.row_count}"
            )
    stored = marked | {int(row["open_time"].timestamp() * 1000) for row in candles}
    full = [minute for minute, parts in by_minute.items() if len(parts) == 60 and minute not in stored]
    account.skewed += [f"{symbol} minute {minute}: complete but not rolled up" for minute in full]


def _check_values(rest: Truth, account: Account, symbol: str, klines: dict[int, Kline]) -> None:
    """Each stored second equals the exchange's own answer."""
    times = sorted(klines)
    for start in range(0, len(times), REST_ROWS):
        part = times[start : start + REST_ROWS]
        query: dict[str, str | int] = {
            "symbol": symbol, "interval": "1s", "startTime": part[0], "endTime": part[-1], "limit": REST_ROWS,
        }  # fmt: skip
        body = rest.get("klines", query)
        truth = {k.open_time_ms: k for k in decode_rest_klines(body, symbol, Interval.S1, 2**52)}
        for open_time_ms in part:
            theirs = truth.get(open_time_ms)
            if theirs is None:
                if open_time_ms in range(part[0], part[0] + REST_ROWS * SECOND_MS):
                    account.phantom.append(f"{symbol} {open_time_ms}: the exchange has no such second")
            elif columns := differing_columns(klines[open_time_ms], theirs):
                account.skewed.append(f"{symbol} {open_time_ms}: {columns}")
