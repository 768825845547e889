"""What analysts read: views with the provenance beside the values, and candles as they were known at a moment.

Tables have singular names, views plural ones. docs/ANALYSTS.md shows what to ask them.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

_VALUES = (
    "open, high, low, close, base_volume, quote_volume, trade_count, taker_buy_base_volume, taker_buy_quote_volume, "
    "first_trade_id, last_trade_id"
)
_COUNTS = "row_count, expected_count, rest_count, trades_count"
_SHARE = "round(row_count::numeric / expected_count, 6)"

#: A filter on `interval` leaves one branch of the union, so that both tables are read by their primary keys.
CANDLES = f"""
create view candles as
select symbol, '1s'::text as interval, open_time, close_time, {_VALUES},
    1 as row_count, 1 as expected_count,
    (source in ('rest', 'archive'))::integer as rest_count, (source = 'trades')::integer as trades_count,
    1::numeric as completeness, true as is_complete, true as is_closed, source, 0 as revision,
    open_time + interval '1 second' as covered_until, event_time, received_at as updated_at
from kline_1s
union all
select symbol, interval, open_time, close_time, {_VALUES}, {_COUNTS},
    {_SHARE}, is_complete, is_closed, source, revision, covered_until, event_time, updated_at
from aggregated_kline;

create view candle_revisions as
select symbol, interval, open_time, close_time, {_VALUES}, {_COUNTS}, {_SHARE} as completeness, is_complete, source,
    revision, event_time, updated_at as known_from, replaced_at as known_until
from candle_revision
union all
select symbol, interval, open_time, close_time, {_VALUES}, {_COUNTS}, {_SHARE}, is_complete, source,
    revision, event_time, updated_at, null
from aggregated_kline where is_closed;
"""

GAPS = """
create view open_gaps as
select id, symbol, interval, from_time, to_time, extract(epoch from to_time - from_time) as seconds, cause, detector,
    detected_at, attempts, next_attempt_at, last_error
from kline_gap where state = 'open';

create view closed_gaps as
select id, symbol, interval, from_time, to_time, extract(epoch from to_time - from_time) as seconds, cause, detector,
    state, detected_at, resolved_at, resolved_by, attempts, last_error
from kline_gap where state <> 'open';

create view completeness as
select symbol, hour, expected, stream, rest, trades, absent, open,
    case when expected > 0 then round((expected - open)::numeric / expected, 6) end as completeness, updated_at
from completeness_hour;
"""

AUDIT = """
create view audits as
select a.symbol, a.open_time, a.state, a.reason, a.differences, a.tolerances, a.compared_with, a.revision, a.rechecks,
    a.needs_person, a.audited_at
from minute_audit a;

create view audit_differences as
select a.symbol, a.open_time, d.key as column_name, d.value ->> 0 as ours, d.value ->> 1 as exchange,
    a.compared_with, a.revision, a.needs_person, a.audited_at
from minute_audit a cross join lateral jsonb_each(a.differences) d
where a.state <> 'equal';
"""

#: One look into an index for each symbol and interval, however long the history is; symbol and interval come from the
#: outer side, so that a filter on them spares the other looks.
LATEST = f"""
create view latest_candles as
select m.symbol, i.interval, c.open_time, c.close_time, {_VALUES}, {_COUNTS}, c.completeness, c.is_complete,
    c.is_closed, c.source, c.revision, c.covered_until, c.event_time, c.updated_at
from market_symbol m
cross join unnest(array['1s', '1m', '5m', '15m', '1h', '4h', '1d']) i (interval)
cross join lateral (
    select * from candles k where k.symbol = m.symbol and k.interval = i.interval order by k.open_time desc limit 1
) c;

create view latest_prices as
select distinct on (m.rank, m.symbol) m.symbol, m.base_asset, m.quote_asset, m.is_followed, p.price, p.event_time,
    p.price_from
from market_symbol m
cross join lateral (
    (select k.close as price, k.event_time, 'second' as price_from
     from kline_1s k where k.symbol = m.symbol order by k.open_time desc limit 1)
    union all
    select t.close, t.event_time, 'ticker' from symbol_ticker t where t.symbol = m.symbol
) p
order by m.rank, m.symbol, p.event_time desc;
"""

#: The newest revision that had been written by that moment: the rule of /api/v1/klines?known_at=. Names mean columns
#: there, parameters have numbers.
KNOWN_AT = f"""
create function candles_known_at(
    symbol text, "interval" text, known_at timestamptz,
    from_time timestamptz default '-infinity', to_time timestamptz default 'infinity'
) returns setof candles language plpgsql stable as $$
#variable_conflict use_column
begin
    if $2 not in ('1m', '5m', '15m', '1h', '4h', '1d') then
        raise exception 'candles_known_at: interval % keeps no history', quote_literal($2)
            using errcode = 'invalid_parameter_value', hint = 'Intervals: 1m, 5m, 15m, 1h, 4h, 1d.';
    end if;
    return query
        select distinct on (open_time) symbol, interval, open_time, close_time, {_VALUES}, {_COUNTS}, completeness,
            is_complete, true, source, revision, close_time + interval '1 millisecond', event_time, known_from
        from candle_revisions
        where symbol = $1 and interval = $2 and known_from <= $3 and open_time >= $4 and open_time < least($5, $3)
        order by open_time, revision desc;
end
$$;
"""
VIEWS = (
    "candles",
    "candle_revisions",
    "open_gaps",
    "closed_gaps",
    "completeness",
    "audits",
    "audit_differences",
    "latest_candles",
    "latest_prices",
)

#: View: what it shows, and the table whose comments its columns take over where they have none here.
_OF_VIEW = {
    "candles": (
        "Candles of every interval, 1s to 1d, with completeness and provenance; filter by symbol and interval",
        "aggregated_kline",
    ),
    "candle_revisions": (
        "Every version of every closed candle, the present one too; candles_known_at() picks those of a moment",
        "candle_revision",
    ),
    "open_gaps": ("Holes of the ledger that are still to be repaired", "kline_gap"),
    "closed_gaps": ("Holes of the ledger that are settled, and how", "kline_gap"),
    "completeness": ("Every second of a symbol and hour accounted for, and the share that is", "completeness_hour"),
    "audits": ("Each closed minute compared with the exchange's own, and the result", "minute_audit"),
    "audit_differences": ("One row for each value that differs from the exchange's own minute", "minute_audit"),
    "latest_candles": ("The newest candle of each symbol and interval, forming ones too", "aggregated_kline"),
    "latest_prices": ("The newest price of each symbol, by event time", "market_symbol"),
}
_COLUMN = {
    "row_count": "How many seconds are in the candle; 1 for a second itself",
    "completeness": "Share of the seconds that are in it, 0 to 1, six digits; below 1 while it forms",
    "source": "Where the values come from: stream, rest, trades, archive for 1s; seconds (rolled up), rest, archive",
    "revision": "Counts up each time a closed candle changes; 0 = never changed; seconds keep no history",
    "updated_at": "When this version was written",
    "interval": "Interval of the candle: 1s 1m 5m 15m 1h 4h 1d",
    "seconds": "How long the hole is",
    "known_from": "When this version was written",
    "known_until": "When the next version took its place; null = it is the present one",
    "completeness.completeness": "Share of the expected seconds that is stored or that the exchange has not either, "
    "six digits; null when none is expected",
    "completeness.updated_at": "When the hour was last counted; the running hour lies some seconds behind",
    "audits.revision": "Revision of our candle that was compared",
    "audit_differences.revision": "Revision of our candle that was compared",
    "audit_differences.column_name": "The column that differs",
    "audit_differences.ours": "Our value, as decimal text",
    "audit_differences.exchange": "The exchange's value, as decimal text",
    "open_gaps.interval": "Interval of what is missing: 1s",
    "closed_gaps.interval": "Interval of what was missing: 1s",
    "closed_gaps.from_time": "First instant that was missing, UTC",
    "closed_gaps.state": "repaired, absent (the exchange itself has nothing) or unrepairable (still missing)",
    "latest_prices.price": "Close of the newest second, or the 24 h ticker's last price when that is newer",
    "latest_prices.event_time": "The exchange's event time of the price",
    "latest_prices.price_from": "second or ticker",
}
_FUNCTION = (
    "Closed candles as they stood at known_at, each in the newest revision written by then; from_time inclusive, "
    "to_time exclusive. Columns as in the view candles"
)


def _comments(apps: object, schema_editor: Any) -> None:
    """Write a comment on every view and column: its own, else that of the table."""
    with schema_editor.connection.cursor() as cursor:
        for view, (text, table) in _OF_VIEW.items():
            cursor.execute(f"comment on view {view} is %s", [text])
            cursor.execute(
                "select v.attname, col_description(t.attrelid, t.attnum) from pg_attribute v "
                "left join pg_attribute t on t.attrelid = %s::regclass and t.attname = v.attname "
                "where v.attrelid = %s::regclass and v.attnum > 0",
                [table, view],
            )
            for column, inherited in cursor.fetchall():
                own = _COLUMN.get(f"{view}.{column}") or _COLUMN.get(column)
                cursor.execute(f"comment on column {view}.{column} is %s", [own or inherited])
        cursor.execute(
            "comment on function candles_known_at(text, text, timestamptz, timestamptz, timestamptz) is %s", [_FUNCTION]
        )


class Migration(migrations.Migration):
    """Adds the views, the function and their comments."""

    dependencies = [("webapp", "0004_operator")]
    operations = [
        migrations.RunSQL(
            CANDLES + GAPS + AUDIT + LATEST + KNOWN_AT,
            reverse_sql="drop function candles_known_at(text, text, timestamptz, timestamptz, timestamptz);"
            + "".join(f"drop view {view};" for view in reversed(VIEWS)),
        ),
        migrations.RunPython(_comments, migrations.RunPython.noop),
    ]
