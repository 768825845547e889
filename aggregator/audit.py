"""Audit: our stored minutes against the exchange's own, in nine columns, and each against its 1 s rows.

`python -m aggregator.audit [--symbol S] [--from T] [--to T] [--json]`; times in ms or ISO 8601, end exclusive,
default the hour before the newest watermark. Mends nothing. Exit code 1 when something differs.
States of a minute: equal, different, not_comparable (incomplete here, or the exchange has no such row).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from aggregator.publish import to_candle
from aggregator.settings import AggregatorSettings
from aggregator.sql import AS_CANDLE
from market.interval import HOUR_MS, MINUTE_MS, SECOND_MS, Interval
from market.kline import VALUE_COLUMNS, Candle, Kline, differing_columns
from market.rollup import roll_up
from runtime.clock import SystemClock
from runtime.database import Connection, TupleRow, connect
from runtime.exchange_rest import MAX_KLINE_ROWS, ExchangeRest, RestRefused
from runtime.settings import load

_AT: Final = "timestamptz 'epoch' + %s * interval '1 millisecond'"
STORED: Final = f"""
select {AS_CANDLE} from aggregated_kline k where k.symbol = %s and k.interval = '1m' and k.source = 'seconds'
and k.is_closed and k.open_time >= {_AT} and k.open_time < {_AT} order by k.open_time
"""
SECONDS: Final = f"""
select (extract(epoch from open_time) * 1000)::bigint, open, high, low, close, base_volume, quote_volume, trade_count,
       taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id
from kline_1s where symbol = %s and open_time >= {_AT} and open_time < {_AT} order by open_time
"""
NEWEST: Final = """
select symbol, (extract(epoch from event_time) * 1000)::bigint from symbol_watermark
where stream = 'kline_1s' and (%s::text is null or symbol = %s) order by symbol
"""
_SECOND_FIELDS: Final = (*VALUE_COLUMNS, "first_trade_id", "last_trade_id")


@dataclass(frozen=True)
class Minute:
    """The verdict on one minute; `columns` are those that differ."""

    symbol: str
    interval: str
    open_time: int
    state: str
    columns: list[str]


def compare(candles: Iterable[Candle], exchange: Sequence[Kline], seconds: Sequence[Kline]) -> list[Minute]:
    """Each stored candle against the exchange's row and, while its 1 s rows are kept, against their roll-up."""
    theirs = {kline.open_time_ms: kline for kline in exchange}
    by_minute: dict[int, list[Kline]] = {}
    for second in seconds:
        by_minute.setdefault(Interval.M1.floor(second.open_time_ms), []).append(second)
    verdicts = []
    for candle in candles:
        columns: set[str] = set()
        rows = by_minute.get(candle.open_time_ms, [])
        if len(rows) >= candle.row_count:
            columns |= set(differing_columns(candle, roll_up(rows, Interval.M1)))
        kline = theirs.get(candle.open_time_ms)
        if kline is not None and candle.is_complete:
            columns |= set(differing_columns(candle, kline))
        comparable = kline is not None and candle.is_complete
        state = "different" if columns else "equal" if comparable else "not_comparable"
        verdicts.append(Minute(candle.symbol, "1m", candle.open_time_ms, state, sorted(columns)))
    return verdicts


def audit(connection: Connection[TupleRow], rest: ExchangeRest, symbol: str, from_ms: int, to_ms: int) -> list[Minute]:
    """Verdicts on the minutes of one symbol. Raises RestUnavailable."""
    verdicts = []
    step_ms = MAX_KLINE_ROWS * MINUTE_MS
    for start_ms in range(from_ms, to_ms, step_ms):
        end_ms = min(start_ms + step_ms, to_ms)
        span = [symbol, start_ms, end_ms]
        candles = [to_candle(row) for row in connection.execute(STORED, span).fetchall()]
        seconds = [_second(symbol, row) for row in connection.execute(SECONDS, span).fetchall()]
        connection.commit()
        if candles:
            verdicts += compare(candles, _of_exchange(rest, symbol, start_ms, end_ms), seconds)
    return verdicts


def _of_exchange(rest: ExchangeRest, symbol: str, start_ms: int, end_ms: int) -> list[Kline]:
    """The exchange's minutes; none for a symbol that it does not list (any more)."""
    try:
        return rest.klines(symbol, Interval.M1, start_ms, end_ms - 1)
    except RestRefused:
        return []


def _second(symbol: str, row: TupleRow) -> Kline:
    open_ms, values = row[0], dict(zip(_SECOND_FIELDS, row[1:], strict=True))
    return Kline(
        symbol=symbol,
        interval=Interval.S1,
        open_time_ms=open_ms,
        close_time_ms=open_ms + SECOND_MS - 1,
        is_closed=True,
        event_time_ms=open_ms,
        **values,
    )


def _time_ms(text: str) -> int:
    """ms or ISO 8601 (UTC where no zone is given), down to the minute."""
    if text.isdigit():
        return Interval.M1.floor(int(text))
    time = datetime.fromisoformat(text)
    return Interval.M1.floor(int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000))


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 all equal or not comparable, 1 a difference, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m aggregator.audit", description="stored minutes against REST")
    parser.add_argument("--symbol")
    parser.add_argument("--from", dest="start", type=_time_ms)
    parser.add_argument("--to", dest="end", type=_time_ms)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    settings = load(AggregatorSettings)
    rest = ExchangeRest(settings.rest_urls(), SystemClock(), settings.history_weight_per_minute)
    minutes: list[Minute] = []
    with connect(settings.database_url, "audit") as connection:
        for symbol, newest_ms in connection.execute(NEWEST, [options.symbol, options.symbol]).fetchall():
            end_ms = options.end if options.end is not None else Interval.M1.floor(newest_ms)
            start_ms = options.start if options.start is not None else end_ms - HOUR_MS
            minutes += audit(connection, rest, symbol, start_ms, end_ms)
    counts = {state: sum(m.state == state for m in minutes) for state in ("equal", "different", "not_comparable")}
    if options.json:
        print(json.dumps({"compared": len(minutes), **counts, "minutes": [asdict(minute) for minute in minutes]}))
    else:
        print(f"{len(minutes)} minutes: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
        for minute in (m for m in minutes if m.state == "different"):
            print(f"{minute.symbol} {minute.open_time}: {', '.join(minute.columns)}")
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
