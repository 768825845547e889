"""The tables of docs/ARCHITECTURE.md and the contract, written as SQL because partitions, comments and
constraints are the point; models.py mirrors them unmanaged."""

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
create table kline_1s (
    symbol text not null,
    open_time timestamptz not null,
    close_time timestamptz not null,
    {VALUES}
    event_time timestamptz not null,
    received_at timestamptz not null,
    source text not null check (source in ('stream', 'rest', 'trades', 'archive')),
    primary key (symbol, open_time)
) partition by range (open_time);

create table aggregated_kline (
    symbol text not null,
    interval text not null check (interval in ('1m', '5m', '15m', '1h', '4h', '1d')),
    open_time timestamptz not null,
    close_time timestamptz not null,
    {VALUES}
    row_count integer not null,
    expected_count integer not null,
    covered_until timestamptz not null,
    is_complete boolean not null,
    is_closed boolean not null,
    source text not null check (source in ('seconds', 'rest', 'archive')),
    revision integer not null default 0,
    event_time timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (symbol, interval, open_time)
);
create index aggregated_kline_forming on aggregated_kline (symbol, interval, open_time) where not is_closed;

create table kline_checkpoint (
    topic text not null,
    topic_id uuid not null,
    partition integer not null,
    next_offset bigint not null,
    epoch bigint not null,
    updated_at timestamptz not null default now(),
    primary key (topic, partition)
);

create table symbol_watermark (
    symbol text not null,
    stream text not null,
    event_time timestamptz not null,
    updated_at timestamptz not null default now(),
    primary key (symbol, stream)
);

create table kline_gap (
    id bigint generated always as identity primary key,
    symbol text not null,
    interval text not null default '1s',
    from_time timestamptz not null,
    to_time timestamptz not null,
    cause text not null check (cause in ('disconnect', 'silence', 'overflow', 'log_expired', 'offset_jump',
                                         'trade_chain', 'downtime', 'unknown')),
    state text not null default 'open' check (state in ('open', 'repaired', 'absent', 'unrepairable')),
    detected_at timestamptz not null default now(),
    resolved_at timestamptz,
    resolved_by text,
    check (from_time < to_time)
);
create index kline_gap_symbol_time on kline_gap (symbol, interval, from_time);
create index kline_gap_open on kline_gap (symbol, from_time) where state = 'open';

create table dead_letter (
    id bigint generated always as identity primary key,
    topic text not null,
    partition integer not null,
    record_offset bigint,
    reason text not null,
    payload bytea not null,
    received_at timestamptz not null,
    unique (topic, partition, record_offset)
);

create table dirty_minute (
    symbol text not null,
    open_time timestamptz not null,
    marks bigint not null default 1,
    primary key (symbol, open_time)
);

create table candle_outbox (
    symbol text not null,
    interval text not null,
    open_time timestamptz not null,
    marks bigint not null default 1,
    primary key (symbol, interval, open_time)
);

create table feed_outage (
    symbol text not null,
    stream text not null,
    from_time timestamptz not null,
    to_time timestamptz,
    cause text not null,
    detail text not null,
    primary key (symbol, stream, from_time)
);

create table market_symbol (
    symbol text primary key,
    base_asset text not null,
    quote_asset text not null,
    status text not null,
    tick_size numeric not null,
    step_size numeric not null,
    rank integer not null,
    is_followed boolean not null,
    history_loaded_at timestamptz,
    updated_at timestamptz not null default now()
);

create table symbol_ticker (
    symbol text primary key,
    open numeric not null,
    high numeric not null,
    low numeric not null,
    close numeric not null,
    base_volume numeric not null,
    quote_volume numeric not null,
    event_time timestamptz not null,
    received_at timestamptz not null
);
"""

#: Makes the partition of one UTC day unless it is there. Attached, not created in place: attaching lets readers and
#: writers of the table go on. Safe from several sessions at once.
PARTITIONS = """
create function ensure_kline_1s_day(day date) returns void language plpgsql as $$
declare
    name text := 'kline_1s_' || to_char(day, 'YYYYMMDD');
begin
    if to_regclass('public.' || name) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(7310001);
    if to_regclass('public.' || name) is not null then
        return;
    end if;
    execute format('create table %I (like kline_1s including defaults including constraints including comments)', name);
    execute format('comment on table %I is %L', name, 'Rows of kline_1s of ' || day || ' (UTC)');
    execute format('alter table kline_1s attach partition %I for values from (%L) to (%L)',
                   name, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
end
$$;
comment on function ensure_kline_1s_day(date) is 'Makes the daily partition of kline_1s unless it is there';
"""

#: What a reader of the database is told; a test demands one for every table and column.
COMMENTS = {
    "kline_1s": "Closed 1 s klines of the exchange, one row a symbol-second; daily partitions by open_time (UTC)",
    "aggregated_kline": "Candles rolled up from our 1 s rows (seconds) or taken from the exchange (rest)",
    "kline_checkpoint": "How far the inserter has read each partition; committed together with the rows",
    "symbol_watermark": "How far each symbol has come in event time",
    "kline_gap": "The gap ledger: every known hole, with its cause; rows stay after the repair",
    "dead_letter": "Records and frames that can never work, with the reason and the raw bytes",
    "dirty_minute": "Minutes whose 1 s rows changed since the last roll-up; a work queue",
    "candle_outbox": "Candles that changed and are not yet on the candle topic; a work queue",
    "feed_outage": "What the producer reported of its own feed: which stream was out, when and why",
    "market_symbol": "Symbols of the exchange with their price and quantity steps",
    "symbol_ticker": "Newest rolling 24 h figures of each symbol",
}
_COLUMN = {
    "symbol": "Symbol in upper case, as the exchange spells it",
    "open_time": "First instant of the interval, UTC",
    "close_time": "Last millisecond of the interval, UTC (inclusive)",
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
    "interval": "Interval of the candles: 1s for the ledger, else 1m 5m 15m 1h 4h 1d",
    "stream": "Stream of the exchange, as in the STREAMS setting",
    "from_time": "First missing instant, UTC",
    "to_time": "End, UTC (exclusive); null = not over",
    "cause": "Why: disconnect, silence, overflow, log_expired, offset_jump, trade_chain, downtime, unknown",
    "topic": "Kafka topic",
    "partition": "Kafka partition",
}
_SPECIAL = {
    "aggregated_kline.row_count": "How many seconds are in the candle",
    "aggregated_kline.expected_count": "How many seconds a complete candle of this interval has",
    "aggregated_kline.covered_until": "Seconds before this instant have been rolled up (exclusive)",
    "aggregated_kline.is_complete": "Every second of the interval is in it",
    "aggregated_kline.is_closed": "The interval is over; false for the candle that is still forming",
    "aggregated_kline.revision": "Counts up each time a closed candle changes",
    "kline_checkpoint.topic_id": "Kafka's id of the topic: a topic made again has another",
    "kline_checkpoint.next_offset": "Next record to read",
    "kline_checkpoint.epoch": "Fencing number: a newer inserter has a higher one",
    "symbol_watermark.event_time": "Every second before this instant is stored or listed as a gap",
    "kline_gap.id": "Number of the gap",
    "kline_gap.state": "open, repaired, absent (the exchange itself has nothing), unrepairable",
    "kline_gap.detected_at": "When the hole was noticed",
    "kline_gap.resolved_at": "When it was filled or settled",
    "kline_gap.resolved_by": "What filled it: stream, rest, ...",
    "dead_letter.id": "Number of the letter",
    "dead_letter.record_offset": "Kafka offset; null where the frame never reached Kafka",
    "dead_letter.reason": "What is wrong with it",
    "dead_letter.payload": "The raw bytes",
    "dirty_minute.marks": "How often it was marked; the update takes the row lock that the roll-up waits for",
    "candle_outbox.marks": "How often it was marked; the update takes the row lock that the publisher holds",
    "feed_outage.detail": "More of the cause, for people",
    "market_symbol.base_asset": "Asset that is bought and sold",
    "market_symbol.quote_asset": "Asset it is priced in",
    "market_symbol.status": "Trading status at the exchange (TRADING, HALT, BREAK, ...)",
    "market_symbol.tick_size": "Smallest price step",
    "market_symbol.step_size": "Smallest quantity step",
    "market_symbol.rank": "Place among the followed symbols, by turnover or by the order of SYMBOLS",
    "market_symbol.is_followed": "True for the symbols that this system ingests",
    "market_symbol.history_loaded_at": "When the first history was taken from the exchange; null = not yet",
    "symbol_ticker.open": "Price 24 hours ago",
    "symbol_ticker.close": "Last price",
}


def _comments(apps: object, schema_editor: Any) -> None:
    """Write a comment on every table and column."""
    with schema_editor.connection.cursor() as cursor:
        for table, text in COMMENTS.items():
            cursor.execute(f"comment on table {table} is %s", [text])
            cursor.execute("select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", [table])
            for (column,) in cursor.fetchall():
                comment = _SPECIAL.get(f"{table}.{column}") or _COLUMN[column]
                cursor.execute(f"comment on column {table}.{column} is %s", [comment])


class Migration(migrations.Migration):
    """Makes every table."""

    initial = True
    operations = [
        migrations.RunSQL(TABLES, reverse_sql="\n".join(f"drop table {table};" for table in COMMENTS)),
        migrations.RunSQL(PARTITIONS, reverse_sql="drop function ensure_kline_1s_day(date);"),
        migrations.RunPython(_comments, migrations.RunPython.noop),
    ]
