"""The read-only role: which tables and views it sees, and what it may take of the server."""

from __future__ import annotations

from typing import Any, Final

from django.db import connections

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
TEMP_FILE_LIMIT: Final = "2GB"
#: What PostgreSQL lets everybody write to, whatever the grants on tables say.
LARGE_OBJECT_WRITERS: Final = ("lo_create(oid)", "lo_creat(integer)", "lo_from_bytea(oid, bytea)")


def grant_analyst() -> None:
    """Let the role `analyst`, where it exists, read the contract's tables and the views on them, and nothing else.

    Its limits are set as far as the migrating role may set them."""
    with connections["default"].cursor() as cursor:
        cursor.execute("select 1 from pg_roles where rolname = %s", [ANALYST_ROLE])
        if cursor.fetchone() is None:
            return
        cursor.execute(
            "select array_agg(relname::text) from pg_class where oid = any(array(select to_regclass(t)::oid "
            "from unnest(%s::text[]) t))",
            [[*ANALYST_TABLES, *ANALYST_VIEWS]],
        )
        relations = cursor.fetchone()[0]
        cursor.execute(f"grant usage on schema public to {ANALYST_ROLE}")
        if relations:
            cursor.execute(f"grant select on {', '.join(relations)} to {ANALYST_ROLE}")
        cursor.execute("select rolsuper, rolcreaterole from pg_roles where rolname = current_user")
        is_superuser, may_alter_roles = cursor.fetchone()
        if is_superuser or may_alter_roles:
            for name, value in LIMITS.items():
                cursor.execute(f"alter role {ANALYST_ROLE} set {name} = '{value}'")
        if is_superuser:
            _close_what_is_open_to_all(cursor)


def _close_what_is_open_to_all(cursor: Any) -> None:
    """Temporary tables and large objects of this database for their owner alone; disk for sorts bounded."""
    cursor.execute(f"alter role {ANALYST_ROLE} set temp_file_limit = '{TEMP_FILE_LIMIT}'")
    cursor.execute("select quote_ident(current_database())")
    (database,) = cursor.fetchone()
    cursor.execute(f"revoke temporary on database {database} from public")
    for function in LARGE_OBJECT_WRITERS:
        cursor.execute(f"revoke execute on function {function} from public")
