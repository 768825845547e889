"""Unmodified Binance clients pointed at the relay, and the exchange's control messages."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager
from websockets.asyncio.client import connect

from market.depth import BookTicker, DepthUpdate, MiniTicker, PartialDepth
from tests.conftest import Engines
from tests.relay_process import DEADLINE_S, Feed, RelayProcess, clock, feed

SYMBOL = f"BIN{os.getpid()}USDT"
LOWER = SYMBOL.lower()


@pytest.fixture(scope="module")
def relay(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    log = tmp_path_factory.mktemp("relay") / "relay.log"
    with RelayProcess(engines.environment, log, STREAM_MAX_PER_ADDRESS="100") as process:
        yield process


async def keep_sending(records: Feed) -> None:
    """Each kind of record, again and again."""
    level = [(Decimal("100.10"), Decimal("0E-8"))]
    symbol, number = SYMBOL, 0
    open_ms = clock.now_ms() // 1000 * 1000 - 60_000
    while True:
        number += 1
        await records.send("kline_1s", [records.second(open_ms + number * 1000)])
        await records.trades(number, 1)
        await records.send("depth20", [PartialDepth(symbol=symbol, last_update_id=number, bids=level, asks=level)])
        await records.send(
            "depth",
            [
                DepthUpdate(
                    symbol=symbol,
                    first_update_id=number,
                    last_update_id=number,
                    bids=level,
                    asks=level,
                    event_time_ms=open_ms,
                )
            ],
        )
        price = Decimal("100.10")
        best = BookTicker(
            symbol=symbol, update_id=number, bid_price=price, bid_quantity=price, ask_price=price, ask_quantity=price
        )
        await records.send("book_ticker", [best])
        ticker = MiniTicker(
            symbol=symbol,
            open=price,
            high=price,
            low=price,
            close=price,
            base_volume=price,
            quote_volume=price,
            event_time_ms=open_ms,
        )
        await records.send("mini_ticker", [ticker])
        await asyncio.sleep(0.1)


@asynccontextmanager
async def records_flow(engines: Engines) -> AsyncIterator[None]:
    async with feed(engines.kafka_bootstrap_servers, SYMBOL) as records:
        sending = asyncio.create_task(keep_sending(records))
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


#: Stream name after the @, and the fields of its payload, in order, as the exchange documents them.
PAYLOADS = {
    "kline_1s": ["e", "E", "s", "k"],
    "kline_1m": ["e", "E", "s", "k"],
    "kline_1d": ["e", "E", "s", "k"],
    "trade": ["e", "E", "s", "t", "p", "q", "T", "m", "M"],
    "depth20": ["lastUpdateId", "bids", "asks"],
    "depth20@100ms": ["lastUpdateId", "bids", "asks"],
    "depth": ["e", "E", "s", "U", "u", "b", "a"],
    "depth@100ms": ["e", "E", "s", "U", "u", "b", "a"],
    "bookTicker": ["u", "s", "b", "B", "a", "A"],
    "miniTicker": ["e", "E", "s", "c", "o", "h", "l", "v", "q"],
}


async def test_combined_streams_have_the_shape_of_the_exchange(relay: RelayProcess, engines: Engines) -> None:
    path = "/stream?streams=" + "/".join(f"{LOWER}@{name}" for name in PAYLOADS)
    got: dict[str, Any] = {}
    async with records_flow(engines), connect(relay.url(path)) as connection:
        while len(got) < len(PAYLOADS):
            text = await asyncio.wait_for(connection.recv(), DEADLINE_S)
            assert "E-8" not in str(text)
            message = json.loads(text)
            got[message["stream"]] = message["data"]
    for name, fields in PAYLOADS.items():
        assert list(got[f"{LOWER}@{name}"]) == fields
    kline = got[f"{LOWER}@kline_1s"]["k"]
    assert sorted(kline) == sorted("tTsifLochlvnxqVQB")
    assert (kline["i"], kline["x"], kline["V"], kline["s"]) == ("1s", True, "0.00000000", SYMBOL)


async def ask(connection: Any, request: object) -> Any:
    """Send a control message and read its reply (no stream is subscribed that has data)."""
    await connection.send(request if isinstance(request, str) else json.dumps(request))
    return json.loads(await asyncio.wait_for(connection.recv(), DEADLINE_S))


async def test_control_messages(relay: RelayProcess) -> None:
    names = ["nothing@trade", "nothing@kline_1m"]
    async with connect(relay.url("/ws")) as connection:
        assert await ask(connection, {"method": "SUBSCRIBE", "params": names, "id": 1}) == {"result": None, "id": 1}
        listed = await ask(connection, {"method": "LIST_SUBSCRIPTIONS", "id": "abc"})
        assert listed == {"result": names, "id": "abc"}
        assert (await ask(connection, {"method": "UNSUBSCRIBE", "params": names[:1], "id": 2}))["result"] is None
        assert (await ask(connection, {"method": "LIST_SUBSCRIPTIONS", "id": 3}))["result"] == names[1:]
        assert (await ask(connection, {"method": "GET_PROPERTY", "params": ["combined"], "id": 4}))["result"] is False
        assert (await ask(connection, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}))[
            "result"
        ] is None
        assert (await ask(connection, {"method": "GET_PROPERTY", "params": ["combined"], "id": 6}))["result"] is True


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("no json", 3),
        ({"method": "FLY", "id": 1}, 2),
        ({"id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 1}, 2),
        ({"method": "SUBSCRIBE", "params": ["btcusdt@fly"], "id": 1}, 2),
        ({"method": "LIST_SUBSCRIPTIONS", "id": 1.5}, 2),
        ({"method": "LIST_SUBSCRIPTIONS", "id": "x" * 37}, 2),
        ({"method": "GET_PROPERTY", "params": ["colour"], "id": 1}, 0),
        ({"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1}, 1),
    ],
)
async def test_errors_have_the_codes_of_the_exchange(relay: RelayProcess, request_: object, code: int) -> None:
    async with connect(relay.url("/ws")) as connection:
        assert (await ask(connection, request_))["error"]["code"] == code


async def test_python_binance(relay: RelayProcess, engines: Engines) -> None:
    manager = BinanceSocketManager(AsyncClient())
    manager.STREAM_URL = relay.url("/")
    async with records_flow(engines), manager.kline_socket(SYMBOL, interval="1m") as stream:
        message = await asyncio.wait_for(stream.recv(), DEADLINE_S)
        assert (message["e"], message["k"]["i"], message["s"]) == ("kline", "1m", SYMBOL)
    async with records_flow(engines), manager.multiplex_socket([f"{LOWER}@trade", f"{LOWER}@depth20"]) as stream:
        message = await asyncio.wait_for(stream.recv(), DEADLINE_S)
        assert message["stream"].startswith(LOWER)
    await manager._client.close_connection()


async def test_ccxt(relay: RelayProcess, engines: Engines) -> None:
    import ccxt.pro  # not above: every worker of a run reads this file, and it takes seconds

    exchange = ccxt.pro.binance({"newUpdates": True})
    exchange.urls["api"]["ws"]["spot"] = relay.url("/ws")
    base = SYMBOL.removesuffix("USDT")
    market = exchange.safe_market_structure(
        {
            "id": SYMBOL,
            "lowercaseId": LOWER,
            "symbol": f"{base}/USDT",
            "base": base,
            "quote": "USDT",
            "baseId": base,
            "quoteId": "USDT",
            "type": "spot",
            "spot": True,
            "contract": False,
        }
    )
    exchange.set_markets([market])
    try:
        async with records_flow(engines):
            candles = await asyncio.wait_for(exchange.watch_ohlcv(f"{base}/USDT", "1m"), DEADLINE_S)
            trades = await asyncio.wait_for(exchange.watch_trades(f"{base}/USDT"), DEADLINE_S)
    finally:
        await exchange.close()
    assert candles[-1][4] == 100.2
    assert trades[-1]["price"] == 100.5
