"""What the streams said last, over /api/v3: the broker's newest records, none older than a minute, the broker away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from market.depth import PartialDepth
from market.record_codec import Record, encode_record
from market.trade import Trade
from runtime.kafka_client import load_topics, new_producer
from tests.conftest import Engines
from tests.stack_process import free_port, wait_for
from tests.webapp_process import DEADLINE_S, END_MS, WebappProcess, insert_symbols, moment, run_webapp

#: Symbols of this module's own: the topics are shared with other tests.
SEEN, UNSEEN = "LIVEAUSDT", "LIVEBUSDT"
BOOKS = [
    PartialDepth(
        symbol=SEEN,
        last_update_id=number,
        bids=[(Decimal(100 - level), Decimal("1.5")) for level in range(20)],
        asks=[(Decimal(101 + level), Decimal(number)) for level in range(20)],
    )
    for number in (1, 2)
]
TRADES = [
    Trade(
        symbol=SEEN,
        trade_id=number,
        price=Decimal("100.25"),
        quantity=Decimal(number) / 10,
        trade_time_ms=END_MS + number,
        is_buyer_maker=number % 2 == 0,
        event_time_ms=END_MS + number,
    )
    for number in range(1, 6)
]


async def publish(bootstrap_servers: str, topic: str, records: list[Record]) -> None:
    """Records to their topic, and one that nobody can read before them."""
    producer = new_producer(bootstrap_servers, "test")
    await producer.start()
    try:
        for value in (b"{", *map(encode_record, records)):
            await producer.send_and_wait(topic, value, key=SEEN.encode())
    finally:
        await producer.stop()


@pytest.fixture(scope="module")
def webapp(engines: Engines, module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebappProcess]:
    """A server with two symbols; the streams know one of them."""
    with psycopg.connect(module_database) as connection:
        insert_symbols(connection, SEEN, UNSEEN)
        for symbol in (SEEN, UNSEEN):
            ticker = "insert into symbol_ticker values (%s, 95, 105, 90, 100, 1234.5, 123450.25, %s, %s)"
            connection.execute(ticker, [symbol, moment(END_MS), moment(END_MS)])
    topics = load_topics()
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "0"}
    log = tmp_path_factory.mktemp("webapp") / "log"
    with run_webapp(engines.environment, log, **variables) as process:
        process.wait_ready()
        # Now: a book is told for a minute. Then until the broker has answered a first time.
        asyncio.run(publish(engines.kafka_bootstrap_servers, topics.depth20.name, list(BOOKS)))
        asyncio.run(publish(engines.kafka_bootstrap_servers, topics.trade.name, list(TRADES)))
        wait_for("the book", lambda: get(process, "depth", symbol=SEEN)[0] == 200, DEADLINE_S)
        wait_for("the trades", lambda: get(process, "trades", symbol=SEEN)[1], DEADLINE_S)
        yield process


def get(webapp: WebappProcess, path: str, **query: Any) -> tuple[int, Any]:
    """Status and body."""
    answer = webapp.http.get(f"/api/v3/{path}", params=query)
    return answer.status_code, answer.json()


BEST = {
    "symbol": SEEN,
    "bidPrice": "100.00000000",
    "bidQty": "1.50000000",
    "askPrice": "101.00000000",
    "askQty": "2.00000000",
}


def test_the_newest_levels(webapp: WebappProcess) -> None:
    status, book = get(webapp, "depth", symbol=SEEN, limit=5000)
    assert (status, book["lastUpdateId"], len(book["bids"]), len(book["asks"])) == (200, 2, 20, 20)
    assert book["asks"][1] == ["102.00000000", "2.00000000"]
    assert len(get(webapp, "depth", symbol=SEEN, limit=3)[1]["bids"]) == 3
    assert get(webapp, "ticker/bookTicker", symbol=SEEN) == (200, BEST)
    assert get(webapp, "ticker/bookTicker") == (200, [BEST])


def test_quotes_have_the_best_bid_and_ask_where_they_are_known(webapp: WebappProcess) -> None:
    known, unknown = webapp.http.get("/udf/quotes", params={"symbols": f"{SEEN},{UNSEEN}"}).json()["d"]
    best = {name: known["v"][name] for name in ("bid", "ask", "spread")}
    assert best == {"bid": 100, "ask": 101, "spread": 1}
    assert not {"bid", "ask", "spread"} & set(unknown["v"])
    assert None not in (*known["v"].values(), *unknown["v"].values())


def test_trades_and_what_tickers_take_from_them(webapp: WebappProcess) -> None:
    status, trades = get(webapp, "trades", symbol=SEEN, limit=2)
    assert (status, [trade["id"] for trade in trades]) == (200, [4, 5])
    assert trades[1] == {
        "id": 5,
        "price": "100.25000000",
        "qty": "0.50000000",
        "quoteQty": "50.12500000",
        "time": END_MS + 5,
        "isBuyerMaker": False,
        "isBestMatch": True,
    }
    day = get(webapp, "ticker/24hr", symbol=SEEN)[1]
    assert (day["bidPrice"], day["askQty"], day["lastQty"]) == (BEST["bidPrice"], BEST["askQty"], "0.50000000")


def test_what_comes_later_is_read_on(webapp: WebappProcess, engines: Engines) -> None:
    later = Trade(
        symbol=UNSEEN,
        trade_id=9,
        price=Decimal(1),
        quantity=Decimal(1),
        trade_time_ms=END_MS,
        is_buyer_maker=True,
        event_time_ms=END_MS,
    )
    assert get(webapp, "trades", symbol=UNSEEN) == (200, [])

    async def send() -> None:
        producer = new_producer(engines.kafka_bootstrap_servers, "test")
        await producer.start()
        await producer.send_and_wait(load_topics().trade.name, encode_record(later), key=UNSEEN.encode())
        await producer.stop()

    asyncio.run(send())
    found: list[Any] = []
    while not found:  # what was read less than KEEP_MS ago is told again
        found = get(webapp, "trades", symbol=UNSEEN)[1]
    assert [trade["id"] for trade in found] == [9]
    assert len(get(webapp, "trades", symbol=SEEN)[1]) == 5


def test_what_is_not_known_is_not_pretended(webapp: WebappProcess) -> None:
    for path in ("depth", "ticker/bookTicker"):
        status, body = get(webapp, path, symbol=UNSEEN)
        assert (status, body["code"]) == (503, -1001)
    assert get(webapp, "ticker/24hr", symbol=UNSEEN)[1]["bidPrice"] == "0.00000000"
    assert get(webapp, "depth", symbol="NOTHING")[1]["code"] == -1121
    assert get(webapp, "depth", symbol=SEEN, limit=0)[1]["code"] == -1130


def test_unmodified_clients_read_book_and_trades(webapp: WebappProcess) -> None:
    import ccxt
    from binance.client import Client

    exchange = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}}})
    exchange.urls["api"]["public"] = f"{webapp.url}/api/v3"
    exchange.has["fetchCurrencies"] = False
    exchange.load_markets()
    book = exchange.fetch_order_book("LIVEA/USDT", 5)
    assert (book["bids"][0], len(book["asks"])) == ([100.0, 1.5], 5)
    assert exchange.fetch_bids_asks()["LIVEA/USDT"]["ask"] == 101
    # It makes its trades of aggregate ones alone, which are refused; the other client asks for single ones.
    with pytest.raises(ccxt.BadRequest):
        exchange.fetch_trades("LIVEA/USDT")
    client = Client(ping=False)
    client.API_URL = f"{webapp.url}/api"
    assert [trade["qty"] for trade in client.get_recent_trades(symbol=SEEN)][-1] == "0.50000000"


def test_the_broker_away(engines: Engines, module_database: str, tmp_path: Any) -> None:
    variables = {"DATABASE_URL": module_database, "ANALYST_DATABASE_URL": "", "API_WEIGHT_PER_MINUTE": "0"}
    variables |= {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    with run_webapp(engines.environment, tmp_path / "log", **variables) as process:
        process.wait_ready()
        status, body = get(process, "depth", symbol=SEEN)
        assert (status, body["code"]) == (503, -1001)
        assert "broker" in body["msg"]
        assert get(process, "ticker/24hr", symbol=SEEN)[1]["askPrice"] == "0.00000000"
