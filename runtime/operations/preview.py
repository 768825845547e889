"""What an action would do now, in words, before anybody confirms it. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.database import Connection, TupleRow
from runtime.kafka_client import KafkaError
from runtime.operations import recordings
from runtime.operations.catalogue import ACTIONS, PAUSED, STAYS_PAUSED
from runtime.operations.perform import MAX_LETTERS, SOME_LETTERS, letters
from runtime.operations.rewind import Rewind, find_targets
from runtime.time_text import iso

_MS: Final = "(extract(epoch from {}) * 1000)::bigint"
_AT: Final = "timestamptz 'epoch' + %s::bigint * interval '1 millisecond'"
CHECKPOINTS: Final = "select partition, next_offset from kline_checkpoint where topic = %s order by partition"
GAPS_IN: Final = f"""
select state, sum(extract(epoch from least(to_time, {_AT}) - greatest(from_time, {_AT})))::bigint from kline_gap
where interval = '1s' and symbol = %s and from_time < {_AT} and to_time > {_AT} group by state order by state
"""
GAP: Final = f"select symbol, {_MS.format('from_time')}, {_MS.format('to_time')}, state from kline_gap where id = %s"
SYMBOL: Final = """
select (select is_followed from market_symbol where symbol = %(symbol)s),
       (select event_time from symbol_watermark where symbol = %(symbol)s and stream = 'kline_1s')
"""


@dataclass(frozen=True)
class Place:
    """Where to look: the broker, and DATA_DIR."""

    kafka_bootstrap_servers: str
    data_dir: Path


def preview(connection: Connection[TupleRow], action: str, arguments: Mapping[str, Any], place: Place) -> str:
    """What would happen now. Raises what the drivers raise."""
    match action:
        case "repair":
            return _repair(connection, arguments)
        case "reopen_gap":
            return _reopen(connection, arguments)
        case "redrive" | "dismiss":
            return _letters(connection, action, arguments)
        case "reset_checkpoint":
            return _rewind(connection, arguments, place)
        case "pause":
            return f"{arguments['room']}: {PAUSED[arguments['room']]}. {STAYS_PAUSED}"
        case "resume":
            return f"{arguments['room']}: {ACTIONS[action].effect}"
        case "add_symbol" | "remove_symbol":
            return _symbol(connection, action, arguments)
        case "rotate_tape":
            names = ", ".join(recordings.running(place.data_dir).values())
            return f"A new part of: {names}." if names else "No recording of this DATA_DIR is running: nothing."
    return ACTIONS[action].effect


def _repair(connection: Connection[TupleRow], arguments: Mapping[str, Any]) -> str:
    start, end, symbol = arguments["from"], arguments["to"], arguments["symbol"]
    rows = connection.execute(GAPS_IN, [end, start, symbol, end, start]).fetchall()
    known = ", ".join(f"{seconds} s {state}" for state, seconds in rows) or "none"
    return (
        f"{symbol} from {iso(start)} to {iso(end)}. Seconds in gaps there now: {known}. What is neither stored nor in "
        "a gap is listed as missing; open, absent and unrepairable seconds are asked for from the exchange. Where "
        "nothing is missing the stored seconds are compared with the exchange's, and corrected where they differ."
    )


def _reopen(connection: Connection[TupleRow], arguments: Mapping[str, Any]) -> str:
    row = connection.execute(GAP, [arguments["id"]]).fetchone()
    if row is None:
        return f"There is no gap {arguments['id']}: nothing."
    symbol, start, end, state = row
    return (
        f"Gap {arguments['id']}, {symbol} from {iso(start)} to {iso(end)} ({(end - start) // 1000} s), is {state}. "
        + ("It becomes open and is asked for again." if state in ("absent", "unrepairable") else "Nothing changes.")
    )


def _letters(connection: Connection[TupleRow], action: str, arguments: Mapping[str, Any]) -> str:
    count = len(connection.execute(SOME_LETTERS, letters(arguments)).fetchall())
    most = f" (at most {MAX_LETTERS} at a time)" if count == MAX_LETTERS else ""
    return f"{count} dead letters{most}. {ACTIONS[action].effect}"


def _rewind(connection: Connection[TupleRow], arguments: Mapping[str, Any], place: Place) -> str:
    stored: dict[int, int] = dict(connection.execute(CHECKPOINTS, [arguments["topic"]]).fetchall())
    if not stored:
        return f"The inserter has no checkpoint of {arguments['topic']!r}: nothing."
    try:
        found = asyncio.run(find_targets(place.kafka_bootstrap_servers, arguments["topic"], stored, arguments["time"]))
    except (KafkaError, OSError, TimeoutError) as error:
        return f"The broker does not answer ({error}), so the number of records cannot be said. " + _EFFECT
    return f"{Rewind(found).words()} {_EFFECT}"


_EFFECT: Final = ACTIONS["reset_checkpoint"].effect


def _symbol(connection: Connection[TupleRow], action: str, arguments: Mapping[str, Any]) -> str:
    symbol = arguments["symbol"]
    row = connection.execute(SYMBOL, {"symbol": symbol}).fetchone()
    is_followed, watermark = row if row is not None else (None, None)
    stands = "is followed" if is_followed else "is not followed"
    ends = "" if watermark is None else f" Its stored seconds end at {watermark.isoformat()}."
    hole = " What lies between then and now is listed as missing and repaired." if ends and not is_followed else ""
    return f"{symbol} {stands} now.{ends} {ACTIONS[action].effect}" + (hole if action == "add_symbol" else "")
