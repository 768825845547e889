"""F9 and F10: the worker's tasks doubled, killed, late; the log cut, made anew, its checkpoint lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext

from aggregator.celery_app import app
from market.topics import Topic
from runtime.clock import sleep_s
from runtime.kafka_client import KafkaError, load_topics
from tests import own_topics
from tests.chaos.processes import GAP_FILLED_MAX_S, crash_points, gap_listed_and_filled, kill_at, newest_gap
from tests.chaos.rig import Rig
from tests.chaos.scenario import Kind, Scenario, Violation

BACKLOG_MAX_S = 60.0
BEAT_S = 10.0
CATCH_UP_DEADLINE_S = 60.0
LATE_MAX_S = 120.0
MAX_RESTARTS = 2
UNREAD_DEADLINE_S = 30.0
EVERYTHING = -1


def two_beats() -> Kind:
    """A second beat orders everything a second time."""

    def apply(rig: Rig) -> float:
        second = rig.spawn("aggregator", "beat")
        sleep_s(BEAT_S)
        second.kill()
        second.wait()
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind("beat twice", 10, apply, 15.0, BEAT_S + 5)


def delivered_three_times() -> Kind:
    """Each task of the roll-up arrives three times."""

    def apply(rig: Rig) -> float:
        app.conf.update(broker_url=rig.rooms.environment["CELERY_BROKER_URL"])
        for _ in range(3):
            app.send_task("aggregator.roll_up")
        return rig.catch_up_s(CATCH_UP_DEADLINE_S)

    return Kind("delivered 3 x", 10, apply, 15.0, 3.0)


def backlog() -> Kind:
    """The worker stands while every minute of the last ten is marked; cleared in time."""

    def apply(rig: Rig) -> float:
        with rig.paused("aggregator"):
            rig.execute(
                "insert into dirty_minute (symbol, open_time) select distinct symbol, date_trunc('minute', open_time)"
                " from kline_1s where open_time > now() - interval '11 min'"
                " on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1"
            )
            sleep_s(5.0)
        return rig.seconds_until("the backlog", lambda: rig.open_work()["dirty minutes"] == 0, BACKLOG_MAX_S)

    return Kind("backlog 10 min", 10, apply, BACKLOG_MAX_S, 15.0)


def late_bars() -> Kind:
    """A closed bar is missing, and comes up to LATE_MAX_S late, exactly as the exchange had it."""

    def apply(rig: Rig) -> float:
        symbol = _symbol(rig)
        last = newest_gap(rig)
        rig.sim_fault("drop_kline", count=1, stream=f"{symbol.lower()}@kline_1s")
        listed_s = rig.seconds_until("the gap of the missing bar", lambda: newest_gap(rig) > last, 10.0)
        if listed_s > 10.0:
            raise Violation("a missing bar was not listed in 10 s")
        query = "select extract(epoch from min(from_time))::bigint * 1000 from kline_gap where symbol = %s"
        [(second,)] = rig.rows(f"{query} and (extract(epoch from detected_at) * 1000000)::bigint > %s", symbol, last)
        if second is None:
            raise Violation(f"the gap is not one of {symbol}")
        sleep_s(rig.rng.choice((0.0, 2.0, 10.0)))
        late = rig.truth().second(symbol, int(second))
        asyncio.run(own_topics.send(_servers(rig), load_topics().kline_1s, [late]))
        wanted = "select 1 from kline_1s where symbol = %s and open_time = to_timestamp(%s / 1000.0)"
        return rig.seconds_until("the late bar", lambda: rig.rows(wanted, symbol, int(second)), LATE_MAX_S)

    return Kind("late bar", 10, apply, 15.0, 12.0)


def _symbol(rig: Rig) -> str:
    return str(rig.rng.choice(sorted(rig.rows("select symbol from symbol_watermark where stream = 'kline_1s'")))[0])


def _work_for(point: str) -> Callable[[Rig], None]:
    """What makes the worker pass the point, where the live line does not by itself."""
    if "repair" in point:
        return lambda rig: rig.sim_fault("drop_kline", count=2, stream="@kline_1s")
    if "suspect" in point:
        return lambda rig: rig.execute(
            "insert into suspect_range (symbol, from_time, to_time, reason) select symbol, open_time,"
            " open_time + interval '2 s', 'trade_chain' from kline_1s order by open_time desc limit 1"
            " on conflict do nothing"
        )
    return lambda rig: rig.execute(
        "insert into dirty_minute (symbol, open_time) select symbol, date_trunc('minute', min(open_time)) from kline_1s"
        " group by symbol on conflict (symbol, open_time) do update set marks = dirty_minute.marks + 1"
    )


def f9() -> Scenario:
    """Tasks."""
    points = tuple(
        Kind(kind.name, 5, kind.apply, 60.0, 12.0)
        for kind in (kill_at("aggregator", point, _work_for(point)) for point in crash_points("aggregator"))
    )
    kinds = (two_beats(), delivered_three_times(), backlog(), late_bars(), *points)
    return Scenario("F9", "tasks twice, killed, late", kinds)


def _servers(rig: Rig) -> str:
    return f"127.0.0.1:{rig.broker.target_port}"


def log_start_jumps(stopped_s: float = 8.0) -> Kind:
    """Records that the inserter has not read are gone when it starts."""

    def apply(rig: Rig) -> float:
        last = newest_gap(rig)
        pid = rig.signal("inserter", signal.SIGSTOP)
        sleep_s(stopped_s)
        topic = load_topics().kline_1s
        rig.seconds_until("records that it has not read", lambda: _has_unread(rig, topic), UNREAD_DEADLINE_S)
        before = dict.fromkeys(range(topic.partitions), EVERYTHING)
        asyncio.run(own_topics.expire(_servers(rig), topic, before))
        os.kill(pid, signal.SIGKILL)
        rig.wait_back("inserter", pid)
        return gap_listed_and_filled(rig, last)

    return Kind("log start jumps", 10, apply, GAP_FILLED_MAX_S, 25.0)


def _has_unread(rig: Rig, topic: Topic) -> bool:
    ends = asyncio.run(own_topics.ends(_servers(rig), topic))
    read = dict(rig.rows("select partition, next_offset from kline_checkpoint where topic = %s", topic.name))
    return any(end > read.get(partition, end) for partition, end in ends.items())


def topic_made_again() -> Kind:
    """The topic of the rows is deleted and made anew: offsets begin at 0, under another id."""

    def apply(rig: Rig) -> float:
        topics, servers = load_topics(), _servers(rig)
        pid = rig.pid("inserter")
        starts = rig.starts("inserter")
        asyncio.run(own_topics.delete(servers, topics.kline_1s))
        sleep_s(rig.rng.uniform(0.0, 3.0))
        rig.seconds_until("the topic to be made", lambda: _made(servers), 30.0)
        took_s = rig.catch_up_s(120.0)
        if rig.starts("inserter") - starts > MAX_RESTARTS:
            raise Violation(f"the inserter (pid {pid}) ended {rig.starts('inserter') - starts} times")
        return took_s

    def _made(servers: str) -> bool:
        try:
            asyncio.run(own_topics.create(servers, load_topics()))
        except KafkaError:
            return False
        return True

    return Kind("topic made again", 10, apply, 90.0, 45.0)


def checkpoint_lost() -> Kind:
    """The rows of the checkpoint are deleted: the inserter begins with the log and changes nothing by it."""

    def apply(rig: Rig) -> float:
        starts = rig.starts("inserter")
        with rig.watch.forgetting("checkpoint", "epoch") if rig.watch else nullcontext():
            rig.execute("delete from kline_checkpoint where topic = 'kline_1s'")
        took_s = rig.catch_up_s(CATCH_UP_DEADLINE_S)
        if rig.starts("inserter") - starts > MAX_RESTARTS:
            raise Violation(f"the inserter ended {rig.starts('inserter') - starts} times")
        return took_s

    return Kind("checkpoint lost", 10, apply, 45.0, 15.0)


def f10() -> Scenario:
    """Offsets."""
    kinds = (log_start_jumps(), topic_made_again(), checkpoint_lost())
    return Scenario("F10", "log cut, topic made again, checkpoint lost", kinds)
