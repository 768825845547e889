"""What the audit found of one day, from its table: `python -m aggregator.audit_digest [--day D] [--json]`.

For the crontab: a line of counts, the minutes that differ, and which of them need a person. The day is yesterday
(UTC) by default. Exit code 1 when something differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Final

from aggregator.settings import AggregatorSettings
from runtime.clock import SystemClock
from runtime.database import Connection, DatabaseError, TupleRow, connect
from runtime.settings import load

#: Minutes that are listed one by one; the counts tell of all.
MAX_LISTED: Final = 200

COUNTS: Final = """
select state, count(*), count(*) filter (where rechecks > 0), count(*) filter (where tolerances <> '{}')
from minute_audit where open_time >= %s and open_time < %s group by state
"""
REASONS: Final = """
select reason, count(*) from minute_audit
where open_time >= %s and open_time < %s and state = 'not_comparable' group by reason order by 2 desc, 1 limit %s
"""
DIFFERENT: Final = """
select symbol, (extract(epoch from open_time) * 1000)::bigint, differences, rechecks, needs_person from minute_audit
where open_time >= %s and open_time < %s and state = 'different' order by needs_person desc, open_time, symbol limit %s
"""


def digest_of(connection: Connection[TupleRow], day: date) -> dict[str, object]:
    """Counts and the differing minutes of a UTC day, those for a person first (at most MAX_LISTED)."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    span = [start, start + timedelta(days=1)]
    counts = connection.execute(COUNTS, span).fetchall()
    by_state = {state: count for state, count, _, _ in counts}
    names = ("symbol", "open_time", "differences", "rechecks", "needs_person")
    different = connection.execute(DIFFERENT, [*span, MAX_LISTED]).fetchall()
    return {
        "day": day.isoformat(),
        **{state: by_state.get(state, 0) for state in ("equal", "different", "not_comparable")},
        "rechecked": sum(rechecked for _, _, rechecked, _ in counts),
        "tolerated": sum(tolerated for _, _, _, tolerated in counts),
        "not_comparable_reasons": dict(connection.execute(REASONS, [*span, MAX_LISTED]).fetchall()),
        "minutes": [dict(zip(names, row, strict=True)) for row in different],
    }


def main(arguments: list[str]) -> int:
    """Entry point. Exit code 0 nothing differs, 1 something does or the database is away, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m aggregator.audit_digest", description="what the audit found")
    parser.add_argument("--day", type=date.fromisoformat, help="UTC day like 2026-11-21; default yesterday")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    today = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).date()
    try:
        with connect(load(AggregatorSettings).database_url, "audit_digest") as connection:
            found = digest_of(connection, options.day or today - timedelta(days=1))
    except DatabaseError as error:
        sys.stderr.write(f"no digest: {error}\n")
        return 1
    if options.json:
        print(json.dumps(found))
    else:
        print(_text(found))
    return 1 if found["different"] else 0


def _text(found: dict[str, object]) -> str:
    lines = [
        "audit of {day}: {equal} equal, {different} different, {not_comparable} not comparable; "
        "{rechecked} rechecked, {tolerated} within a named tolerance".format(**found)
    ]
    reasons, minutes = found["not_comparable_reasons"], found["minutes"]
    if isinstance(reasons, dict):
        lines += [f"not comparable, {reason}: {count}" for reason, count in reasons.items()]
    if isinstance(minutes, list):
        for row in minutes:
            columns = ", ".join(
                f"{name} ours {ours} theirs {theirs}" for name, (ours, theirs) in row["differences"].items()
            )
            word = "NEEDS A PERSON" if row["needs_person"] else "being rechecked"
            lines.append(f"{row['symbol']} {row['open_time']}: {columns} ({word})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
