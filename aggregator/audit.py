"""Audit: our stored minutes against the exchange's own, in nine columns, and each against its 1 s rows.

`python -m aggregator.audit [--symbol S] [--from T] [--to T] [--json]`; times in ms or ISO 8601, end exclusive,
default the hour before the newest watermark. Mends nothing. Exit code 1 when something differs.
States of a minute: equal, different, not_comparable (incomplete here, or the exchange has no such row).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Final

from aggregator.publish import to_candle
from aggregator.settings import AggregatorSettings
from aggregator.sql import AS_CANDLE, VALUES_OF_PARTS
from market.audit import compare_minute
from market.errors import BadFrame
from market.interval import HOUR_MS, MINUTE_MS, Interval
from market.kline import VALUE_COLUMNS, Candle, Kline
from market.symbol import parse_symbol
from runtime.clock import SystemClock
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.exchange_rest import MAX_KLINE_ROWS, ExchangeRest, RestRefused, RestUnavailable
from runtime.settings import load
from runtime.time_text import parse_time_ms

#: Each with a connection of its own; one asks the exchange while the other one's seconds are added up.
WORKERS: Final = 2
_AT: Final = "timestamptz 'epoch' + %s * interval '1 millisecond'"
STORED: Final = f"""
select {AS_CANDLE} from aggregated_kline k where k.symbol = %s and k.interval = '1m' and k.source = 'seconds'
and k.is_closed and k.open_time >= {_AT} and k.open_time < {_AT} order by k.open_time
"""
#: Minutes that are not what their 1 s rows give, with the columns; those whose rows are partly gone are left out.
UNLIKE_SECONDS: Final = f"""
select (extract(epoch from k.open_time) * 1000)::bigint,
       array_remove(array[{", ".join(f"case when k.{name} <> bar.{name} then '{name}' end" for name in VALUE_COLUMNS)}],
                    null)
from aggregated_kline k cross join lateral (
    select count(*) as row_count, {VALUES_OF_PARTS} from kline_1s part
    where part.symbol = k.symbol and part.open_time >= k.open_time
      and part.open_time < k.open_time + interval '1 minute'
) bar
where k.symbol = %s and k.interval = '1m' and k.source = 'seconds' and k.is_closed and k.open_time >= {_AT}
  and k.open_time < {_AT} and bar.row_count >= k.row_count
  and ({", ".join(f"k.{name}" for name in VALUE_COLUMNS)})
      is distinct from ({", ".join(f"bar.{name}" for name in VALUE_COLUMNS)})
"""
NEWEST: Final = """
select symbol, (extract(epoch from event_time) * 1000)::bigint from symbol_watermark
where stream = 'kline_1s' and (%s::text is null or symbol = %s) order by symbol
"""


class Unknown(Exception):
    """The symbol has no seconds here."""


@dataclass(frozen=True)
class Minute:
    """The verdict on one minute; `columns` are those that differ, `tolerances` the named habits of the exchange that
    were let by."""

    symbol: str
    interval: str
    open_time: int
    state: str
    columns: list[str]
    tolerances: list[str]


@dataclass(frozen=True)
class Span:
    """Minutes of one symbol that one REST call covers; ms, end exclusive."""

    symbol: str
    from_ms: int
    to_ms: int


def compare(
    candles: Iterable[Candle], exchange: Sequence[Kline], unlike_seconds: Mapping[int, Sequence[str]]
) -> Iterator[Minute]:
    """Each stored candle against the exchange's row; `unlike_seconds`: columns that differ from its own seconds."""
    theirs = {kline.open_time_ms: kline for kline in exchange}
    for candle in candles:
        columns = set(unlike_seconds.get(candle.open_time_ms, ()))
        tolerances: tuple[str, ...] = ()
        kline = theirs.get(candle.open_time_ms) if candle.is_complete else None
        if kline is not None:
            comparison = compare_minute(candle, kline)
            columns |= comparison.differences.keys()
            tolerances = comparison.tolerances
        state = "different" if columns else "equal" if kline is not None else "not_comparable"
        yield Minute(candle.symbol, "1m", candle.open_time_ms, state, sorted(columns), list(tolerances))


def audit(
    open_connection: Callable[[], Connection[TupleRow]], rest: ExchangeRest, spans: Sequence[Span]
) -> list[Minute]:
    """Verdicts on the minutes of the spans, by symbol and time, with WORKERS connections. Raises RestUnavailable."""
    with ThreadPoolExecutor(WORKERS) as pool:
        shares = pool.map(
            lambda worker: _audit_share(open_connection, rest, spans[worker::WORKERS]),
            range(WORKERS),
        )
        return sorted(chain.from_iterable(shares), key=lambda minute: (minute.symbol, minute.open_time))


def _audit_share(
    open_connection: Callable[[], Connection[TupleRow]], rest: ExchangeRest, spans: Sequence[Span]
) -> list[Minute]:
    if not spans:
        return []
    with open_connection() as connection:
        connection.execute("set jit = off")
        connection.commit()
        return [minute for span in spans for minute in _of_span(connection, rest, span)]


def _of_span(connection: Connection[TupleRow], rest: ExchangeRest, span: Span) -> Iterator[Minute]:
    bounds = [span.symbol, span.from_ms, span.to_ms]
    with connection.transaction():
        candles = [to_candle(row) for row in connection.execute(STORED, bounds).fetchall()]
        unlike: dict[int, list[str]] = dict(connection.execute(UNLIKE_SECONDS, bounds).fetchall()) if candles else {}
    return compare(candles, _of_exchange(rest, span) if candles else [], unlike)


def spans_of(symbol: str, from_ms: int, to_ms: int) -> list[Span]:
    """The range in pieces of one REST call."""
    step_ms = MAX_KLINE_ROWS * MINUTE_MS
    return [Span(symbol, start_ms, min(start_ms + step_ms, to_ms)) for start_ms in range(from_ms, to_ms, step_ms)]


def _of_exchange(rest: ExchangeRest, span: Span) -> list[Kline]:
    """The exchange's closed minutes; none for a symbol that it does not list (any more)."""
    try:
        klines = rest.klines(span.symbol, Interval.M1, span.from_ms, span.to_ms - 1)
    except RestRefused:
        return []
    return [kline for kline in klines if kline.is_closed]


def time_ms(text: str) -> int:
    """ms or ISO 8601 (UTC where no zone is given), down to the minute."""
    return Interval.M1.floor(parse_time_ms(text))


def _audit_stored(symbol: str | None, from_ms: int | None, to_ms: int | None) -> list[Minute]:
    """Verdicts on the range of one symbol or all; by default the hour before the newest watermark. Raises Unknown."""
    settings = load(AggregatorSettings)
    rest = ExchangeRest(settings.rest_urls(), SystemClock(), settings.history_weight_per_minute)
    spans: list[Span] = []
    with connect(settings.database_url, "audit") as connection:
        newest = connection.execute(NEWEST, [symbol, symbol]).fetchall()
        if symbol is not None and not newest:
            raise Unknown(f"{symbol} has no seconds here: nothing of it can be audited")
        for found, newest_ms in newest:
            end_ms = to_ms if to_ms is not None else Interval.M1.floor(newest_ms)
            spans += spans_of(found, from_ms if from_ms is not None else end_ms - HOUR_MS, end_ms)
    return audit(lambda: connect(settings.database_url, "audit"), rest, spans)


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 all equal or not comparable, 1 a difference or nobody to ask, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m aggregator.audit", description="stored minutes against REST")
    parser.add_argument("--symbol", type=parse_symbol)
    parser.add_argument("--from", dest="start", type=time_ms)
    parser.add_argument("--to", dest="end", type=time_ms)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.start is not None and options.end is not None and options.start >= options.end:
        parser.error("--to must lie after --from")
    try:
        minutes = _audit_stored(options.symbol, options.start, options.end)
    except Unknown as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (RestUnavailable, BadFrame, DatabaseError) as error:
        sys.stderr.write(f"not audited: {error}\n")
        return 1
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
