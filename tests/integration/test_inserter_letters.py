"""Records and connections that fail: dead letters, the halt, a cut connection, the start of a producer."""

from __future__ import annotations

from market.feed import BadFrameRecord, FeedOutage, GapCause
from market.record_codec import encode_record
from market.stream import Stream
from producer.outages import start_mark
from tests import own_topics
from tests.inserter_line import NOW_MS, Line
from tests.klines_of import seconds_of


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
