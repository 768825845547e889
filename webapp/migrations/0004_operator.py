"""What operators see and do: history of figures, alerts, actions with their audit, rooms told to pause, and which
symbols are followed beside SYMBOLS."""

from __future__ import annotations

from typing import Any

from django.db import migrations

TABLES = """
create table operator_sample (
    sampled_at timestamptz not null,
    subject text not null,
    figures jsonb not null,
    primary key (sampled_at, subject)
) partition by range (sampled_at);

create table operator_alert (
    id bigint generated always as identity primary key,
    condition text not null check (condition in ('headroom', 'stale_feed', 'audit_difference', 'dead_letters', 'disk')),
    subject text not null,
    message text not null,
    remedy text not null,
    raised_at timestamptz not null default now(),
    recovered_at timestamptz
);
create unique index operator_alert_standing on operator_alert (condition, subject) where recovered_at is null;
create index operator_alert_time on operator_alert (raised_at desc);

create table operator_action (
    id bigint generated always as identity primary key,
    action text not null,
    arguments jsonb not null,
    requested_by text not null,
    requested_at timestamptz not null default now(),
    state text not null default 'accepted' check (state in ('refused', 'accepted', 'done', 'failed')),
    detail text,
    finished_at timestamptz
);
create index operator_action_time on operator_action (requested_at desc);
create index operator_action_waiting on operator_action (action, id) where state = 'accepted';

create table room_control (
    room text primary key,
    is_paused boolean not null,
    updated_at timestamptz not null default now(),
    updated_by text not null
);

create table symbol_choice (
    symbol text primary key,
    is_wanted boolean not null,
    updated_at timestamptz not null default now(),
    updated_by text not null
);
"""

COMMENTS = {
    "operator_sample": "Figures of topics, readers and rooms, each ten seconds; daily partitions, kept a week",
    "operator_sample.sampled_at": "When the figures were taken",
    "operator_sample.subject": "What they are of: topic:NAME, reader:ROOM:TOPIC/PARTITION, room:NAME or system",
    "operator_sample.figures": "The figures by name, with units in the names; null = unknown",
    "operator_alert": "Alerts to operators, one row from the raising to the recovery",
    "operator_alert.id": "Number of the alert",
    "operator_alert.condition": "headroom, stale_feed, audit_difference, dead_letters or disk",
    "operator_alert.subject": "What it is about, as in operator_sample, or a symbol",
    "operator_alert.message": "What is wrong, for people",
    "operator_alert.remedy": "The command that helps",
    "operator_alert.raised_at": "When it began",
    "operator_alert.recovered_at": "When it was over; null = it stands",
    "operator_action": "What operators asked for, and what became of it: the audit of actions",
    "operator_action.id": "Number of the action",
    "operator_action.action": "Its name, as in docs/OPERATIONS.md",
    "operator_action.arguments": "What it was asked with",
    "operator_action.requested_by": "Who asked: an address, or the command line with its user",
    "operator_action.requested_at": "When it was asked for",
    "operator_action.state": "refused (no right, no token, no confirmation), accepted, done or failed",
    "operator_action.detail": "What was done, or why not",
    "operator_action.finished_at": "When it was refused, done or had failed",
    "room_control": "Rooms that an operator has told to pause; a room without a row runs",
    "room_control.room": "Name of the room",
    "room_control.is_paused": "It pauses",
    "room_control.updated_at": "When it was told",
    "room_control.updated_by": "Who told it",
    "symbol_choice": "Symbols added to or taken from those of SYMBOLS while the line runs",
    "symbol_choice.symbol": "Symbol in upper case, as the exchange spells it",
    "symbol_choice.is_wanted": "True: followed beside SYMBOLS; false: not followed though SYMBOLS names it",
    "symbol_choice.updated_at": "When it was chosen",
    "symbol_choice.updated_by": "Who chose",
}


def _comments(apps: object, schema_editor: Any) -> None:
    """Write a comment on every table and column."""
    with schema_editor.connection.cursor() as cursor:
        for name, text in COMMENTS.items():
            cursor.execute(f"comment on {'column' if '.' in name else 'table'} {name} is %s", [text])


class Migration(migrations.Migration):
    """Adds the tables."""

    dependencies = [("webapp", "0003_proof")]
    operations = [
        migrations.RunSQL(TABLES, reverse_sql="\n".join(f"drop table {name};" for name in COMMENTS if "." not in name)),
        migrations.RunPython(_comments, migrations.RunPython.noop),
    ]
