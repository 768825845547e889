"""The actions of operators as data, and what may be given to them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from market.errors import UnknownSymbol
from market.symbol import parse_symbol
from runtime.time_text import parse_time_ms

#: Rooms that can be told to pause, and what that does. The relay keeps nothing that a pause could save, and the pages
#: show what is.
PAUSED: Final[Mapping[str, str]] = {
    "producer": "leaves the exchange; all that comes meanwhile is missing, is listed, and is repaired afterwards",
    "inserter": "stops reading and keeps its place; longer than the retention loses records",
    "aggregator": "no candles, no repair, no audit until it goes on",
}
PAUSABLE_ROOMS: Final = tuple(PAUSED)
STAYS_PAUSED: Final = "It stays so over restarts."
MAX_IDS: Final = 1_000
MAX_NAME_CHARS: Final = 200
MAX_RANGE_MS: Final = 31 * 86_400_000


class BadArgument(ValueError):
    """An argument that cannot be used; `allowed` says what can."""

    def __init__(self, name: str, detail: str, allowed: object = None) -> None:
        super().__init__(f"{name}: {detail}")
        self.name, self.detail, self.allowed = name, detail, allowed


@dataclass(frozen=True)
class Argument:
    """One argument of an action. `type`: symbol, time, id, ids, topic or room."""

    name: str
    type: str
    help: str
    required: bool = True


@dataclass(frozen=True)
class Action:
    """What can be asked for, what it does, and the command that does the same."""

    action: str
    effect: str
    command: str
    arguments: tuple[Argument, ...] = ()


_LETTERS: Final = (
    Argument("ids", "ids", f"numbers of dead letters, at most {MAX_IDS}", required=False),
    Argument("topic", "topic", "instead of ids: all dead letters of this topic or stream", required=False),
)
_ALL: Final = (
    Action(
        "repair",
        "Lists the seconds of the range that are missing as open gaps, opens those again that were given up, and has "
        "them filled from the exchange. Where nothing is missing, the stored seconds of at most 5 hours are compared "
        "with the exchange's, and corrected where they differ.",
        "candlewire repair SYMBOL --from TIME --to TIME",
        (
            Argument("symbol", "symbol", "like BTCUSDT"),
            Argument("from", "time", "first second: ms or ISO 8601"),
            Argument("to", "time", "end, exclusive; at most 31 days after it"),
        ),
    ),
    Action(
        "reopen_gap",
        "Opens a gap again that was given up or that the exchange had nothing for; it is asked once more.",
        "candlewire reopen GAP",
        (Argument("id", "id", "number of the gap"),),
    ),
    Action(
        "redrive",
        "Tries dead letters again as if they came now. What is good is stored and the letter removed, in one "
        "transaction; what is still bad stays.",
        "candlewire letters redrive ID...",
        _LETTERS,
    ),
    Action("dismiss", "Deletes dead letters for good.", "candlewire letters dismiss ID...", _LETTERS),
    Action(
        "reset_checkpoint",
        "The inserter goes back to the records of that time and reads on from there. Rows that are stored stay as "
        "they are. It only goes back: forward would lose records.",
        "candlewire checkpoint reset TOPIC --to TIME",
        (
            Argument("topic", "topic", "kline_1s, kline_1m, feed_outage or mini_ticker"),
            Argument("time", "time", "the broker's time of the first record to read again"),
        ),
    ),
    Action(
        "pause",
        " ".join(f"{room}: {effect}." for room, effect in PAUSED.items()) + f" {STAYS_PAUSED}",
        "candlewire pause ROOM",
        (Argument("room", "room", " or ".join(PAUSABLE_ROOMS)),),
    ),
    Action(
        "resume",
        "The room goes on where it stopped.",
        "candlewire resume ROOM",
        (Argument("room", "room", " or ".join(PAUSABLE_ROOMS)),),
    ),
    Action(
        "add_symbol",
        "Follows a symbol of the exchange from now on, beside SYMBOLS, and loads its history. Nothing is restarted.",
        "candlewire symbols add SYMBOL",
        (Argument("symbol", "symbol", "as the exchange spells it"),),
    ),
    Action(
        "remove_symbol",
        "Follows the symbol no longer. What is stored stays; its account of seconds ends where it is now.",
        "candlewire symbols remove SYMBOL",
        (Argument("symbol", "symbol", "one that is followed"),),
    ),
    Action(
        "rotate_tape",
        "Every running candlewire record of this DATA_DIR goes on in a new part; the one before is complete then.",
        "candlewire rotate-tape",
    ),
)
ACTIONS: Final[Mapping[str, Action]] = {action.action: action for action in _ALL}


def parse(action: str, given: object) -> dict[str, Any]:
    """The arguments checked and in one spelling (times in ms). Raises BadArgument; KeyError for an unknown action."""
    wanted = {argument.name: argument for argument in ACTIONS[action].arguments}
    if not isinstance(given, Mapping):
        raise BadArgument("arguments", "an object with the arguments by name is needed", list(wanted))
    unknown = sorted(str(name)[:MAX_NAME_CHARS] for name in given if name not in wanted)
    if unknown:
        raise BadArgument(unknown[0], f"{action} takes no such argument", list(wanted))
    found: dict[str, Any] = {}
    for argument in wanted.values():
        value = given.get(argument.name)
        if value is None or value in ("", []):
            if argument.required:
                raise BadArgument(argument.name, "is needed", argument.help)
            continue
        found[argument.name] = _PARSERS[argument.type](argument.name, value)
    _require_together(action, found)
    return found


def _require_together(action: str, found: Mapping[str, Any]) -> None:
    if action in ("redrive", "dismiss") and len(found) != 1:
        raise BadArgument("ids", "give either ids or topic", ["ids", "topic"])
    if action == "repair" and not 0 < found["to"] - found["from"] <= MAX_RANGE_MS:
        raise BadArgument("to", "must lie after from, at most 31 days", {"after": found["from"]})


def _symbol(name: str, value: object) -> str:
    try:
        return parse_symbol(str(value)[:MAX_NAME_CHARS])
    except UnknownSymbol as error:
        raise BadArgument(name, str(error)) from None


def _time(name: str, value: object) -> int:
    try:
        return parse_time_ms(str(value)[:MAX_NAME_CHARS])
    except (ValueError, OverflowError):
        allowed = "milliseconds since 1970, or ISO 8601"
        raise BadArgument(name, f"{str(value)[:40]!r} is not a time", allowed) from None


def _id(name: str, value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadArgument(name, f"{text[:40]!r} is not a number", "a whole number")
    return int(text)


def _ids(name: str, value: object) -> list[int]:
    if not isinstance(value, list | tuple) or len(value) > MAX_IDS:
        raise BadArgument(name, "is not a list of numbers", {"at most": MAX_IDS})
    return sorted({_id(name, one) for one in value})


def _topic(name: str, value: object) -> str:
    text = str(value)
    if len(text) > MAX_NAME_CHARS or not text.isprintable():
        raise BadArgument(name, "is no name of a topic")
    return text


def _room(name: str, value: object) -> str:
    if value not in PAUSABLE_ROOMS:
        raise BadArgument(name, f"{str(value)[:40]!r} cannot be paused", list(PAUSABLE_ROOMS))
    return str(value)


_PARSERS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "symbol": _symbol,
    "time": _time,
    "id": _id,
    "ids": _ids,
    "topic": _topic,
    "room": _room,
}
