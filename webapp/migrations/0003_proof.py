"""What proves the rows: provenance counts, revisions of candles, the exchange's own minutes, the audit of each,
suspect ranges, completeness by hour, and how often the repair of a gap was tried."""

from __future__ import annotations

from typing import Any

from django.db import migrations

VALUES = """
    open numeric not null,
    high numeric not null,
    low numeric not null,
    close numeric not null,
    base_volume numeric not null,
    quote_volume numeric not null,
    trade_count bigint not null,
    taker_buy_base_volume numeric not null,
    taker_buy_quote_volume numeric not null,
    first_trade_id bigint,
    last_trade_id bigint,
"""

TABLES = f"""
alter table kline_gap
    add column detector text not null default 'open_times'
        check (detector in ('open_times', 'log', 'feed', 'trade_chain', 'audit', 'operator')),
    add column attempts integer not null default 0,
    add column next_attempt_at timestamptz,
    add column last_error text;
create index kline_gap_due on kline_gap (next_attempt_at nulls first, from_time desc) where state = 'open';

alter table aggregated_kline
    add column rest_count integer not null default 0,
    add column trades_count integer not null default 0;

create table suspect_range (
    id bigint generated always as identity primary key,
    symbol text not null,
    from_time timestamptz not null,
    to_time timestamptz not null,
    reason text not null check (reason in ('trade_chain', 'audit')),
    state text not null default 'open' check (state in ('open', 'equal', 'corrected', 'unsettled')),
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    last_error text,
    found_at timestamptz not null default now(),
    settled_at timestamptz,
    unique (symbol, from_time, to_time, reason),
    check (from_time < to_time)
);
create index suspect_range_due on suspect_range (next_attempt_at nulls first, from_time desc) where state = 'open';

create table exchange_minute (
    symbol text not null,
    open_time timestamptz not null,
    {VALUES}
    source text not null check (source in ('stream', 'rest')),
    event_time timestamptz not null,
    received_at timestamptz not null,
    primary key (symbol, open_time)
);

create table audit_due (
    symbol text not null,
    open_time timestamptz not null,
    marks bigint not null default 1,
    due_at timestamptz not null default now(),
    primary key (symbol, open_time)
);
create index audit_due_time on audit_due (due_at);

create table minute_audit (
    symbol text not null,
    open_time timestamptz not null,
    state text not null check (state in ('equal', 'different', 'not_comparable')),
    reason text,
    differences jsonb not null default '{{}}',
    tolerances text[] not null default '{{}}',
    compared_with text check (compared_with in ('stream', 'rest')),
    revision integer not null,
    rechecks integer not null default 0,
    needs_person boolean not null default false,
    audited_at timestamptz not null default now(),
    primary key (symbol, open_time)
);
create index minute_audit_not_equal on minute_audit (open_time desc) where state <> 'equal';

create table candle_revision (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,
    close_time timestamptz not null,
    {VALUES}
    row_count integer not null,
    expected_count integer not null,
    rest_count integer not null,
    trades_count integer not null,
    is_complete boolean not null,
    source text not null,
    revision integer not null,
    event_time timestamptz not null,
    updated_at timestamptz not null,
    replaced_at timestamptz not null default clock_timestamp(),
    primary key (symbol, interval, open_time, revision)
);

create table dirty_hour (
    symbol text not null,
    hour timestamptz not null,
    marks bigint not null default 1,
    primary key (symbol, hour)
);

create table completeness_hour (
    symbol text not null,
    hour timestamptz not null,
    expected integer not null,
    stream integer not null,
    rest integer not null,
    trades integer not null,
    absent integer not null,
    open integer not null,
    updated_at timestamptz not null default now(),
    primary key (symbol, hour)
);
"""

_KEPT = (
    "symbol, interval, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count, "
    "taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, row_count, expected_count, "
    "rest_count, trades_count, is_complete, source, revision, event_time, updated_at"
)
#: A trigger, not a statement of the roll-up: whoever changes a served candle, what was served stays known.
HISTORY = f"""
create function keep_candle_revision() returns trigger language plpgsql as $$
begin
    insert into candle_revision ({_KEPT})
    values ({", ".join(f"old.{name.strip()}" for name in _KEPT.split(","))})
    on conflict (symbol, interval, open_time, revision) do nothing;
    return new;
end
$$;
comment on function keep_candle_revision() is 'Keeps what a closed candle was before it is revised';
create trigger keep_candle_revision before update on aggregated_kline for each row
    when (old.is_closed and new.revision > old.revision) execute function keep_candle_revision();
"""

COMMENTS = {
    "suspect_range": "Stored seconds that may be wrong: a broken trade chain or a failed audit; settled by REST",
    "exchange_minute": "The exchange's own closed 1m klines, which the audit compares ours with",
    "audit_due": "Minutes to be audited; a work queue",
    "minute_audit": "The audit of each closed minute against the exchange's own, and its result",
    "candle_revision": "What closed candles were before they were revised",
    "dirty_hour": "Hours whose completeness has to be counted anew; a work queue",
    "completeness_hour": "Every second of a symbol and hour accounted for, by where it came from",
}
_COLUMN = {
    "symbol": "Symbol in upper case, as the exchange spells it",
    "open_time": "First instant of the interval, UTC",
    "close_time": "Last millisecond of the interval, UTC (inclusive)",
    "hour": "First instant of the hour, UTC",
    "open": "First trade price; flat at the previous close when there was no trade",
    "high": "Highest trade price",
    "low": "Lowest trade price",
    "close": "Last trade price",
    "base_volume": "Traded quantity in the base asset",
    "quote_volume": "Traded quantity in the quote asset",
    "trade_count": "Number of trades",
    "taker_buy_base_volume": "Part of base_volume where the taker bought",
    "taker_buy_quote_volume": "Part of quote_volume where the taker bought",
    "first_trade_id": "Id of the first trade; -1 without trades; null when unknown (REST rows carry none)",
    "last_trade_id": "Id of the last trade; -1 without trades; null when unknown (REST rows carry none)",
    "event_time": "The exchange's own event time of what the row says",
    "received_at": "When our process received it",
    "source": "Where the values come from",
    "updated_at": "When the row was last written",
    "interval": "Interval of the candle: 1m 5m 15m 1h 4h 1d",
    "from_time": "First instant, UTC",
    "to_time": "End, UTC (exclusive)",
    "marks": "How often it was marked; the update takes the row lock that the reader of the queue waits for",
    "row_count": "How many seconds are in the candle",
    "expected_count": "How many seconds a complete candle of this interval has",
    "rest_count": "Seconds in it that came from the exchange's REST klines or archive, not from the stream",
    "trades_count": "Seconds in it that were built from single trades",
    "is_complete": "Every second of the interval is in it",
    "revision": "Counts up each time a closed candle changes",
    "attempts": "How often settling it was tried",
    "next_attempt_at": "Not tried again before; null = at once",
    "last_error": "Why the last try failed",
}
_SPECIAL = {
    "kline_gap.detector": "Who noticed: open_times, log, feed, trade_chain, audit, operator",
    "suspect_range.id": "Number of the range",
    "suspect_range.reason": "Why it is suspect: trade_chain (ids do not join) or audit (the minute differs)",
    "suspect_range.state": "open, equal (REST says the same), corrected (rows replaced), unsettled (for a person)",
    "suspect_range.found_at": "When it was noticed",
    "suspect_range.settled_at": "When it was settled",
    "audit_due.due_at": "Not audited before: the exchange's own kline needs a moment to arrive",
    "minute_audit.state": "equal, different, or not_comparable",
    "minute_audit.reason": "Why it cannot be compared, for people",
    "minute_audit.differences": "Per differing column [ours, the exchange's], as decimal texts",
    "minute_audit.tolerances": "Known habits of the exchange that explain a difference, by name",
    "minute_audit.compared_with": "Where the exchange's kline came from: stream or rest; null = there was none",
    "minute_audit.revision": "Revision of our candle that was compared",
    "minute_audit.rechecks": "How often its seconds were fetched again because it differed",
    "minute_audit.needs_person": "It differs even after the recheck",
    "minute_audit.audited_at": "When it was compared",
    "candle_revision.replaced_at": "When the next revision took its place",
    "candle_revision.updated_at": "When this revision was written",
    "completeness_hour.expected": "Seconds of the hour from the symbol's first to its watermark",
    "completeness_hour.stream": "Seconds from the stream",
    "completeness_hour.rest": "Seconds from REST klines or archive files",
    "completeness_hour.trades": "Seconds built from single trades",
    "completeness_hour.absent": "Seconds that the exchange itself does not have",
    "completeness_hour.open": "Seconds still missing here",
}


def _comments(apps: object, schema_editor: Any) -> None:
    """Write a comment on every new table and column."""
    added = {"kline_gap": ("detector", "attempts", "next_attempt_at", "last_error"),
             "aggregated_kline": ("rest_count", "trades_count")}  # fmt: skip
    with schema_editor.connection.cursor() as cursor:
        for table, columns in added.items():
            for column in columns:
                _comment(cursor, table, column)
        for table, text in COMMENTS.items():
            cursor.execute(f"comment on table {table} is %s", [text])
            cursor.execute("select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", [table])
            for (column,) in cursor.fetchall():
                _comment(cursor, table, column)


def _comment(cursor: Any, table: str, column: str) -> None:
    text = _SPECIAL.get(f"{table}.{column}") or _COLUMN[column]
    cursor.execute(f"comment on column {table}.{column} is %s", [text])


class Migration(migrations.Migration):
    """Adds tables, columns and the trigger."""

    dependencies = [("webapp", "0002_models")]
    operations = [
        migrations.RunSQL(
            TABLES,
            reverse_sql="\n".join(f"drop table {table};" for table in COMMENTS)
            + "alter table kline_gap drop column detector, drop column attempts, drop column next_attempt_at, "
            "drop column last_error; alter table aggregated_kline drop column rest_count, drop column trades_count;",
        ),
        migrations.RunSQL(
            HISTORY,
            reverse_sql="drop trigger keep_candle_revision on aggregated_kline; drop function keep_candle_revision();",
        ),
        migrations.RunPython(_comments, migrations.RunPython.noop),
    ]
