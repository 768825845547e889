"""The read-only role: which tables and views it sees, and what it may take of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db import connections, transaction

ANALYST_ROLE: Final = "analyst"

#: What it may see: the contract's tables and the market's own, never accounts, sessions or what operators do.
ANALYST_TABLES: Final = (
    "kline_1s",
    "aggregated_kline",
    "kline_checkpoint",
    "symbol_watermark",
    "kline_gap",
    "dead_letter",
    "feed_outage",
    "market_symbol",
    "symbol_ticker",
    "exchange_minute",
    "minute_audit",
    "candle_revision",
    "suspect_range",
    "completeness_hour",
)
#: The views on them (migration 0005_views).
ANALYST_VIEWS: Final = (
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
#: Set on the role; a session may lower them, and raise all but the last.
LIMITS: Final = {
    "default_transaction_read_only": "on",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "5min",
}
#: Disk for the sorts of one session. Only a superuser can set it, and nobody else can raise it.
SUPERUSER_LIMITS: Final = {"temp_file_limit": "2GB"}
#: What PostgreSQL lets everybody write to, whatever the grants on tables say.
LARGE_OBJECT_WRITERS: Final = ("lo_create(oid)", "lo_creat(integer)", "lo_from_bytea(oid, bytea)")


def grant_analyst() -> None:
    """Let the role `analyst`, where it exists, read the contract's tables and the views on them, and nothing else.

    Its limits are set as far as the migrating role may set them. Grants and limits that are there are left alone."""
    with connections["default"].cursor() as cursor:
        cursor.execute("select 1 from pg_roles where rolname = %s", [ANALYST_ROLE])
        if cursor.fetchone() is None:
            return
        cursor.execute(f"grant usage on schema public to {ANALYST_ROLE}")
        _grant_relations(cursor)
        cursor.execute("select rolsuper, rolcreaterole from pg_roles where rolname = current_user")
        is_superuser, may_alter_roles = cursor.fetchone()
        limits = {**LIMITS, **(SUPERUSER_LIMITS if is_superuser else {})}
        if is_superuser or may_alter_roles:
            _limit_role(cursor, limits)
        if is_superuser:
            _close_what_is_open_to_all(cursor)


def _grant_relations(cursor: Any) -> None:
    """Select on the relations that lack it.

    A grant writes the relation's row of the catalog but takes no lock, so it fails beside who writes that row too, as
    the inserter does with the first partition of kline_1s: the lock is the one that attaching takes."""
    cursor.execute(
        "select oid::regclass::text, relkind = 'v' from pg_class "
        "where oid = any(array(select to_regclass(name)::oid from unnest(%s::text[]) name)) "
        "and not has_table_privilege(%s, oid, 'select') order by oid",
        [[*ANALYST_TABLES, *ANALYST_VIEWS], ANALYST_ROLE],
    )
    missing = cursor.fetchall()
    tables = [name for name, is_view in missing if not is_view]
    with transaction.atomic(using="default"):
        if tables:
            cursor.execute(f"lock table only {', only '.join(tables)} in share update exclusive mode")
        if missing:
            cursor.execute(f"grant select on {', '.join(name for name, _ in missing)} to {ANALYST_ROLE}")


def _limit_role(cursor: Any, limits: Mapping[str, str]) -> None:
    """Set on the role what is not. Roles belong to all databases of a server: others may migrate at this moment."""
    cursor.execute(
        "select setconfig from pg_db_role_setting where setdatabase = 0 and setrole = %s::regrole", [ANALYST_ROLE]
    )
    row = cursor.fetchone()
    held: list[str] = row[0] if row else []
    for name, value in limits.items():
        if f"{name}={value}" not in held:
            cursor.execute(f"alter role {ANALYST_ROLE} set {name} = '{value}'")


def _close_what_is_open_to_all(cursor: Any) -> None:
    """Temporary tables and large objects of this database for their owner alone."""
    public = "has_database_privilege('public', current_database(), 'temporary')"
    cursor.execute(f"select quote_ident(current_database()), {public}")
    database, has_temporary = cursor.fetchone()
    if has_temporary:
        cursor.execute(f"revoke temporary on database {database} from public")
    for function in LARGE_OBJECT_WRITERS:
        cursor.execute("select has_function_privilege('public', %s, 'execute')", [function])
        if cursor.fetchone() == (True,):
            cursor.execute(f"revoke execute on function {function} from public")
