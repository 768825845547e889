"""Recompute candles from their 1 s rows by the rule alone (market/rollup.py, not the roll-up's SQL) and compare.

`python -m aggregator.rebuild --from T --to T [--symbol S] [--json] [--apply]`; times in ms or ISO 8601, end exclusive.
Bars of 1m to 1d that lie whole within the range and below the watermark. Left out, and counted: bars that hold rows of
the exchange's history, and bars whose seconds retention has dropped. Exit code 1 when something differs; `--apply`
marks the minutes of what differs, and the next roll-up mends them. A candle that claims more seconds than there are
stays as it is, for a person: the roll-up never thins one out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import msgspec

from aggregator.audit import time_ms
from aggregator.publish import to_candle
from aggregator.settings import AggregatorSettings
from aggregator.sql import AS_CANDLE
from aggregator.stored_seconds import FIELDS, stored_second
from market.errors import UnknownSymbol
from market.interval import HOUR_MS, SECOND_MS, STORED_INTERVALS, Interval
from market.kline import VALUE_COLUMNS, Candle, Kline, Source
from market.rollup import roll_up
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.settings import load

#: Seconds that are held at once for one symbol.
STEP_MS: Final = HOUR_MS
_COMPARED: Final = (*VALUE_COLUMNS, "row_count", "first_trade_id", "last_trade_id", "is_complete", "is_closed")
MISSING: Final = "missing"
TOO_MANY: Final = "no_seconds"

_AT: Final = "timestamptz 'epoch' + %s * interval '1 millisecond'"
SECONDS: Final = f"""
select (extract(epoch from open_time) * 1000)::bigint, {", ".join(FIELDS)}
from kline_1s where symbol = %s and open_time >= {_AT} and open_time < {_AT} order by open_time
"""
STORED: Final = f"""
select {AS_CANDLE} from aggregated_kline k
where k.symbol = %s and k.interval = %s and k.open_time >= {_AT} and k.open_time < {_AT} order by k.open_time
"""
#: Watermark of each symbol, and its first stored second: before that retention may have dropped some.
SYMBOLS: Final = """
select w.symbol, (extract(epoch from w.event_time) * 1000)::bigint, (extract(epoch from first.open_time) * 1000)::bigint
from symbol_watermark w
cross join lateral (select open_time from kline_1s where symbol = w.symbol order by open_time limit 1) first
where w.stream = 'kline_1s' and (%s::text is null or w.symbol = %s) order by w.symbol
"""
MARK: Final = f"""
insert into dirty_minute (symbol, open_time)
select distinct symbol, date_trunc('minute', open_time) from kline_1s
where symbol = %s and open_time >= {_AT} and open_time < {_AT} order by 1, 2
on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1
"""


@dataclass(frozen=True)
class Difference:
    """A bar that is not what its seconds give. `columns`: those that differ; `missing` when there is no candle though
    there are seconds, `no_seconds` when it is the other way round."""

    symbol: str
    interval: str
    open_time: int
    columns: list[str]


@dataclass
class Report:
    """Bars compared, bars left out, and the differences."""

    compared: int = 0
    left_out: int = 0
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True)
class Span:
    """A range of one symbol; ms, end exclusive. Seconds before `first_ms` are unknown."""

    symbol: str
    from_ms: int
    to_ms: int
    first_ms: int


def rebuild(connection: Connection[TupleRow], span: Span, report: Report) -> None:
    """Compare the bars of one symbol; adds to the report. Raises what the driver raises."""
    parts: Sequence[Kline | Candle] = list(_minutes(connection, span))
    for interval in STORED_INTERVALS:
        if interval is not Interval.M1:
            parts = _roll_up(parts, interval)
        made = {part.open_time_ms: part for part in parts if isinstance(part, Candle)}
        rows = connection.execute(STORED, [span.symbol, interval.value, span.from_ms, span.to_ms]).fetchall()
        connection.commit()
        stored = {candle.open_time_ms: candle for candle in map(to_candle, rows)}
        for open_ms in sorted(made.keys() | stored.keys()):
            if not span.from_ms <= open_ms <= span.to_ms - interval.length_ms:
                continue
            _compare(span, interval, open_ms, (stored.get(open_ms), made.get(open_ms)), report)


def _compare(
    span: Span, interval: Interval, open_ms: int, bars: tuple[Candle | None, Candle | None], report: Report
) -> None:
    stored, made = bars
    if open_ms < span.first_ms - span.first_ms % SECOND_MS or (stored is not None and stored.source != Source.SECONDS):
        report.left_out += 1
        return
    report.compared += 1
    if stored is None or made is None:
        columns = [MISSING if stored is None else TOO_MANY]
    else:
        columns = [name for name in _COMPARED if getattr(stored, name) != getattr(made, name)]
    if columns:
        report.differences.append(Difference(span.symbol, interval.value, open_ms, columns))


def _minutes(connection: Connection[TupleRow], span: Span) -> Iterator[Candle]:
    """1m candles by the rule, an hour of seconds at a time. Below the watermark a minute is closed."""
    for start_ms in range(span.from_ms, span.to_ms, STEP_MS):
        bounds = [span.symbol, start_ms, min(start_ms + STEP_MS, span.to_ms)]
        seconds = [stored_second(span.symbol, row) for row in connection.execute(SECONDS, bounds).fetchall()]
        connection.commit()
        yield from _roll_up(seconds, Interval.M1)


def _roll_up(parts: Sequence[Kline | Candle], interval: Interval) -> list[Candle]:
    """Bars of `interval`, each to its end: what follows the last part of a bar below the watermark is missing."""
    bars: dict[int, list[Kline | Candle]] = {}
    for part in parts:
        bars.setdefault(interval.floor(part.open_time_ms), []).append(part)
    return [_closed(roll_up(bar, interval)) for bar in bars.values()]


def _closed(candle: Candle) -> Candle:
    return msgspec.structs.replace(candle, is_closed=True, covered_until_ms=candle.close_time_ms + 1)


def apply(connection: Connection[TupleRow], differences: Sequence[Difference]) -> int:
    """Mark the minutes of what differs for the roll-up; returns how many bars were marked."""
    with connection.transaction():
        for found in differences:
            end_ms = found.open_time + Interval(found.interval).length_ms
            connection.execute(MARK, [found.symbol, found.open_time, end_ms])
    return len(differences)


def _rebuild_stored(symbol: str | None, from_ms: int, to_ms: int, *, is_applied: bool) -> tuple[Report, int]:
    """The report on one symbol or all, and how many bars were marked for the roll-up."""
    report = Report()
    with connect(load(AggregatorSettings).database_url, "rebuild") as connection:
        known = connection.execute(SYMBOLS, [symbol, symbol]).fetchall()
        if symbol is not None and not known:
            raise UnknownSymbol(f"{symbol} has no seconds here; leave --symbol out for all that have")
        for found, watermark_ms, first_ms in known:
            end_ms = min(to_ms, Interval.M1.floor(watermark_ms))
            span = Span(found, max(from_ms, Interval.M1.floor(first_ms)), end_ms, first_ms)
            rebuild(connection, span, report)
        return report, apply(connection, report.differences) if is_applied else 0


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 nothing differs, 1 something does or the database is away, 2 usage."""
    parser = argparse.ArgumentParser(prog="candlewire rebuild", description="recompute candles from their seconds")
    parser.add_argument("--from", dest="start", type=time_ms, required=True)
    parser.add_argument("--to", dest="end", type=time_ms, required=True)
    parser.add_argument("--symbol")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--apply", action="store_true", help="let the roll-up mend what differs")
    options = parser.parse_args(arguments)
    if options.start >= options.end:
        parser.error("--to must lie after --from")
    try:
        report, marked = _rebuild_stored(options.symbol, options.start, options.end, is_applied=options.apply)
    except UnknownSymbol as error:
        parser.error(str(error))
    except DatabaseError as error:
        sys.stderr.write(f"not recomputed: {error}\n")
        return 1
    _print(report, marked, as_json=options.json)
    return 1 if report.differences else 0


def _print(report: Report, marked: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**asdict(report), "marked": marked}))
        return
    print(f"{report.compared} bars compared, {report.left_out} left out, {len(report.differences)} different")
    for found in report.differences:
        print(f"{found.symbol} {found.interval} {found.open_time}: {', '.join(found.columns)}")
    if marked:
        print(f"{marked} bars marked for the roll-up")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
