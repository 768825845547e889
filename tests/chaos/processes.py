"""F1 to F5 and F14: processes killed, stopped, doubled; engines killed, paused, full, locked; everything restarted."""

from __future__ import annotations

import functools
import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress

import psycopg

from runtime.clock import sleep_s
from tests.chaos.rig import ROOMS, Rig
from tests.chaos.scenario import Kind, Scenario, Violation
from tests.stack_process import ROOT, wait_for

POINT_DEADLINE_S = 15.0
FENCED_DEADLINE_S = 30.0
FENCED_EXIT_CODE = 3
CATCH_UP_DEADLINE_S = 60.0
#: Topics in which a record is gone 60 to 75 s after it came.
SHORT_RETENTION = {"KAFKA_RETENTION_MS": "60000", "KAFKA_SEGMENT_MS": "5000", "KAFKA_RETENTION_CHECK_MS": "3000"}
GAP_LISTED_MAX_S = 10.0
GAP_FILLED_MAX_S = 60.0
BUFFER_MAX_BYTES = 64 * 1024 * 1024
STOP_MAX_S = 10.0
READY_MAX_S = 60.0


def crash_points(room: str) -> list[str]:
    """Every point that the room's source names."""
    text = "".join(path.read_text("utf-8") for path in sorted((ROOT / room).glob("*.py")))
    return sorted(set(re.findall(r"""crash_point\("(\w+)"\)""", text)))


def kill_at_random(room: str) -> Kind:
    """kill -9 at a moment of the dice."""

    def apply(rig: Rig) -> float:
        sleep_s(rig.rng.uniform(0.0, 2.0))
        pid = rig.signal(room, signal.SIGKILL)
        return _back_and_caught_up(rig, room, pid)

    return Kind(f"kill {room}", 1, apply, 10.0, 18.0)


def kill_at(room: str, point: str, work: Callable[[Rig], None] | None = None) -> Kind:
    """kill -9 of itself at a named point; a point that is not reached in time is said and killed from outside.

    `work` makes that there is something to do that passes the point.
    """

    def apply(rig: Rig) -> float:
        pid = rig.pid(room)
        rig.orders.write_text(point, "utf-8")
        if work is not None:
            work(rig)
        rig.seconds_until(f"crash point {point}", lambda: not rig.orders.exists(), POINT_DEADLINE_S)
        if rig.orders.exists():
            rig.orders.unlink()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return _back_and_caught_up(rig, room, pid)

    return Kind(f"{room} {point}", 1, apply, 10.0, 18.0)


def _back_and_caught_up(rig: Rig, room: str, old_pid: int) -> float:
    start_s = rig.clock.monotonic_s()
    rig.wait_back(room, old_pid)
    rig.catch_up_s(CATCH_UP_DEADLINE_S)
    return rig.clock.monotonic_s() - start_s


def _times(kind: Kind, doses: int) -> Kind:
    return Kind(kind.name, doses, kind.apply, kind.limit_s, kind.about_s)


def f1() -> Scenario:
    """Half of the 100 at random, half at the named points in turn."""
    points = crash_points("inserter")
    at_points = tuple(_times(kill_at("inserter", point), -(-50 // len(points))) for point in points)
    return Scenario("F1", "kill -9 of the inserter", (_times(kill_at_random("inserter"), 50), *at_points))


def stopped(seconds: float) -> Kind:
    """SIGSTOP of the inserter; beyond the retention a gap is listed in time and filled in time."""

    def apply(rig: Rig) -> float:
        newest_before = newest_gap(rig)
        with rig.paused("inserter"):
            sleep_s(seconds)
        if seconds < 60:
            took_s = rig.catch_up_s(CATCH_UP_DEADLINE_S)
            if newest_gap(rig) > newest_before:
                raise Violation(f"a gap after {seconds:.0f} s, though the log still had everything")
            return took_s
        return gap_listed_and_filled(rig, newest_before)

    return Kind(f"stop {seconds:.0f} s", 10, apply, GAP_FILLED_MAX_S, seconds + 25)


def newest_gap(rig: Rig) -> int:
    """When the newest gap was detected, microseconds; the parts of a gap that is being repaired keep its time."""
    query = "select coalesce(max((extract(epoch from detected_at) * 1000000)::bigint), 0) from kline_gap"
    [(newest,)] = rig.rows(f"{query} where interval = '1s'") or [(0,)]
    return int(newest)


def gap_listed_and_filled(rig: Rig, newest_before: int) -> float:
    """From now: a new gap row within GAP_LISTED_MAX_S; how long until no gap is open. Raises Violation."""
    start_s = rig.clock.monotonic_s()
    listed_s = rig.seconds_until("a gap row", lambda: newest_gap(rig) > newest_before, GAP_LISTED_MAX_S)
    if listed_s > GAP_LISTED_MAX_S:
        raise Violation(f"no gap row {GAP_LISTED_MAX_S:.0f} s after the resume")
    rig.catch_up_s(CATCH_UP_DEADLINE_S)
    filled_s = rig.seconds_until("all gaps to be filled", lambda: rig.open_work()["open gaps"] == 0, GAP_FILLED_MAX_S)
    if filled_s > GAP_FILLED_MAX_S:
        raise Violation(f"{rig.open_work()['open gaps']} gaps are open {GAP_FILLED_MAX_S:.0f} s after the resume")
    return rig.clock.monotonic_s() - start_s


def f2() -> Scenario:
    """Shorter than the retention of 60 s, and longer."""
    kinds = (stopped(20), stopped(45), stopped(90))
    return Scenario("F2", "SIGSTOP of the inserter, records live 60 s", kinds, SHORT_RETENTION)


def second_inserter(zombie_s: float) -> Kind:
    """A second inserter takes over; the first, which slept meanwhile if zombie_s > 0, must end non-zero."""

    def apply(rig: Rig) -> float:
        epoch = _epoch(rig)
        first = rig.pid("inserter")
        if zombie_s:
            os.kill(first, signal.SIGSTOP)
        second = rig.spawn("inserter")
        try:
            wait_for("the second to take over", lambda: _epoch(rig) > epoch, FENCED_DEADLINE_S)
            sleep_s(zombie_s)
            if zombie_s:
                os.kill(first, signal.SIGCONT)
            start_s = rig.clock.monotonic_s()
            wait_for("the fenced one to end", lambda: rig.pid("inserter") != first, FENCED_DEADLINE_S)
            code = second.wait(FENCED_DEADLINE_S)
        finally:
            second.kill()
            second.wait()
        if code != FENCED_EXIT_CODE:
            raise Violation(f"the second inserter ended with {code}, fenced is {FENCED_EXIT_CODE}")
        rig.catch_up_s(CATCH_UP_DEADLINE_S)
        return rig.clock.monotonic_s() - start_s

    name = f"zombie {zombie_s:.0f} s" if zombie_s else "two inserters"
    return Kind(name, 10, apply, 60.0, zombie_s + 30)


def _epoch(rig: Rig) -> int:
    [(epoch,)] = rig.rows("select coalesce(max(epoch), 0) from kline_checkpoint") or [(0,)]
    return int(epoch)


def f3() -> Scenario:
    """Fencing."""
    return Scenario("F3", "two inserters, a zombie", (second_inserter(0), second_inserter(90)))


def broker_paused(seconds: float) -> Kind:
    """SIGSTOP of the broker: the producer goes on reading the exchange, within its buffer."""

    def apply(rig: Rig) -> float:
        before = rig.metric("producer", "ingest_messages_total")
        with rig.paused("kafka"):
            sleep_s(seconds)
            received = rig.metric("producer", "ingest_messages_total") - before
            held = rig.metric("producer", "produce_buffer_bytes")
        if received < rig.symbols * seconds / 2:
            raise Violation(f"only {received:.0f} messages were read from the exchange in {seconds:.0f} s")
        if held > BUFFER_MAX_BYTES:
            raise Violation(f"the producer held {held:.0f} bytes")
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind(f"broker paused {seconds:.0f} s", 10, apply, 45.0, seconds + 15)


def engine_killed(name: str, number: signal.Signals, doses: int) -> Kind:
    """The engine ends at once, and is started again by its supervisor."""

    def apply(rig: Rig) -> float:
        pid = rig.signal(name, number)
        start_s = rig.clock.monotonic_s()
        rig.wait_back(name, pid)
        rig.catch_up_s(CATCH_UP_DEADLINE_S)
        return rig.clock.monotonic_s() - start_s

    return Kind(f"{name} {number.name}", doses, apply, 45.0, 20.0)


def disk_full(name: str, seconds: float) -> Kind:
    """Nothing more can be written; it ends, or refuses, and comes back when there is room."""

    def apply(rig: Rig) -> float:
        with rig.full_disk(name):
            sleep_s(seconds)
        wait_for(f"{name} to be back", lambda: rig.is_ready(name), CATCH_UP_DEADLINE_S)
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind(f"{name} disk full", 3, apply, 60.0, seconds + 30)


def f4() -> Scenario:
    """The broker."""
    kinds = (engine_killed("kafka", signal.SIGKILL, 20), broker_paused(30), disk_full("kafka", 20))
    return Scenario("F4", "broker killed, paused, full", kinds, disks=("kafka",))


def connections_killed() -> Kind:
    """Every session of the rooms is terminated by the database."""

    def apply(rig: Rig) -> float:
        rig.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and backend_type = 'client backend' and application_name <> 'chaos'"
        )
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind("sessions killed", 20, apply, 35.0, 8.0)


def table_locked(seconds: float) -> Kind:
    """The table of rows is locked by somebody."""

    def apply(rig: Rig) -> float:
        with rig.connect() as connection, connection.transaction():
            with suppress(psycopg.errors.LockNotAvailable):
                connection.execute("lock table kline_1s in access exclusive mode")
            sleep_s(seconds)
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind(f"table locked {seconds:.0f} s", 20, apply, 35.0, seconds + 10)


def statement_timeout() -> Kind:
    """Each insert of rows ends as one does that takes longer than a statement may (SQLSTATE 57014)."""

    def apply(rig: Rig) -> float:
        rig.execute(
            "create or replace function chaos_refuse() returns trigger language plpgsql as $$ begin"
            " raise exception 'canceling statement due to statement timeout' using errcode = '57014'; end $$;"
            "create trigger chaos_refuse before insert on kline_1s for each statement execute function chaos_refuse()"
        )
        sleep_s(15.0)
        rig.execute("drop trigger chaos_refuse on kline_1s")
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind("statement timeout", 20, apply, 35.0, 25.0)


def f5() -> Scenario:
    """The database."""
    kinds = (
        engine_killed("postgres", signal.SIGQUIT, 20), connections_killed(), table_locked(30), statement_timeout(),
        disk_full("postgres", 20),
    )  # fmt: skip
    return Scenario("F5", "database stopped, locked, full", kinds, disks=("postgres",))


def all_ready(rig: Rig) -> None:
    """Wait until every room is. Raises Violation after READY_MAX_S."""
    for name in ROOMS:
        took_s = rig.seconds_until(f"{name} to be ready", functools.partial(rig.is_ready, name), READY_MAX_S)
        if took_s > READY_MAX_S:
            raise Violation(f"{name} was not ready {READY_MAX_S:.0f} s after the start")


def rooms_in_random_order() -> Kind:
    """SIGTERM to every room in an order of the dice; each ends in time and is ready again."""

    def apply(rig: Rig) -> float:
        all_ready(rig)
        start_s = rig.clock.monotonic_s()
        pids = {}
        for name in rig.rng.sample(ROOMS, len(ROOMS)):
            pids[name] = rig.signal(name, signal.SIGTERM)
            sleep_s(rig.rng.uniform(0.0, 0.5))
        for name, pid in pids.items():
            took_s = rig.seconds_until(f"{name} to end", functools.partial(rig.is_gone, name, pid), STOP_MAX_S)
            if took_s > STOP_MAX_S:
                raise Violation(f"{name} had not ended {STOP_MAX_S:.0f} s after SIGTERM")
        for name, pid in pids.items():
            rig.wait_back(name, pid)
        rig.catch_up_s(CATCH_UP_DEADLINE_S)
        return rig.clock.monotonic_s() - start_s

    return Kind("SIGTERM rooms", 25, apply, 60.0, 20.0)


def everything_restarted() -> Kind:
    """Rooms, broker, database, exchange stop; then start in an order of the dice, the rooms often before the rest."""

    def apply(rig: Rig) -> float:
        start_s = rig.clock.monotonic_s()
        rig.rooms.stop()
        took_s = rig.clock.monotonic_s() - start_s
        if took_s > STOP_MAX_S:
            raise Violation(f"the stack took {took_s:.1f} s to stop")
        rig.stop_sim()
        held = {name: rig.signal(name, signal.SIGSTOP) for name in ("kafka", "postgres", "valkey")}
        steps = ["rooms", "sim", *held]
        rig.rng.shuffle(steps)
        start_s = rig.clock.monotonic_s()
        for step in steps:
            if step == "rooms":
                rig.rooms.launch()
            elif step == "sim":
                rig.start_sim()
            else:
                os.kill(held[step], signal.SIGCONT)
            sleep_s(rig.rng.uniform(0.0, 2.0))
        rig.rooms.wait_ready()
        all_ready(rig)
        rig.catch_up_s(CATCH_UP_DEADLINE_S)
        return rig.clock.monotonic_s() - start_s

    return Kind("all restarted", 25, apply, 60.0, 35.0)


def f14() -> Scenario:
    """Stop and start in any order."""
    return Scenario("F14", "SIGTERM and start in random order", (rooms_in_random_order(), everything_restarted()))


def kills() -> Scenario:
    """Every process and engine once."""
    engines = (engine_killed("kafka", signal.SIGKILL, 1), engine_killed("postgres", signal.SIGKILL, 1))
    victims = ("producer", "inserter", "aggregator", "flask_stream")
    points = (kill_at("producer", point) for point in crash_points("producer"))
    rooms = tuple(Kind(k.name, 1, k.apply, 60.0, k.about_s) for k in (*map(kill_at_random, victims), *points))
    return Scenario("KILLS", "kill -9 of everything once, of the producer at every named point", (*rooms, *engines))
