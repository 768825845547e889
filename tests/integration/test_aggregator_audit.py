"""The audit on a real PostgreSQL against the simulated exchange: equal, different, not comparable, and what follows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from aggregator import audit
from aggregator.audit_digest import main as digest
from aggregator.audit_minutes import MAX_RECHECKS, audit_due, waiting
from aggregator.roll_up import roll_up
from exchange_sim.faults import Fault
from exchange_sim.service import RunningExchange
from exchange_sim.settings import SimSettings
from market.binance_codec import decode_event
from market.interval import DAY_MS, HOUR_MS, MINUTE_MS, Interval
from market.kline import Kline
from runtime.clock import SystemClock
from runtime.database import Connection, TupleRow, connect
from runtime.exchange_rest import ExchangeRest, RestUnavailable
from tests.aggregator_rows import insert, make_days
from tests.exchange_thread import running_exchange

MINUTES = 4
#: Midday of yesterday: history for the exchange, whatever the time of the test.
START_MS = SystemClock().now_ms() // DAY_MS * DAY_MS - 12 * HOUR_MS
SYMBOLS = ("BTCUSDT", "ETHUSDT")
RESULTS = """
select symbol, (extract(epoch from open_time) * 1000)::bigint, state, reason, differences, compared_with, revision,
       rechecks, needs_person
from minute_audit order by symbol, open_time
"""
MAKE_DUE = "update audit_due set due_at = now() - interval '1 hour'"
REPLACE = """
update kline_1s set base_volume = %s, quote_volume = %s, taker_buy_base_volume = %s, taker_buy_quote_volume = %s,
    source = %s
where symbol = %s and open_time = timestamptz 'epoch' + %s * interval '1 millisecond'
"""
MARK = """
insert into dirty_minute (symbol, open_time)
select %s, date_trunc('minute', timestamptz 'epoch' + %s * interval '1 millisecond')
"""


@pytest.fixture(scope="module")
def exchange() -> Iterator[RunningExchange]:
    """The exchange whose history the tests store and audit."""
    with running_exchange(SimSettings(sim_port=0, sim_symbols=20)) as running:
        yield running


@pytest.fixture(scope="module")
def rest(exchange: RunningExchange) -> ExchangeRest:
    """Its REST client."""
    return ExchangeRest([f"http://127.0.0.1:{exchange.port}"], SystemClock())


@pytest.fixture(scope="module")
def seconds(rest: ExchangeRest) -> dict[str, list[Kline]]:
    """The true seconds of both symbols."""
    end_ms = START_MS + MINUTES * MINUTE_MS - 1
    return {symbol: rest.klines(symbol, Interval.S1, START_MS, end_ms) for symbol in SYMBOLS}


@pytest.fixture
def database(fresh_database: str) -> Iterator[Connection[TupleRow]]:
    """An empty database with the day of the test."""
    with connect(fresh_database, "test") as connection:
        make_days(connection, START_MS)
        yield connection


def run(connection: Connection[TupleRow], rest: ExchangeRest) -> dict[str, int]:
    """Roll up, let time pass, audit."""
    roll_up(connection)
    connection.execute(MAKE_DUE)
    connection.commit()
    return audited(connection, rest)


def audited(connection: Connection[TupleRow], rest: ExchangeRest) -> dict[str, int]:
    """Minutes by state of one run."""
    return dict(sum(audit_due(connection, rest), Counter[str]()))


def results(connection: Connection[TupleRow]) -> list[dict[str, Any]]:
    names = ("symbol", "open_ms", "state", "reason", "differences", "compared_with", "revision", "rechecks", "person")
    rows = [dict(zip(names, row, strict=True)) for row in connection.execute(RESULTS).fetchall()]
    connection.commit()
    return rows


def altered(exchange: RunningExchange, kline: Kline) -> Kline:
    """The closed second as the exchange's stream sends it while its fault control alters a trade of it."""
    exchange.faults.order(Fault("altered_trade", kline.symbol.lower(), count=1))
    stream = kline.symbol.lower()
    trade = {"e": "trade", "s": kline.symbol, "T": kline.open_time_ms, "p": f"{kline.close}", "q": "0.1", "m": False}
    exchange.faults.transform(f"{stream}@trade", json.dumps(trade, separators=(",", ":")).encode())
    fields = {
        "t": kline.open_time_ms, "T": kline.close_time_ms, "i": "1s", "f": 1, "L": 1, "o": f"{kline.open}",
        "c": f"{kline.close}", "h": f"{kline.high}", "l": f"{kline.low}", "v": f"{kline.base_volume}",
        "q": f"{kline.quote_volume}", "V": f"{kline.taker_buy_base_volume}", "Q": f"{kline.taker_buy_quote_volume}",
        "n": kline.trade_count, "x": True,
    }  # fmt: skip
    event = {"e": "kline", "E": kline.close_time_ms, "s": kline.symbol, "k": fields}
    (payload,) = exchange.faults.transform(
        f"{stream}@kline_1s", json.dumps(event, separators=(",", ":")).encode(), "test"
    )
    found = decode_event(f"{stream}@kline_1s", payload, kline.close_time_ms)
    assert isinstance(found, Kline)
    assert found.base_volume > kline.base_volume
    return found


def with_altered_second(exchange: RunningExchange, klines: Sequence[Kline], index: int) -> list[Kline]:
    return [altered(exchange, kline) if i == index else kline for i, kline in enumerate(klines)]


def settle_suspect(connection: Connection[TupleRow], state: str) -> None:
    connection.execute("update suspect_range set state = %s, settled_at = clock_timestamp()", [state])
    connection.commit()


def test_every_minute_equals_the_exchange_and_is_audited_once(
    database: Connection[TupleRow], rest: ExchangeRest, seconds: dict[str, list[Kline]]
) -> None:
    for symbol in SYMBOLS:
        insert(database, seconds[symbol])
    assert run(database, rest) == {"equal": 2 * MINUTES}
    assert {row["compared_with"] for row in results(database)} == {"rest"}
    assert (audited(database, rest), waiting(database)) == ({}, (0, 0))
    assert database.execute("select count(*), min(source) from exchange_minute").fetchone() == (2 * MINUTES, "rest")


def test_one_altered_trade_is_found_in_exactly_its_minute_and_mended(
    database: Connection[TupleRow], exchange: RunningExchange, rest: ExchangeRest, seconds: dict[str, list[Kline]]
) -> None:
    true = seconds["BTCUSDT"][70]
    insert(database, with_altered_second(exchange, seconds["BTCUSDT"], 70))
    insert(database, seconds["ETHUSDT"])
    assert run(database, rest) == {"equal": 2 * MINUTES - 1, "different": 1}
    (found,) = [row for row in results(database) if row["state"] == "different"]
    assert (found["symbol"], found["open_ms"], found["rechecks"]) == ("BTCUSDT", START_MS + MINUTE_MS, 1)
    assert set(found["differences"]) == {
        "base_volume", "quote_volume", "taker_buy_base_volume", "taker_buy_quote_volume",
    }  # fmt: skip
    ours, theirs = (Decimal(text) for text in found["differences"]["base_volume"])
    assert ours > theirs
    assert database.execute(
        "select symbol, (extract(epoch from from_time) * 1000)::bigint, to_time - from_time, reason, state"
        " from suspect_range"
    ).fetchall() == [("BTCUSDT", START_MS + MINUTE_MS, Interval.M1.length_ms * DELTA_MS, "audit", "open")]
    # The repair fetches the seconds and replaces the wrong one: the candle is revised and audited again.
    values = [true.base_volume, true.quote_volume, true.taker_buy_base_volume, true.taker_buy_quote_volume]
    database.execute(REPLACE, [*values, "rest", "BTCUSDT", true.open_time_ms])
    database.execute(MARK, ["BTCUSDT", true.open_time_ms])
    settle_suspect(database, "corrected")
    assert run(database, rest) == {"equal": 1}
    (mended,) = [row for row in results(database) if row["rechecks"]]
    assert (mended["state"], mended["revision"], mended["differences"]) == ("equal", 1, {})
    kept = database.execute("select revision, base_volume, rest_count from candle_revision where interval = '1m'")
    assert kept.fetchall() == [(0, ours, 0)]
    now = "select revision, base_volume, rest_count, row_count from aggregated_kline where revision > 0"
    assert database.execute(f"{now} and interval = '1m'").fetchall() == [(1, theirs, 1, 60)]


DELTA_MS = datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)


def test_what_still_differs_is_left_to_a_person(
    database: Connection[TupleRow], exchange: RunningExchange, rest: ExchangeRest, seconds: dict[str, list[Kline]]
) -> None:
    insert(database, with_altered_second(exchange, seconds["BTCUSDT"][:60], 10))
    assert run(database, rest) == {"different": 1}
    for _ in range(MAX_RECHECKS):
        assert audited(database, rest) == {}, "not again before the repair has looked at it"
        settle_suspect(database, "equal")
        audited(database, rest)
        assert run(database, rest) == {"different": 1}
    (left,) = results(database)
    assert (left["rechecks"], left["person"]) == (MAX_RECHECKS, True)
    settle_suspect(database, "equal")
    assert run(database, rest) == {}
    assert waiting(database) == (0, 1)


def test_incomplete_minute_is_not_comparable_until_its_seconds_are_there(
    database: Connection[TupleRow], rest: ExchangeRest, seconds: dict[str, list[Kline]]
) -> None:
    klines = seconds["BTCUSDT"][:120]
    insert(database, [*klines[:20], *klines[23:]])
    assert run(database, rest) == {"not_comparable": 1, "equal": 1}
    assert results(database)[0]["reason"] == "57 of 60 seconds"
    insert(database, klines[20:23], source="rest")
    assert run(database, rest) == {"equal": 1}
    assert [(row["state"], row["revision"]) for row in results(database)] == [("equal", 1), ("equal", 0)]


def test_what_the_stream_brought_is_compared_though_rest_is_away(
    database: Connection[TupleRow], rest: ExchangeRest, seconds: dict[str, list[Kline]]
) -> None:
    insert(database, seconds["BTCUSDT"][:60])
    assert run(database, rest) == {"equal": 1}
    database.execute("update exchange_minute set source = 'stream'")
    database.execute("delete from minute_audit")
    database.execute("insert into audit_due (symbol, open_time) select symbol, open_time from exchange_minute")
    database.commit()
    insert(database, seconds["BTCUSDT"][60:120])
    away = ExchangeRest(["http://127.0.0.1:1"], SystemClock())
    with pytest.raises(RestUnavailable):
        run(database, away)
    assert [(row["state"], row["compared_with"]) for row in results(database)] == [("equal", "stream")]
    assert waiting(database) == (1, 0)
    assert run(database, rest) == {"equal": 1}


def test_a_minute_that_the_exchange_does_not_have(database: Connection[TupleRow], rest: ExchangeRest) -> None:
    seconds = rest.klines("BTCUSDT", Interval.S1, START_MS, START_MS + MINUTE_MS - 1)
    insert(database, [msgspec.structs.replace(kline, symbol="GONEUSDT") for kline in seconds])
    assert run(database, rest) == {"not_comparable": 1}
    assert results(database)[0]["reason"] == "the exchange has no such minute"


def test_a_suspect_that_was_settled_while_the_audit_wrote_is_not_forgotten(
    database: Connection[TupleRow], exchange: RunningExchange, rest: ExchangeRest, seconds: dict[str, list[Kline]]
) -> None:
    """The repair's transaction began before the audit's and ended after it: its time is the earlier one."""
    insert(database, with_altered_second(exchange, seconds["BTCUSDT"][:60], 10))
    assert run(database, rest) == {"different": 1}
    database.execute("update suspect_range set state = 'equal', settled_at = now() - interval '1 minute'")
    database.commit()
    audited(database, rest)
    assert run(database, rest) == {"different": 1}
    assert results(database)[0]["rechecks"] == 2


def test_an_answer_that_has_to_be_refused_says_nothing_of_the_minutes(
    database: Connection[TupleRow], exchange: RunningExchange, rest: ExchangeRest, seconds: dict[str, list[Kline]]
) -> None:
    insert(database, seconds["BTCUSDT"][:120])
    exchange.faults.order(Fault("rest_rows", rows="text", count=1))
    assert run(database, rest) == {}
    assert (results(database), waiting(database)) == ([], (2, 0))
    assert audited(database, rest) == {}, "not at once again"
    assert run(database, rest) == {"equal": 2}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, fresh_database: str, exchange: RunningExchange) -> None:
    """The commands of the room find this database and this exchange."""
    monkeypatch.setenv("DATABASE_URL", fresh_database)
    monkeypatch.setenv("EXCHANGE_REST_URL", f"http://127.0.0.1:{exchange.port}")


@pytest.mark.usefixtures("commands")
def test_command_finds_the_minute_and_digest_tells_the_day(
    database: Connection[TupleRow],
    exchange: RunningExchange,
    rest: ExchangeRest,
    seconds: dict[str, list[Kline]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    insert(database, with_altered_second(exchange, seconds["BTCUSDT"], 100))
    insert(database, seconds["ETHUSDT"])
    run(database, rest)
    capsys.readouterr()
    span = ["--from", str(START_MS), "--to", str(START_MS + HOUR_MS), "--json"]
    assert audit.main(span) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["compared"], found["equal"], found["different"]) == (2 * MINUTES, 2 * MINUTES - 1, 1)
    (minute,) = [minute for minute in found["minutes"] if minute["state"] == "different"]
    assert (minute["symbol"], minute["interval"], minute["open_time"]) == ("BTCUSDT", "1m", START_MS + MINUTE_MS)
    assert minute["columns"] == ["base_volume", "quote_volume", "taker_buy_base_volume", "taker_buy_quote_volume"]
    assert audit.main(["--symbol", "ETHUSDT", *span]) == 0
    capsys.readouterr()
    # A candle that is not what its seconds give is found too, though the exchange agrees with the seconds.
    database.execute("update aggregated_kline set high = high + 1 where symbol = 'ETHUSDT' and interval = '1m'")
    database.commit()
    assert audit.main(["--symbol", "ETHUSDT", *span]) == 1
    assert {tuple(minute["columns"]) for minute in json.loads(capsys.readouterr().out)["minutes"]} == {("high",)}
    assert audit.main(["--symbol", "GONEUSDT"]) == 2
    assert "GONEUSDT has no seconds here" in capsys.readouterr().err
    exchange.faults.order(Fault("rest_rows", rows="text", count=1))
    assert audit.main(["--symbol", "ETHUSDT", *span]) == 1
    assert "not audited" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        audit.main(["--from", str(START_MS), "--to", str(START_MS)])
    capsys.readouterr()
    day = datetime.fromtimestamp(START_MS / 1000, UTC).date().isoformat()
    assert digest(["--day", day, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["equal"], told["different"], told["not_comparable"]) == (2 * MINUTES - 1, 1, 0)
    assert [(row["symbol"], row["open_time"]) for row in told["minutes"]] == [("BTCUSDT", START_MS + MINUTE_MS)]
    assert digest(["--day", "2020-01-01"]) == 0
