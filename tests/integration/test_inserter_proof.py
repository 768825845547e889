"""What proves the rows, on real engines: broken trade chains, the exchange's own minutes, and one writer at a time."""

from __future__ import annotations

import asyncio
import signal

import msgspec
import psycopg

from market.interval import Interval
from market.kline import Kline
from market.rollup import roll_up
from tests import own_topics
from tests.inserter_line import NOW_MS, WAIT_S, Line, process
from tests.klines_of import seconds_of

BTC = "BTCUSDT"


def at_s(second: int) -> int:
    return NOW_MS // 1000 + second


async def test_a_broken_trade_chain_is_suspect_also_over_a_restart_but_not_over_a_hole(line: Line) -> None:
    klines = seconds_of(BTC, NOW_MS, 40, quiet_share=0)
    shifted = [
        msgspec.structs.replace(one, first_trade_id=one.first_trade_id + 5, last_trade_id=one.last_trade_id + 5)
        for one in klines
    ]
    async with line.inserter():
        await line.send(*klines[:10])
        await line.until_read(10)
    async with line.inserter():
        await line.send(*shifted[10:20], *klines[25:40])
        await line.until_read(35)
    query = "select symbol, extract(epoch from from_time)::bigint, extract(epoch from to_time)::bigint, reason, state "
    assert line.rows(query + "from suspect_range") == [(BTC, at_s(9), at_s(11), "trade_chain", "open")]
    assert [(start, end) for start, end, *_ in line.gaps()] == [(20, 25)]


def minute_of(symbol: str, minute: int) -> Kline:
    candle = roll_up(seconds_of(symbol, NOW_MS + minute * 60_000, 60), Interval.M1)
    fields = {name: getattr(candle, name) for name in Kline.__struct_fields__ if hasattr(candle, name)}
    end_ms = NOW_MS + (minute + 1) * 60_000
    return Kline(**fields | {"is_closed": True, "event_time_ms": end_ms + 5, "received_at_ms": end_ms + 9})


async def test_the_exchanges_closed_minutes_are_stored_once_and_the_newest_event_wins(line: Line) -> None:
    servers, topic = line.engines.kafka_bootstrap_servers, line.topics.kline_1m
    minutes = [minute_of(BTC, number) for number in range(3)]
    forming = msgspec.structs.replace(minutes[2], is_closed=False)
    corrected = msgspec.structs.replace(minutes[1], trade_count=7, event_time_ms=minutes[1].event_time_ms + 1)
    older = msgspec.structs.replace(minutes[0], trade_count=6, event_time_ms=minutes[0].event_time_ms - 1)
    too_large = encode_too_large(minutes[2])
    async with line.inserter():
        await own_topics.send(servers, topic, [*minutes[:2], forming], key=b"one")
        await line.until("two minutes", lambda: line.rows("select count(*) from exchange_minute") == [(2,)])
        await own_topics.send(servers, topic, [corrected, older, minutes[1], too_large], key=b"one")
        await line.until("all read", lambda: line.rows("select max(next_offset) from kline_checkpoint") == [(7,)])
    query = "select extract(epoch from open_time)::bigint, trade_count, close, source from exchange_minute order by 1"
    assert line.rows(query) == [
        (at_s(0), minutes[0].trade_count, minutes[0].close, "stream"),
        (at_s(60), 7, minutes[1].close, "stream"),
    ]
    assert line.rows("select topic, record_offset from dead_letter") == [(topic.name, 6)]
    due = line.rows("select extract(epoch from open_time)::bigint from audit_due")
    assert due == [(at_s(60),)], "a minute that the exchange corrects is audited anew"


async def test_the_stream_does_not_overwrite_what_rest_has_said_of_a_minute(line: Line) -> None:
    servers, topic = line.engines.kafka_bootstrap_servers, line.topics.kline_1m
    first, second = minute_of(BTC, 0), minute_of(BTC, 1)
    late = msgspec.structs.replace(first, trade_count=7, event_time_ms=first.event_time_ms + 1)
    async with line.inserter():
        await own_topics.send(servers, topic, [first], key=b"one")
        await line.until("the minute", lambda: line.rows("select count(*) from exchange_minute") == [(1,)])
        with psycopg.connect(line.database_url) as connection:
            connection.execute("update exchange_minute set source = 'rest'")
        await own_topics.send(servers, topic, [late, second], key=b"one")
        await line.until("all read", lambda: line.rows("select count(*) from exchange_minute") == [(2,)])
    kept = line.rows("select trade_count, source from exchange_minute order by open_time")
    assert kept == [(first.trade_count, "rest"), (second.trade_count, "stream")]


def encode_too_large(kline: Kline) -> bytes:
    """A record that only the database refuses."""
    text = msgspec.json.encode(kline)
    return text.replace(f'"base_volume":"{kline.base_volume}"'.encode(), b'"base_volume":"1E+200000"')


async def test_a_zombie_that_wakes_up_writes_nothing_and_ends(line: Line) -> None:
    klines = seconds_of(BTC, NOW_MS, 60)
    with process(line) as zombie:
        await line.send(*klines[:10])
        await line.until_read(10)
        zombie.send_signal(signal.SIGSTOP)
        with process(line) as successor:
            await line.send(*klines[10:30])
            await line.until_read(30)
            zombie.send_signal(signal.SIGCONT)
            offsets = [line.checkpoint()]
            for first in range(30, 60, 10):
                await line.send(*klines[first : first + 10])
                await line.until_read(first + 10)
                offsets.append(line.checkpoint())
            assert await asyncio.to_thread(zombie.wait, WAIT_S) not in (0, -signal.SIGKILL)
            assert successor.poll() is None
    assert offsets == sorted(offsets)
    assert line.seconds() == list(range(60))
    assert line.gaps() == []
    assert line.rows("select distinct epoch from kline_checkpoint") == [(2,)]


async def test_who_changes_gaps_of_a_symbol_waits_for_who_does_already(line: Line) -> None:
    klines = seconds_of(BTC, NOW_MS, 30)
    async with line.inserter():
        await line.send(*klines[:10])
        await line.until_read(10)
        with psycopg.connect(line.database_url) as other:
            other.execute("select pg_advisory_xact_lock(7330000, hashtext(%s))", [BTC])
            await line.send(*klines[20:])
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and classid = 7330000 and not granted"
            await line.until("the inserter to wait", lambda: line.rows(waiting) == [(1,)])
            assert line.gaps() == []
        await line.until_read(20)
    assert line.gaps() == [(10, 20, "unknown", "open", None)]
