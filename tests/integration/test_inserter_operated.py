"""What operators ask of the inserter: to pause, to try dead letters again, to go back in the log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg

from market.record_codec import encode_record
from runtime.clock import SystemClock
from runtime.health import Health
from runtime.operations.catalogue import parse
from runtime.operations.perform import take
from tests.inserter_line import NOW_MS, Line
from tests.klines_of import seconds_of

FRAME = {
    "stream": "btcusdt@kline_1s",
    "data": {
        "e": "kline", "E": NOW_MS + 5_004, "s": "BTCUSDT",
        "k": {
            "t": NOW_MS + 4_000, "T": NOW_MS + 4_999, "s": "BTCUSDT", "i": "1s", "f": -1, "L": -1, "o": "100.00",
            "c": "100.00", "h": "100.00", "l": "100.00", "v": "0", "n": 0, "x": True, "q": "0", "V": "0", "Q": "0",
            "B": "0",
        },
    },
}  # fmt: skip


def ask(line: Line, action: str, **arguments: Any) -> int:
    """As page and command line do; the number of the request."""
    with psycopg.connect(line.database_url) as connection:
        return take(connection, action, parse(action, arguments), "tests", data_dir=Path("none")).id


async def done(line: Line, number: int) -> tuple[str, str]:
    """State and detail of the request once it is finished."""
    query = "select state, detail from operator_action where id = %s and state <> 'accepted'"
    await line.until(f"request {number}", lambda: bool(line.rows(query, number)))
    state, detail = line.rows(query, number)[0]
    return str(state), str(detail)


async def test_a_paused_inserter_keeps_its_place_also_over_a_restart(line: Line, tmp_path: Path) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 30)
    async with line.inserter(data_dir=tmp_path) as (_, health):
        await line.send(*klines[:10])
        await line.until_read(10)
        assert await done(line, ask(line, "pause", room="inserter")) == ("done", "inserter has stopped its work")
        status, body = health.report(readiness=True)
        assert (status, body["is_paused"]) == (503, True)
        assert "paused by an operator (tests)" in str(body["reasons"])
        assert health.report(readiness=False)[0] == 200
        await line.send(*klines[10:20])
    async with line.inserter(data_dir=tmp_path) as (_, health):
        await line.until("the pause", lambda: _is_paused(health))
        await line.send(*klines[20:])
        assert line.checkpoint() == 10
        assert (await done(line, ask(line, "resume", room="inserter")))[0] == "done"
        await line.until_read(30)
        assert health.report(readiness=True)[0] == 200
    assert line.seconds() == list(range(30))
    assert line.gaps() == []


def _is_paused(health: Health) -> bool:
    return health.report(readiness=True)[1].get("is_paused") is True


async def test_letters_that_are_good_now_become_rows_in_one_transaction(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 12)
    missing = {3, 4, 5}
    topic = line.topics.kline_1s.name
    letters: list[tuple[str, int | None, bytes]] = [
        (topic, 3, encode_record(klines[3])),
        (topic, 5, b"{still bad"),
        (topic, 90, encode_record(seconds_of("BTCUSDT", NOW_MS + 3_600_000, 1)[0])),
        (topic, 91, encode_record(seconds_of("NOBODY", NOW_MS, 1)[0])),
        ("btcusdt@kline_1s", None, json.dumps(FRAME).encode()),
        ("btcusdt@trade", None, b'{"stream":"btcusdt@trade","data":{}}'),
        (line.topics.trade.name, 7, b"{}"),
    ]
    async with line.inserter():
        await line.send(*[kline for number, kline in enumerate(klines) if number not in missing])
        await line.until_read(9)
        assert [gap[:2] for gap in line.gaps()] == [(3, 6)]
        with psycopg.connect(line.database_url) as connection:
            for name, offset, payload in letters:
                connection.execute(
                    "insert into dead_letter (topic, partition, record_offset, reason, payload, received_at) "
                    "values (%s, 0, %s, 'test', %s, now())",
                    [name, offset, payload],
                )
        ids = [number for (number,) in line.rows("select id from dead_letter order by id")]
        state, detail = await done(line, ask(line, "redrive", ids=ids))
        assert (state, detail.split(";")[0]) == ("done", "2 of 7 stored")
        assert "nothing is stored of topic" in detail
        assert "has not come so far yet" in detail
        left = [payload for (payload,) in line.rows("select payload from dead_letter order by id")]
        assert left == [payload for number, (_, _, payload) in enumerate(letters) if number not in (0, 4)]
        assert await done(line, ask(line, "redrive", ids=[10**9])) == ("failed", "there is no such dead letter")
    assert line.seconds() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    # A gap beside it tells of the two that came after all.
    assert [gap[:2] for gap in line.gaps() if gap[3] == "open"] == [(5, 6)]
    assert line.checkpoint() == 9


async def test_going_back_in_the_log_changes_no_row_and_fences_what_was_read_before(line: Line) -> None:
    klines = seconds_of("BTCUSDT", NOW_MS, 400)
    topic = line.topics.kline_1s.name
    query = "select md5(string_agg(k::text, ',' order by k.open_time)) from kline_1s k where open_time < %s"
    async with line.inserter(inserter_batch_max_rows=40) as (task, _):
        await line.send(*klines[:200])
        await line.until_read(200)
        (digest,) = line.rows(query.replace("where open_time < %s", ""))[0]
        (epoch,) = line.rows("select max(epoch) from kline_checkpoint")[0]
        ahead = await done(line, ask(line, "reset_checkpoint", topic=topic, time=SystemClock().now_ms() + 60_000))
        assert ahead[0] == "failed"
        other = await done(line, ask(line, "reset_checkpoint", topic=line.topics.dead_frame.name, time=0))
        assert other[0] == "failed"
        number = ask(line, "reset_checkpoint", topic=topic, time=0)
        # Under load: records come while it goes back.
        for first in range(200, 400, 20):
            await line.send(*klines[first : first + 20])
            await asyncio.sleep(0.02)
        state, detail = await done(line, number)
        assert state == "done"
        assert detail.startswith(f"epoch {epoch + 1}: ")
        assert int(detail.split(": ")[1].split()[0]) >= 200
        await line.until_read(400)
        assert not task.done()
    assert line.rows("select distinct epoch from kline_checkpoint") == [(epoch + 1,)]
    assert line.rows("select count(*), count(distinct (symbol, open_time)) from kline_1s") == [(400, 400)]
    assert line.gaps() == []
    moment = line.rows("select timestamptz 'epoch' + %s * interval '1 ms'", NOW_MS + 200_000)[0][0]
    assert line.rows(query, moment) == [(digest,)]
