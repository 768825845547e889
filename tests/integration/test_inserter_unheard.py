"""Holes that no row tells of (a stream that is out, a log that expired as a whole) are listed all the same."""

from __future__ import annotations

import psycopg

from market.feed import FeedOutage, GapCause
from runtime.clock import SystemClock
from tests import own_topics
from tests.inserter_line import NOW_MS, Line
from tests.klines_of import seconds_of

BTC = "BTCUSDT"
ETH = "ETHUSDT"


def outage(symbol: str, to_s: int | None = None) -> FeedOutage:
    return FeedOutage(
        symbol=symbol,
        stream="kline_1s",
        cause=GapCause.SILENCE,
        from_time_ms=NOW_MS + 10_000,
        to_time_ms=None if to_s is None else NOW_MS + to_s * 1000,
        detail="test",
        event_time_ms=NOW_MS,
    )


def gap_end_s(line: Line, symbol: str = BTC) -> int:
    """End of the symbol's newest gap in seconds after NOW_MS; 0 = it has none."""
    query = "select coalesce(max(extract(epoch from to_time)), 0)::bigint from kline_gap where symbol = %s"
    return max(0, int(line.rows(query, symbol)[0][0]) - NOW_MS // 1000)


async def test_a_stream_that_stays_out_is_listed_while_it_lasts(line: Line) -> None:
    klines = seconds_of(BTC, NOW_MS, 60)
    other = seconds_of(ETH, NOW_MS, 60)
    clock = SystemClock()
    async with line.inserter() as (task, _):
        since_s = clock.monotonic_s()
        await line.send(*klines[:10], *other[:10], key=None)
        await line.report(outage(BTC))
        await line.until("the first missing seconds", lambda: gap_end_s(line) > 10)
        first = gap_end_s(line)
        await line.send(*other[10:12], key=None)
        await line.until("more of them", lambda: gap_end_s(line) > first)
        assert not task.done()
    [(start, end, cause, state, _)] = line.gaps()
    assert (start, cause, state) == (10, "silence", "open")
    # It grows with the clock, and never beyond it.
    assert end <= 10 + clock.monotonic_s() - since_s
    assert line.detectors() == ["feed"]
    assert line.rows("select event_time = to_timestamp(%s) from symbol_watermark where symbol = %s",
                     NOW_MS // 1000 + end, BTC) == [(True,)]  # fmt: skip
    # A second that was listed and comes late leaves the gap; the row after the outage closes the hole.
    async with line.inserter():
        await line.send(klines[11], *klines[50:], key=None)
        await line.report(outage(BTC, to_s=50))
        await line.until("the rest", lambda: len(line.seconds()) == 10 + 12 + 11)
    assert line.gaps() == [
        (10, 11, "silence", "open", None),
        (11, 12, "silence", "repaired", "stream"),
        (12, 50, "silence", "open", None),
    ]
    assert line.rows("select distinct to_char(hour, 'MI'), marks > 1 from dirty_hour") == [("00", True)]


async def test_symbols_no_longer_followed_lack_nothing(line: Line) -> None:
    with psycopg.connect(line.database_url) as connection:
        connection.execute(
            "insert into market_symbol (symbol, base_asset, quote_asset, status, tick_size, step_size, rank, "
            "is_followed) values (%s, 'ETH', 'USDT', 'TRADING', 1, 1, 1, false)",
            [ETH],
        )
    async with line.inserter():
        await line.send(*seconds_of(BTC, NOW_MS, 10), *seconds_of(ETH, NOW_MS, 10), key=None)
        await line.report(outage(BTC), outage(ETH))
        await line.until("the first missing seconds", lambda: gap_end_s(line) > 10)
    assert gap_end_s(line, ETH) == 0


async def test_a_log_that_expired_as_a_whole_is_listed_though_no_row_comes(line: Line) -> None:
    klines = seconds_of(BTC, NOW_MS, 60)
    async with line.inserter():
        await line.send(*klines[:10], key=None)
        await line.until_read(10)
    await line.send(*klines[10:40], key=None)
    [(partition,)] = line.rows(
        "select partition from kline_checkpoint where topic = %s and next_offset = 10", line.topics.kline_1s.name
    )
    await own_topics.expire(line.engines.kafka_bootstrap_servers, line.topics.kline_1s, {partition: 40})
    async with line.inserter() as (task, _):
        await line.until("the missing seconds", lambda: gap_end_s(line) > 10)
        await line.until("the position", lambda: line.checkpoint() == 40)
        assert not task.done()
        [(start, _, cause, state, _)] = line.gaps()
        assert (start, cause, state) == (10, "log_expired", "open")
        assert line.detectors() == ["log"]
    async with line.inserter():
        await line.send(*klines[50:], key=None)
        await line.until_read(50)
    assert line.gaps() == [(10, 50, "log_expired", "open", None)]


async def test_a_lost_checkpoint_is_read_from_the_start_and_what_had_expired_is_listed(line: Line) -> None:
    klines = seconds_of(BTC, NOW_MS, 60)
    async with line.inserter():
        await line.send(*klines[:20], key=None)
        await line.until_read(20)
    [(partition,)] = line.rows(
        "select partition from kline_checkpoint where topic = %s and next_offset = 20", line.topics.kline_1s.name
    )
    with psycopg.connect(line.database_url) as connection:
        connection.execute("delete from kline_checkpoint")
    async with line.inserter():
        await line.until_read(20)
    assert (line.gaps(), len(line.seconds())) == ([], 20)
    await line.send(*klines[20:60], key=None)
    await own_topics.expire(line.engines.kafka_bootstrap_servers, line.topics.kline_1s, {partition: 50})
    with psycopg.connect(line.database_url) as connection:
        connection.execute("delete from kline_checkpoint")
    async with line.inserter() as (task, _):
        await line.until_read(60)
        assert not task.done()
    assert line.gaps() == [(20, 50, "log_expired", "open", None)]
    assert line.detectors() == ["log"]
