"""The inserter on real engines: rows, ledger and checkpoint are one thing, whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from inserter.consume import Inserter
from inserter.settings import InserterSettings
from market.feed import BadFrameRecord, FeedOutage, GapCause
from market.kline import Kline
from market.record_codec import encode_record
from market.stream import Stream
from market.topics import Topics
from producer.outages import start_mark
from runtime.clock import SystemClock
from runtime.errors import Fenced
from runtime.health import Health
from runtime.lifecycle import Stop
from tests import own_topics
from tests.conftest import Engines
from tests.klines_of import seconds_of
from tests.stack_process import ROOT

WAIT_S = 30.0
POLL_S = 0.05
NOW_MS = SystemClock().now_ms() // 60_000 * 60_000 - 3_600_000


@dataclass
class Line:
    """A database, topics and the means to look at them."""

    engines: Engines
    database_url: str
    topics: Topics
    topics_file: Path

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query, values).fetchall()

    async def send(self, *klines: Kline | bytes) -> None:
        await own_topics.send(self.engines.kafka_bootstrap_servers, self.topics.kline_1s, klines, key=b"one")

    async def until(self, what: str, probe: Callable[[], bool]) -> None:
        clock = SystemClock()
        end_s = clock.monotonic_s() + WAIT_S
        while not probe():
            assert clock.monotonic_s() < end_s, f"waited {WAIT_S:.0f} s for {what}"
            await asyncio.sleep(POLL_S)

    async def until_read(self, offset: int) -> None:
        """Until the checkpoint of the partition that key `one` lies in has come to `offset`."""
        await self.until(f"checkpoint {offset}", lambda: self.checkpoint() >= offset)

    def checkpoint(self) -> int:
        name = self.topics.kline_1s.name
        return int(self.rows("select coalesce(max(next_offset), 0) from kline_checkpoint where topic = %s", name)[0][0])

    def gaps(self) -> list[tuple[int, int, str, str, str | None]]:
        """from and to in seconds after NOW_MS, cause, state, resolver."""
        return [
            ((a - NOW_MS) // 1000, (b - NOW_MS) // 1000, cause, state, by)
            for a, b, cause, state, by in self.rows(
                "select (extract(epoch from from_time) * 1000)::bigint, (extract(epoch from to_time) * 1000)::bigint,"
                " cause, state, resolved_by from kline_gap order by from_time, to_time"
            )
        ]

    def seconds(self) -> list[int]:
        return [
            (a - NOW_MS) // 1000
            for (a,) in self.rows(
                "select (extract(epoch from open_time) * 1000)::bigint from kline_1s order by open_time, symbol"
            )
        ]

    def settings(self, **changes: Any) -> InserterSettings:
        return InserterSettings(
            database_url=self.database_url, kafka_bootstrap_servers=self.engines.kafka_bootstrap_servers, **changes
        )

    @asynccontextmanager
    async def inserter(self, **changes: Any) -> AsyncIterator[tuple[asyncio.Task[None], Health]]:
        """A running inserter in this process, stopped at the end; its own error is for the test to look at."""
        stop, health = Stop(), Health("inserter")
        inserter = Inserter(self.settings(**changes), health, SystemClock(), stop, topics=self.topics)
        task = asyncio.create_task(inserter.run())
        try:
            yield task, health
        finally:
            stop.set()
            await asyncio.wait([task], timeout=WAIT_S)
            assert task.done()


@pytest.fixture
def line(engines: Engines, fresh_database: str, tmp_path: Path) -> Line:
    """Own topics and an own database."""
    topics = own_topics.renamed(fresh_database.rsplit("/", 1)[1])
    asyncio.run(own_topics.create(engines.kafka_bootstrap_servers, topics))
    return Line(engines, fresh_database, topics, own_topics.write_file(topics, tmp_path / "topics.toml"))


@contextmanager
def process(line: Line, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The inserter as a process, killed at the end."""
    environment = {**os.environ, **line.engines.environment, "DATABASE_URL": line.database_url, **variables}
    command = [sys.executable, "-m", "tests.inserter_process", str(line.topics_file)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as running:
        try:
            yield running
        finally:
            running.kill()


def run_until_dead(line: Line, **variables: str) -> int:
    """The inserter as a process; its return code."""
    with process(line, **variables) as running:
        return running.wait(WAIT_S)


@pytest.mark.parametrize("point", ["before_rows", "after_rows", "before_commit", "after_commit", "after_kafka_commit"])
async def test_kill_at_every_step_loses_and_doubles_nothing(line: Line, point: str) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 40)
    await line.send(*klines[:20])
    assert await asyncio.to_thread(run_until_dead, line, CRASH_POINT=point) == -9
    assert line.checkpoint() == (20 if point in ("after_commit", "after_kafka_commit") else 0)
    assert len(line.seconds()) == line.checkpoint()
    await line.send(*klines[20:])
    async with line.inserter():
        await line.until_read(40)
    assert line.seconds() == list(range(40))
    assert line.gaps() == []
    [(epoch,)] = line.rows("select distinct epoch from kline_checkpoint")
    assert epoch == 2


async def test_second_reading_changes_nothing(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 30)
    await line.send(*klines)
    async with line.inserter():
        await line.until_read(30)
        before = line.rows("select xmin::text, * from kline_1s order by open_time")
        await line.send(*klines[10:20], klines[5])
        await line.until_read(41)
    assert line.rows("select xmin::text, * from kline_1s order by open_time") == before
    assert line.gaps() == []


async def test_newer_event_replaces_and_older_does_not(line: Line) -> None:
    [kline] = seconds_of("BTCUSDT", NOW_MS, 1)
    newer = msgspec.structs.replace(kline, trade_count=77, event_time_ms=kline.event_time_ms + 5)
    older = msgspec.structs.replace(kline, trade_count=66, event_time_ms=kline.event_time_ms - 5)
    async with line.inserter():
        for count, record in enumerate((kline, newer, older), start=1):
            await line.send(record)
            await line.until_read(count)
    assert line.rows("select trade_count from kline_1s") == [(77,)]


async def test_newer_inserter_fences_the_older(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 20)
    await line.send(*klines[:10])
    async with line.inserter() as (first, _):
        await line.until_read(10)
        async with line.inserter() as (second, _):
            await line.until("the newer epoch", lambda: line.rows("select max(epoch) from kline_checkpoint") == [(2,)])
            await line.send(*klines[10:])
            await line.until_read(20)
            await asyncio.wait([first], timeout=WAIT_S)
            assert isinstance(first.exception(), Fenced)
            assert not second.done()
    assert line.seconds() == list(range(20))


async def test_copy_and_single_rows_write_the_same(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 400) + seconds_of("ETHUSDT", NOW_MS, 400)
    await line.send(*klines)
    columns = "select symbol, open_time, close_time, open, high, low, close, base_volume, quote_volume, trade_count,"
    columns += " taker_buy_base_volume, taker_buy_quote_volume, first_trade_id, last_trade_id, event_time, received_at"
    found = []
    for copy_min_rows in (0, 1_000_000):
        async with line.inserter(inserter_copy_min_rows=copy_min_rows):
            await line.until_read(800)
        found.append(line.rows(f"{columns} from kline_1s order by symbol, open_time"))
        with psycopg.connect(line.database_url) as connection:
            connection.execute("truncate kline_1s, symbol_watermark, dirty_minute, kline_checkpoint")
    assert len(found[0]) == 800
    assert found[0] == found[1]
    by_key = {(kline.symbol, kline.open_time_ms): kline for kline in klines}
    for row in found[0]:
        kline = by_key[row[0], int(row[1].timestamp() * 1000)]
        assert (row[3], row[4], row[5], row[6]) == (kline.open, kline.high, kline.low, kline.close)
        assert (row[7], row[9], row[12]) == (kline.base_volume, kline.trade_count, kline.first_trade_id)
        assert round(row[14].timestamp() * 1000) == kline.event_time_ms


async def test_hole_is_a_gap_and_late_rows_repair_it(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 30)
    async with line.inserter():
        await line.send(*klines[:10], *klines[20:])
        await line.until_read(20)
        assert line.gaps() == [(10, 20, "unknown", "open", None)]
        await line.send(klines[15])
        await line.until_read(21)
        assert line.gaps() == [
            (10, 15, "unknown", "open", None),
            (15, 16, "unknown", "repaired", "stream"),
            (16, 20, "unknown", "open", None),
        ]
        await line.send(*klines[10:15], *klines[16:20])
        await line.until_read(30)
    assert line.gaps() == [(10, 20, "unknown", "repaired", "stream")]
    assert line.seconds() == list(range(30))
    assert line.rows("select marks > 1 from dirty_minute") == [(True,)]


async def test_outage_gives_the_cause_before_or_after_the_hole(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 50)

    def outage(cause: GapCause, from_s: int, to_s: int | None) -> FeedOutage:
        return FeedOutage(
            symbol="BTCUSDT",
            stream="kline_1s",
            cause=cause,
            from_time_ms=NOW_MS + from_s * 1000 + 400,
            to_time_ms=None if to_s is None else NOW_MS + to_s * 1000,
            detail="test",
            event_time_ms=NOW_MS,
        )

    servers, topic = line.engines.kafka_bootstrap_servers, line.topics.feed_outage
    async with line.inserter():
        await own_topics.send(servers, topic, [outage(GapCause.DISCONNECT, 10, None)])
        await line.until("the outage", lambda: line.rows("select count(*) from feed_outage") == [(1,)])
        await line.send(*klines[:10], *klines[20:30], *klines[40:])
        await line.until_read(30)
        assert line.gaps() == [(10, 20, "disconnect", "open", None), (30, 40, "disconnect", "open", None)]
        await own_topics.send(servers, topic, [outage(GapCause.DISCONNECT, 10, 20)])
        await line.until(
            "the end of the outage",
            lambda: line.rows("select count(*) from feed_outage where to_time > now()") == [(0,)],
        )
    assert line.rows("select cause, to_time is not null from feed_outage") == [("disconnect", True)]


async def test_outage_reported_late_explains_the_gap(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 20)
    report = FeedOutage(
        symbol="BTCUSDT",
        stream="kline_1s",
        cause=GapCause.SILENCE,
        from_time_ms=NOW_MS + 5_300,
        to_time_ms=NOW_MS + 15_000,
        detail="test",
        event_time_ms=NOW_MS,
    )
    async with line.inserter():
        await line.send(*klines[:5], *klines[15:])
        await line.until_read(10)
        assert line.gaps() == [(5, 15, "unknown", "open", None)]
        await own_topics.send(line.engines.kafka_bootstrap_servers, line.topics.feed_outage, [report])
        await line.until("the cause", lambda: line.gaps() == [(5, 15, "silence", "open", None)])


async def _expire(line: Line, before: int) -> None:
    partition = int(
        line.rows(
            "select partition from kline_checkpoint where topic = %s and next_offset > 0", line.topics.kline_1s.name
        )[0][0]
    )
    await own_topics.expire(line.engines.kafka_bootstrap_servers, line.topics.kline_1s, {partition: before})


async def test_log_start_past_the_checkpoint_is_a_gap_not_a_crash(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 60)
    await line.send(*klines[:10])
    async with line.inserter():
        await line.until_read(10)
    await line.send(*klines[10:40])
    await _expire(line, 30)
    await line.send(*klines[40:])
    async with line.inserter() as (task, _):
        await line.until_read(60)
        assert not task.done()
    assert line.gaps() == [(10, 30, "log_expired", "open", None)]
    assert line.seconds() == [*range(10), *range(30, 60)]


async def test_log_that_expires_under_a_sleeping_inserter_is_a_gap(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 60)
    with process(line) as inserter:
        await line.send(*klines[:10])
        await line.until_read(10)
        inserter.send_signal(signal.SIGSTOP)
        # The fetch that waits at the broker is answered with these two; the next one comes after the expiry.
        await line.send(*klines[10:12])
        await line.send(*klines[12:40])
        await _expire(line, 30)
        await line.send(*klines[40:])
        inserter.send_signal(signal.SIGCONT)
        await line.until_read(60)
        assert inserter.poll() is None
    [(start, end, cause, state, _)] = line.gaps()
    assert (end, cause, state) == (30, "log_expired", "open")
    assert line.seconds() == [*range(start), *range(30, 60)]


async def test_topic_made_again_is_read_from_its_start(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 60)
    servers = line.engines.kafka_bootstrap_servers
    await line.send(*klines[:20])
    async with line.inserter():
        await line.until_read(20)
    before = line.rows("select distinct topic_id from kline_checkpoint where topic = %s", line.topics.kline_1s.name)
    await own_topics.delete(servers, line.topics.kline_1s)
    await _until_created(lambda: own_topics.create(servers, line.topics))
    await line.send(*klines[30:60])
    async with line.inserter():
        await line.until("the new topic's rows", lambda: len(line.seconds()) == 50)
    assert line.gaps() == [(20, 30, "log_expired", "open", None)]
    after = line.rows(
        "select topic_id from kline_checkpoint where topic = %s and next_offset = 30", line.topics.kline_1s.name
    )
    assert len(after) == 1
    assert after != before


async def _until_created(create: Callable[[], Awaitable[None]]) -> None:
    """A deleted name is free only after a moment."""
    for _ in range(50):
        try:
            await create()
        except Exception:
            await asyncio.sleep(0.2)
        else:
            return
    raise TimeoutError("the topic could not be made again")


async def test_bad_records_become_dead_letters_and_the_rest_goes_in(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 12)
    values: list[bytes] = [encode_record(kline) for kline in klines]
    values[2] = b"\xff no JSON"
    values[4] = values[4].replace(b'"open":"', b'"open":"1.1.')
    values[6] = values[6].replace(b'"base_volume":"', b'"base_volume":"1E+200000","x":"')
    async with line.inserter():
        await line.send(*values)
        await line.until_read(12)
    assert line.seconds() == [0, 1, 3, 5, 7, 8, 9, 10, 11]
    letters = line.rows("select record_offset, payload, reason <> '' from dead_letter order by record_offset")
    assert letters == [(offset, values[offset], True) for offset in (2, 4, 6)]
    assert [(start, end) for start, end, *_ in line.gaps()] == [(2, 3), (4, 5), (6, 7)]


async def test_frames_that_never_reached_their_topic_are_dead_letters_without_offset(line: Line) -> None:
    frame = BadFrameRecord(
        stream="btcusdt@kline_1s", reason="no JSON", frame=b"{{", connection="c1", received_at_ms=NOW_MS
    )
    async with line.inserter():
        await own_topics.send(line.engines.kafka_bootstrap_servers, line.topics.dead_frame, [frame])
        await line.until("the letter", lambda: line.rows("select count(*) from dead_letter") == [(1,)])
    assert line.rows("select topic, record_offset, reason, payload from dead_letter") == [
        ("btcusdt@kline_1s", None, "no JSON", b"{{")
    ]


async def test_frame_with_what_the_database_cannot_hold_is_a_dead_letter_too(line: Line) -> None:
    frames = [
        BadFrameRecord(
            stream="a\x00b", reason="nobody asked for a\x00b", frame=b"{", connection="c1", received_at_ms=at
        )
        for at in (-1, 2**62)
    ]
    async with line.inserter() as (task, _):
        await own_topics.send(line.engines.kafka_bootstrap_servers, line.topics.dead_frame, frames)
        await line.until("the letters", lambda: line.rows("select count(*) from dead_letter") == [(2,)])
        assert not task.done()
    assert line.rows("select distinct topic, reason from dead_letter") == [("a\\0b", "nobody asked for a\\0b")]


async def test_start_of_a_producer_explains_the_hole_and_ends_what_the_killed_one_left_open(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 30)
    left_open = FeedOutage(
        symbol="BTCUSDT",
        stream="kline_1s",
        cause=GapCause.SILENCE,
        from_time_ms=NOW_MS - 3_600_000,
        to_time_ms=None,
        detail="test",
        event_time_ms=NOW_MS,
    )
    start = start_mark("BTCUSDT", Stream.KLINE_1S, NOW_MS + 15_000, NOW_MS)
    servers = line.engines.kafka_bootstrap_servers
    async with line.inserter():
        await own_topics.send(servers, line.topics.feed_outage, [left_open, start])
        await line.until("the start", lambda: line.rows("select count(*) from feed_outage") == [(2,)])
        assert line.rows("select count(*) from feed_outage where to_time is null") == [(0,)]
        await line.send(*klines[:10], *klines[20:25], *klines[28:])
        await line.until_read(17)
    assert line.gaps() == [(10, 20, "downtime", "open", None), (25, 28, "unknown", "open", None)]


async def test_too_many_bad_records_stop_the_room_and_say_so(line: Line) -> None:
    await line.send(*seconds_of("BTCUSDT", NOW_MS, 10), *[b"bad"] * 300)
    async with line.inserter() as (task, health):
        await line.until("the problem in health", lambda: health.report(readiness=False)[0] == 503)
        _, report = health.report(readiness=False)
        assert "bad" in str(report["reasons"])
        assert not task.done()
    assert line.checkpoint() == 0
    assert line.rows("select count(*) from dead_letter") == [(0,)]


async def test_database_connection_cut_is_survived(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 20)
    async with line.inserter() as (task, _):
        await line.send(*klines[:10])
        await line.until_read(10)
        line.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'inserter' and datname = current_database()"
        )
        await line.send(*klines[10:])
        await line.until_read(20)
        assert not task.done()
    assert line.seconds() == list(range(20))
    assert line.rows("select distinct epoch from kline_checkpoint") == [(1,)]
