"""What the operators' figures and alerts leave in the database: samples in daily partitions, one row for each alert.

One web process at a time writes: who holds the advisory lock. Everything here runs in the collector's database thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec

from runtime.database import Connection, TupleRow, sql
from webapp.operations import remedies
from webapp.operations.alerts import MAX_RECOVERED
from webapp.operations.snapshot import AlertRow, Snapshot
from webapp.selectors import EPOCH, ms, to_time

#: Any number will do, as long as every web process uses the same.
WRITER_LOCK: Final = 0x6F70657261
PARTITIONS_AHEAD_DAYS: Final = 1
PREFIX: Final = "operator_sample_"
TREE_LOCK_TIMEOUT_MS: Final = 1_000
MAX_STANDING: Final = 500

_TOPIC: Final = ("records_per_second", "bytes", "records", "measured_oldest_age_s")
_READER: Final = ("lag_records", "lag_seconds", "headroom_seconds", "headroom_trend")
_ROOM: Final = ("ready", "cpu_share", "memory_bytes", "restarts", "started_at_ms")


def samples_of(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """The figures that are kept, by subject."""
    found = {f"topic:{row.topic}": _figures(row, _TOPIC) for row in snapshot.topics}
    found |= {f"reader:{row.room}:{row.partition_name}": _figures(row, _READER) for row in snapshot.readers}
    found |= {f"room:{row.name}": _figures(row, _ROOM) for row in snapshot.rooms}
    data = snapshot.data
    system = {
        "verdict": snapshot.verdict,
        "open_gaps": data.open_gaps.count,
        "dead_letters": data.dead_letters.count,
        "relay_clients": data.relay.clients,
        "relay_queue_bytes": data.relay.queue_bytes,
        "disk_free_bytes": data.disk.free_bytes,
    }
    hops = {f"{row.hop}_p95_ms": row.p95_ms for row in snapshot.hops}
    return {**found, "system": system | hops}


def _figures(row: msgspec.Struct, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def take_lock(connection: Connection[TupleRow]) -> bool:
    """Become the one writer; the lock goes with the connection. False while another process is."""
    row = connection.execute("select pg_try_advisory_lock(%s)", [WRITER_LOCK]).fetchone()
    return row is not None and bool(row[0])


def write_samples(connection: Connection[TupleRow], at_ms: int, samples: Mapping[str, Mapping[str, Any]]) -> None:
    """One row for each subject."""
    figures = [msgspec.json.encode(values).decode() for values in samples.values()]
    connection.execute(
        "insert into operator_sample (sampled_at, subject, figures)"
        " select %s, subject, figures::jsonb from unnest(%s::text[], %s::text[]) as given (subject, figures)"
        " on conflict do nothing",
        [to_time(at_ms), list(samples), figures],
    )


def tend_partitions(connection: Connection[TupleRow], now_ms: int, keep_days: int) -> None:
    """Make the partitions of today and tomorrow, drop those that ended more than `keep_days` ago.

    Raises LockNotAvailable when somebody reads for long what is to be dropped; then the next time does it."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    query = "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = %s::regclass"
    names = {str(name) for (name,) in connection.execute(query, ["public.operator_sample"]).fetchall()}
    for ahead in range(PARTITIONS_AHEAD_DAYS + 1):
        day = today + timedelta(days=ahead)
        if f"{PREFIX}{day:%Y%m%d}" not in names:
            _make_partition(connection, day)
    for name in expired(names, today, keep_days):
        with connection.transaction():
            connection.execute(f"set local lock_timeout = {TREE_LOCK_TIMEOUT_MS}")
            connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(name)))


def expired(names: Iterable[str], today: date, keep_days: int) -> list[str]:
    """Partitions whose day is over for `keep_days` or more; other names are left alone."""
    last = f"{PREFIX}{today - timedelta(days=keep_days + 1):%Y%m%d}"
    return sorted(name for name in names if name.startswith(PREFIX) and len(name) == len(last) and name <= last)


def _make_partition(connection: Connection[TupleRow], day: date) -> None:
    """Attached, not made in place, so that it carries the comments and locks nobody out meanwhile."""
    name = sql.Identifier(f"{PREFIX}{day:%Y%m%d}")
    bounds = [datetime(at.year, at.month, at.day, tzinfo=UTC).isoformat() for at in (day, day + timedelta(days=1))]
    with connection.transaction():
        connection.execute(
            sql.SQL(
                "create table if not exists {} (like operator_sample including defaults including constraints"
                " including comments)"
            ).format(name)
        )
        # For the history of one subject, which would else read the whole day.
        connection.execute(sql.SQL("create index on {} (subject, sampled_at)").format(name))
        about = f"Rows of operator_sample of {day} (UTC)"
        connection.execute(sql.SQL("comment on table {} is {}").format(name, sql.Literal(about)))
        connection.execute(
            sql.SQL("alter table operator_sample attach partition {} for values from ({}) to ({})").format(
                name, *(sql.Literal(bound) for bound in bounds)
            )
        )


_ALERT: Final = f"id, condition, subject, message, remedy, {ms('raised_at')}, {ms('recovered_at')}"


def read_alerts(connection: Connection[TupleRow]) -> list[AlertRow]:
    """What stands, and the newest that are over."""
    rows = connection.execute(
        f"(select {_ALERT} from operator_alert where recovered_at is null order by raised_at desc limit {MAX_STANDING})"
        f" union all (select {_ALERT} from operator_alert where recovered_at is not null"
        f" order by recovered_at desc limit {MAX_RECOVERED})"
    ).fetchall()
    return [
        AlertRow(
            id=number,
            condition=condition,
            subject=subject,
            message=message,
            remedy=remedies.of_command(command),
            raised_at_ms=raised_at_ms,
            recovered_at_ms=recovered_at_ms,
        )
        for number, condition, subject, message, command, raised_at_ms, recovered_at_ms in rows
    ]


def write_alert(connection: Connection[TupleRow], alert: AlertRow) -> int | None:
    """Write down that it is raised, or over. The number of a raised one; None when it stands there already."""
    if alert.recovered_at_ms is not None:
        connection.execute(
            "update operator_alert set recovered_at = %s, message = %s"
            " where condition = %s and subject = %s and recovered_at is null",
            [to_time(alert.recovered_at_ms), alert.message, alert.condition, alert.subject],
        )
        return alert.id
    row = connection.execute(
        "insert into operator_alert (condition, subject, message, remedy, raised_at) values (%s, %s, %s, %s, %s)"
        " on conflict (condition, subject) where recovered_at is null do nothing returning id",
        [alert.condition, alert.subject, alert.message, alert.remedy.command, to_time(alert.raised_at_ms)],
    ).fetchone()
    return None if row is None else int(row[0])


def newest_rooms(connection: Connection[TupleRow], now_ms: int) -> dict[str, tuple[int, int]]:
    """Start time and restarts of each room as last written down within the hour."""
    rows = connection.execute(
        "select distinct on (subject) subject, (figures->>'started_at_ms')::bigint, (figures->>'restarts')::bigint"
        " from operator_sample where sampled_at > %s and subject like 'room:%%'"
        " and figures->>'started_at_ms' is not null and figures->>'restarts' is not null"
        " order by subject, sampled_at desc",
        [to_time(now_ms - 3_600_000)],
    ).fetchall()
    return {str(subject).removeprefix("room:"): (int(started), int(restarts)) for subject, started, restarts in rows}


def history(
    connection: Connection[TupleRow], subject: str, from_ms: int, to_ms: int, points: int
) -> list[dict[str, Any]]:
    """Samples of a subject, oldest first, thinned to at most `points`: the last of each stretch of equal length."""
    step_s = max(1.0, (to_ms - from_ms) / 1000 / points)
    rows = connection.execute(
        "select distinct on (stretch) sampled_at, figures from ("
        "  select sampled_at, figures, floor(extract(epoch from sampled_at - %s) / %s) as stretch"
        "  from operator_sample where subject = %s and sampled_at >= %s and sampled_at < %s"
        ") thinned order by stretch, sampled_at desc limit %s",
        [to_time(from_ms), step_s, subject, to_time(from_ms), to_time(to_ms), points],
    ).fetchall()
    return [{"at_ms": (at - EPOCH) // timedelta(milliseconds=1), **figures} for at, figures in rows]
