"""The inserter on real engines: rows, ledger and checkpoint are one thing, whatever happens on the way."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import msgspec
import psycopg
import pytest

from market.feed import FeedOutage, GapCause
from runtime.errors import Fenced
from tests import own_topics
from tests.inserter_line import NOW_MS, WAIT_S, Line, process, run_until_dead
from tests.klines_of import seconds_of


@pytest.mark.parametrize(
    ("point", "copy_min_rows"),
    [
        ("before_rows", 0),
        ("after_rows", 0),
        ("after_rows", 1_000),
        ("before_commit", 0),
        ("after_commit", 1_000),
        ("after_kafka_commit", 1_000),
    ],
)
async def test_kill_at_every_step_loses_and_doubles_nothing(line: Line, point: str, copy_min_rows: int) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 40)
    await line.send(*klines[:20])
    variables = {"CRASH_POINT": point, "INSERTER_COPY_MIN_ROWS": str(copy_min_rows)}
    assert await asyncio.to_thread(lambda: run_until_dead(line, **variables)) == -9
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
        assert line.detectors() == ["open_times"]
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
    assert line.rows("select symbol, marks > 1 from dirty_hour") == [("BTCUSDT", True)]


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
        # While it lasts, what does not come after the newest row is listed too.
        assert line.gaps()[:2] == [(10, 20, "disconnect", "open", None), (30, 40, "disconnect", "open", None)]
        assert set(line.detectors()) == {"feed"}
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
    assert line.detectors() == ["log"]
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
