"""Retention: daily partitions of 1 s rows are dropped whole, counted back from the newest watermark.

`python -m aggregator.retention [--archive] [--json]` does it once (for the crontab). The newest watermark, not the wall
clock: a stack that was off for a week, or that plays a tape, keeps what it has. Imported rows stay unless asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

from aggregator.settings import AggregatorSettings
from runtime.database import Connection, LockNotAvailable, TupleRow, connect, sql
from runtime.logs import get_logger
from runtime.settings import load

#: A drop shuts readers out for an instant; rather than queue everybody behind a long reader it gives up.
DROP_LOCK_TIMEOUT_MS: Final = 1_000
PARTITION_NAME: Final = re.compile(r"kline_1s_(\d{8})")

PARTITIONS = """
select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'public.kline_1s'::regclass order by c.relname
"""
NEWEST = "select max(event_time) from symbol_watermark where stream = 'kline_1s'"
#: By the time of writing, since the rows of a tape are old by their own; what is open or waits for a person stays.
PRUNE_LETTERS = (
    "delete from dead_letter where received_at < now() - make_interval(days => %s)",
    "delete from feed_outage where to_time < now() - make_interval(days => %s)",
)
PRUNE_PROOF = (
    "delete from minute_audit where audited_at < now() - make_interval(days => %s) and not needs_person",
    "delete from candle_revision where replaced_at < now() - make_interval(days => %s)",
    "delete from suspect_range where settled_at < now() - make_interval(days => %s) and state <> 'open'",
    "delete from completeness_hour where updated_at < now() - make_interval(days => %s)",
    "delete from operator_action where requested_at < now() - make_interval(days => %s) and state <> 'accepted'",
    "delete from operator_alert where recovered_at < now() - make_interval(days => %s)",
)
#: The exchange's minutes are needed as long as the seconds that they are compared with.
PRUNE_MINUTES = "delete from exchange_minute where received_at < now() - make_interval(hours => %s)"

log = get_logger(__name__)


def apply_retention(
    connection: Connection[TupleRow],
    keep_hours: int,
    letters_days: int,
    proof_days: int,
    *,
    drop_archive: bool = False,
) -> list[str]:
    """Drop partitions that end `keep_hours` or more before the newest watermark, prune dead letters, outages, audits
    and revisions.

    Imported rows (source archive) stay unless `drop_archive`: their partition loses its other rows alone.

    Returns the names of the dropped partitions; one that a long reader holds is left for the next time. Raises what
    the driver raises. Each step is its own transaction and the drops, which free the most, come first: a table that
    takes too long to prune keeps no partition alive.
    """
    with connection.transaction():
        row = connection.execute(NEWEST).fetchone()
        names = [name for (name,) in connection.execute(PARTITIONS).fetchall()]
    newest = row[0] if row is not None else None
    dropped = []
    if newest is not None:
        dropped = _drop(connection, expired(names, newest, keep_hours), drop_archive=drop_archive)
    limits = [(statement, letters_days) for statement in PRUNE_LETTERS]
    limits += [(statement, proof_days) for statement in PRUNE_PROOF]
    for statement, limit in [*limits, (PRUNE_MINUTES, keep_hours)]:
        with connection.transaction():
            connection.execute(statement, [limit])
    return dropped


def _drop(connection: Connection[TupleRow], names: list[str], *, drop_archive: bool) -> list[str]:
    dropped = []
    for name in names:
        try:
            with connection.transaction():
                connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(DROP_LOCK_TIMEOUT_MS)))
                if not drop_archive and _keeps_archive(connection, name):
                    continue
                connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(name)))
        except LockNotAvailable as error:
            log.warning("partition_is_being_read", partition=name, error=str(error).splitlines()[0])
        else:
            dropped.append(name)
    return dropped


def _keeps_archive(connection: Connection[TupleRow], name: str) -> bool:
    """True for a partition with imported rows, which stay; its other rows are gone now."""
    table = sql.Identifier(name)
    row = connection.execute(
        sql.SQL("select exists (select from {} where source = 'archive')").format(table)
    ).fetchone()
    if row is None or not row[0]:
        return False
    connection.execute(sql.SQL("delete from {} where source <> 'archive'").format(table))
    return True


def expired(names: list[str], newest: datetime, keep_hours: int) -> list[str]:
    """Those of the partitions whose whole day lies `keep_hours` or more before `newest`."""
    keep_from = newest - timedelta(hours=keep_hours)
    return [name for name in names if (end := partition_end(name)) is not None and end <= keep_from]


def partition_end(name: str) -> datetime | None:
    """End of the day (exclusive) of a partition called kline_1s_YYYYMMDD; None for another name."""
    match = PARTITION_NAME.fullmatch(name)
    if match is None:
        return None
    return datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0; 2 for a usage error."""
    parser = argparse.ArgumentParser(prog="python -m aggregator.retention", description="drop 1 s rows past retention")
    parser.add_argument("--archive", action="store_true", help="drop imported rows too; else they stay")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    settings = load(AggregatorSettings)
    with connect(settings.database_url, "retention") as connection:
        dropped = apply_retention(
            connection,
            settings.retention_1s_hours,
            settings.retention_letters_days,
            settings.retention_proof_days,
            drop_archive=options.archive,
        )
    if options.json:
        print(json.dumps({"dropped": dropped, "keep_hours": settings.retention_1s_hours}))
    else:
        print(f"dropped: {', '.join(dropped) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
