"""What runs, and is it ready: read from the description of the newest start and asked of each room."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil

from runtime.operations.room_control import chosen, kept
from runtime.symbol_choice import SymbolChoice
from stack.layout import Layout
from stack.rooms import engine_probes

PROBE_TIMEOUT_S = 0.6
MAX_REASON_CHARACTERS = 300


@dataclass(frozen=True)
class RoomStatus:
    """One room or engine as it is now. `reason` says why it is not ready."""

    name: str
    pid: int | None
    state: str
    ready: bool
    restarts: int
    health_url: str | None
    log: str
    reason: str = ""

    @property
    def waits_for_exchange(self) -> bool:
        """True when nothing but the exchange keeps it from being ready: it will go on by itself."""
        reasons = [part for part in self.reason.split("; ") if part != "starting"]
        return not self.ready and bool(reasons) and all("exchange" in part for part in reasons)

    def as_json(self) -> dict[str, object]:
        """The shape of contract.md."""
        return {
            "name": self.name,
            "pid": self.pid,
            "state": self.state,
            "ready": self.ready,
            "restarts": self.restarts,
            "health_url": self.health_url,
            "log": self.log,
        }


def running_pid(layout: Layout) -> int | None:
    """Process id of the `candlewire up` that holds this DATA_DIR, or None."""
    try:
        with open(layout.lock, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def description(layout: Layout) -> dict[str, Any] | None:
    """What the newest start wrote down, or None if there was none."""
    try:
        found: dict[str, Any] = json.loads(layout.description.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def stack_environment(layout: Layout) -> dict[str, str]:
    """Our own environment, and where the stack of this DATA_DIR is; what the caller gives goes first."""
    found = description(layout) or {}
    urls = found.get("urls", {})
    told = {
        "SOURCE": found.get("source"),
        "SYMBOLS": ",".join(found.get("symbols", [])),
        "DATABASE_URL": found.get("database_url"),
        "ANALYST_DATABASE_URL": found.get("analyst_database_url"),
        "KAFKA_BOOTSTRAP_SERVERS": found.get("kafka_bootstrap_servers"),
        "CELERY_BROKER_URL": found.get("celery_broker_url"),
        "EXCHANGE_WS_URL": urls.get("exchange_ws"),
        "EXCHANGE_REST_URL": urls.get("exchange_rest"),
    }
    resolved = {name: str(value) for name, value in told.items() if value}
    # SOURCE=auto is a question that the start has answered.
    given = {name: value for name, value in os.environ.items() if not (name == "SOURCE" and value == "auto")}
    return {**resolved, **given, "DATA_DIR": str(layout.data_dir)}


def starts_of(layout: Layout, name: str) -> list[int]:
    """Process ids of every start since `candlewire up`, oldest first."""
    try:
        return [int(line) for line in layout.starts(name).read_text("utf-8").split()]
    except (OSError, ValueError):
        return []


def is_alive(pid: int) -> bool:
    """True when the process is there and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def ask_ready(health_url: str) -> tuple[bool, str]:
    """Ask a room's /readyz; returns whether it is ready, else why not."""
    parts = urlsplit(health_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            return True, ""
        reasons = json.loads(body).get("reasons", [])
        return False, "; ".join(map(str, reasons))[:MAX_REASON_CHARACTERS]
    except TimeoutError:
        return False, "does not answer"
    except (OSError, http.client.HTTPException):
        return False, "starting"
    except ValueError:
        return False, "its health answer cannot be read"
    finally:
        connection.close()


def room_status(layout: Layout, room: Mapping[str, Any], ports: Mapping[str, int]) -> RoomStatus:
    """One room as it is now."""
    name = str(room["name"])
    pids = starts_of(layout, name)
    alive = bool(pids) and is_alive(pids[-1])
    if not alive:
        ready, reason = False, "restarting" if pids else "starting"
    elif room["health_url"] is not None:
        ready, reason = ask_ready(str(room["health_url"]))
    else:
        ready = engine_probes(ports)[name]()
        reason = "" if ready else "starting"
    return RoomStatus(
        name=name,
        pid=pids[-1] if alive else None,
        state=("running" if ready else "starting") if alive else "restarting",
        ready=ready,
        restarts=max(0, len(pids) - 1),
        health_url=room["health_url"],
        log=str(room["log"]),
        reason=reason,
    )


def rooms_status(layout: Layout, rooms: Sequence[Mapping[str, Any]], ports: Mapping[str, int]) -> list[RoomStatus]:
    """All rooms, asked at the same time: those that hang cost one time-out together."""
    with ThreadPoolExecutor(max(1, len(rooms))) as pool:
        return list(pool.map(lambda room: room_status(layout, room, ports), rooms))


def stack_status(layout: Layout) -> dict[str, Any]:
    """The whole stack in the shape of contract.md; `rooms` are RoomStatus here."""
    found = description(layout)
    if found is None:
        return {"ready": False, "source": None, "symbols": [], "urls": {}, "rooms": []}
    rooms = rooms_status(layout, found.pop("rooms"), found.pop("ports"))
    if running_pid(layout) is None:
        rooms = [
            RoomStatus(
                room.name,
                room.pid,
                "stopped" if room.pid is None else room.state,
                False,
                room.restarts,
                room.health_url,
                room.log,
                "not started",
            )
            for room in rooms
        ]
    ready = bool(rooms) and all(room.ready for room in rooms) and bool(found.pop("topics_applied", True))
    return {"ready": ready, **found, "symbols": symbols(layout, found), "rooms": rooms}


def symbols(layout: Layout, found: Mapping[str, Any]) -> list[str]:
    """The symbols that are followed: those of a description (for `top:N` what it means, as soon as a room has asked),
    and what operators have added and removed since."""
    wanted: list[str] = found["symbols"]
    choice = SymbolChoice(",".join(wanted), found["source"], found["urls"]["exchange_rest"], layout.data_dir)
    return chosen(choice.stored() or wanted, kept(layout.data_dir, "producer").choices)
