"""The simulated exchange over real sockets: the protocol's rules, and unmodified client libraries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from binance import AsyncClient, BinanceSocketManager
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from exchange_sim.faults import Fault
from exchange_sim.service import RunningExchange
from exchange_sim.settings import SimSettings

WAIT_S = 15


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[RunningExchange]:
    async with RunningExchange(SimSettings(sim_port=0, sim_symbols=30, sim_weight_per_minute=1000)) as running:
        yield running


def address(exchange: RunningExchange, path: str, scheme: str = "ws") -> str:
    return f"{scheme}://127.0.0.1:{exchange.port}{path}"


async def receive(socket: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), WAIT_S))


async def until(socket: ClientConnection, wanted: Callable[[Any], bool]) -> Any:
    while True:
        message = await receive(socket)
        if wanted(message):
            return message


async def get(exchange: RunningExchange, path: str) -> tuple[int, Any, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.get(address(exchange, path, "http")) as response:
        return response.status, await response.json(), dict(response.headers)


async def test_control_messages_and_their_errors(exchange: RunningExchange) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}', {"result": None, "id": 1}),
        ('{"method":"LIST_SUBSCRIPTIONS","id":"a1"}', {"result": ["btcusdt@trade"], "id": "a1"}),
        ('{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":2}', {"result": None, "id": 2}),
        ('{"method":"GET_PROPERTY","params":["combined"],"id":3}', {"result": False, "id": 3}),
        ('{"method":"SET_PROPERTY","params":["combined",true],"id":null}', {"result": None, "id": None}),
    ]
    failures = [
        ('{"method":"SET_PROPERTY","params":["nope",true],"id":4}', 0),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":4}', 1),
        ('{"method":"SET_PROPERTY","params":[7,true],"id":4}', 2),
        ('{"method":"DANCE","id":4}', 2),
        ('{"id":4}', 2),
        ("{not json", 3),
    ]
    for group in (cases, [(text, {"code": code}) for text, code in failures[:5]], [(failures[5][0], {"code": 3})]):
        async with connect(address(exchange, "/ws")) as socket:
            for text, expected in group:
                await socket.send(text)
                reply = await until(socket, lambda message: "e" not in message)
                assert reply == expected or {"code": reply.get("code")} == expected, text


async def test_too_many_messages_disconnect(exchange: RunningExchange) -> None:
    async with connect(address(exchange, "/ws")) as socket:
        for number in range(8):
            await socket.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        with pytest.raises(ConnectionClosed) as caught:
            await until(socket, lambda message: False)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "Too many requests")


async def test_more_than_1024_streams_disconnect(exchange: RunningExchange) -> None:
    names = "/".join(f"x{i}usdt@trade" for i in range(1025))
    async with connect(address(exchange, f"/stream?streams={names}")) as socket:
        with pytest.raises(ConnectionClosed):
            await receive(socket)


async def test_a_ping_that_is_not_echoed_cuts() -> None:
    settings = SimSettings(sim_port=0, sim_symbols=5, sim_ping_interval_ms=100, sim_pong_timeout_ms=300)
    async with (
        RunningExchange(settings) as exchange,
        aiohttp.ClientSession() as session,
        session.ws_connect(address(exchange, "/ws"), autoping=False) as socket,
    ):
        pings = []
        while (message := await asyncio.wait_for(socket.receive(), WAIT_S)).type is aiohttp.WSMsgType.PING:
            pings.append(message.data)
            await socket.pong(b"")
        assert socket.close_code == 1008
        assert pings
        assert all(payload for payload in pings)


async def test_an_echoed_ping_keeps_the_connection_until_its_lifetime_ends() -> None:
    settings = SimSettings(
        sim_port=0,
        sim_symbols=5,
        sim_ping_interval_ms=250,
        sim_pong_timeout_ms=1000,
        sim_connection_lifetime_ms=1500,
    )
    async with RunningExchange(settings) as exchange, connect(address(exchange, "/ws")) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await receive(socket)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001


async def test_seconds_trades_and_rest_agree_to_the_last_digit(exchange: RunningExchange) -> None:
    streams = "/stream?streams=btcusdt@kline_1s/btcusdt@trade"
    trades: dict[int, Any] = {}
    klines: list[Any] = []
    async with connect(address(exchange, streams)) as socket:
        while len(klines) < 4:
            data = (await receive(socket))["data"]
            if data["e"] == "trade":
                trades[data["t"]] = data
            else:
                klines.append(data)
    for event in klines:
        k = event["k"]
        assert k["x"] is True
        assert k["t"] + 1001 <= event["E"] <= k["t"] + 1043
        assert k["T"] == k["t"] + 999
        _, rows, _ = await get(
            exchange, f"/api/v3/klines?symbol=BTCUSDT&interval=1s&startTime={k['t']}&endTime={k['t']}"
        )
        assert rows == [[k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], "0"]]
        if k["n"]:
            assert k["L"] - k["f"] + 1 == k["n"]
    full = [event["k"] for event in klines[1:] if event["k"]["n"]]
    for k in full:
        inside = [trades[i] for i in range(k["f"], k["L"] + 1)]
        assert [inside[0]["p"], inside[-1]["p"]] == [k["o"], k["c"]]
        assert all(k["t"] <= trade["T"] <= k["T"] for trade in inside)


async def test_the_book_of_the_diffs_is_the_book_of_the_snapshot(exchange: RunningExchange) -> None:
    streams = "/stream?streams=ethusdt@depth@100ms/ethusdt@depth20@100ms/ethusdt@bookTicker"
    async with connect(address(exchange, streams)) as socket:
        await until(socket, lambda m: m["stream"] == "ethusdt@depth@100ms")
        _, snapshot, _ = await get(exchange, "/api/v3/depth?symbol=ETHUSDT&limit=5000")
        assert min(len(snapshot["bids"]), len(snapshot["asks"])) >= 200
        update_id = snapshot["lastUpdateId"]
        bids, asks = dict(snapshot["bids"]), dict(snapshot["asks"])
        compared = 0
        while compared < 10:
            message = await receive(socket)
            data = message["data"]
            if data.get("e") == "depthUpdate" and data["u"] > update_id:
                assert data["U"] <= update_id + 1
                for side, levels in ((bids, data["b"]), (asks, data["a"])):
                    for price, quantity in levels:
                        side[price] = quantity
                        if not float(quantity):
                            del side[price]
                update_id = data["u"]
            elif data.get("lastUpdateId") == update_id:
                best_bids = sorted(bids, key=float, reverse=True)[:20]
                assert data["bids"] == [[price, bids[price]] for price in best_bids]
                assert data["asks"] == [[price, asks[price]] for price in sorted(asks, key=float)[:20]]
                assert float(best_bids[0]) < float(data["asks"][0][0])
                compared += 1


async def test_klines_of_rest_by_range(exchange: RunningExchange) -> None:
    base = "/api/v3/klines?symbol=SOLUSDT&interval=1m"
    _, newest, headers = await get(exchange, f"{base}&limit=3")
    assert [row[0] for row in newest] == [newest[0][0] + i * 60_000 for i in range(3)]
    assert int(headers["X-MBX-USED-WEIGHT-1M"]) >= 2
    start = newest[0][0] - 600_000
    _, from_start, _ = await get(exchange, f"{base}&startTime={start}&limit=2")
    assert [row[0] for row in from_start] == [start, start + 60_000]
    _, to_end, _ = await get(exchange, f"{base}&endTime={start}&limit=2")
    assert [row[0] for row in to_end] == [start - 60_000, start]
    _, thousand, _ = await get(exchange, "/api/v3/klines?symbol=SOLUSDT&interval=15m&limit=1000")
    assert len(thousand) == 1000
    _, hour, _ = await get(exchange, f"/api/v3/klines?symbol=SOLUSDT&interval=1h&endTime={start}&limit=1")
    _, minutes, _ = await get(exchange, f"{base}&startTime={hour[0][0]}&endTime={hour[0][6]}&limit=60")
    assert hour[0][8] == sum(row[8] for row in minutes) or hour[0][6] > newest[-1][0]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v3/klines?symbol=NOPE&interval=1m", 400, -1121),
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", 400, -1120),
        ("/api/v3/klines?interval=1m", 400, -1102),
        ("/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=x", 400, -1100),
        ("/api/v3/nothing", 404, -1000),
    ],
)
async def test_rest_errors(exchange: RunningExchange, path: str, status: int, code: int) -> None:
    found, body, _ = await get(exchange, path)
    assert (found, body["code"]) == (status, code)
    assert body["msg"]


async def test_weight_runs_out_with_429_and_retry_after() -> None:
    settings = SimSettings(sim_port=0, sim_symbols=5, sim_weight_per_minute=30)
    async with RunningExchange(settings) as exchange:
        answers = [await get(exchange, "/api/v3/exchangeInfo") for _ in range(4)]
        status, body, headers = next(answer for answer in answers if answer[0] != 200)
        assert (status, body["code"]) == (429, -1003)
        assert 1 <= int(headers["Retry-After"]) <= 60


async def test_faults_over_http(exchange: RunningExchange) -> None:
    async with aiohttp.ClientSession() as session:
        control = address(exchange, "/sim/faults", "http")
        async with session.post(control, json={"fault": "nonsense"}) as response:
            assert response.status == 400
        async with session.post(control, json={"fault": "rest_status", "status": 418, "count": 1}) as response:
            assert response.status == 200
        assert (await get(exchange, "/api/v3/ping"))[0] == 418
        assert (await get(exchange, "/api/v3/ping"))[0] == 200
        async with session.post(control, json={"fault": "refuse"}) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(address(exchange, "/ws"))
        async with session.delete(control) as response:
            assert response.status == 200
        async with session.ws_connect(address(exchange, "/ws")):
            status = await session.get(address(exchange, "/sim/status", "http"))
            assert (await status.json())["faults_used"] == {"rest_status": 1, "refuse": 1}


async def test_what_a_blocked_region_and_a_suspended_symbol_see(exchange: RunningExchange) -> None:
    exchange.exchange.order(Fault("refuse", status=451, count=1))
    with pytest.raises(InvalidStatus) as caught:
        await connect(address(exchange, "/ws"))
    assert caught.value.response.status_code == 451
    exchange.exchange.order(Fault("symbol_status", stream="ethusdt"))
    _, body, _ = await get(exchange, '/api/v3/exchangeInfo?symbols=["BTCUSDT","ETHUSDT"]')
    assert [symbol["status"] for symbol in body["symbols"]] == ["TRADING", "BREAK"]


async def test_the_other_shape_of_errors(exchange: RunningExchange) -> None:
    async with connect(address(exchange, "/ws")) as socket:
        exchange.exchange.order(Fault("nested_error", count=1))
        for has_nested in (True, False):
            await socket.send('{"method":"NONSENSE","id":1}')
            reply = await receive(socket)
            assert (reply.get("error", reply)["code"], "error" in reply, reply["id"]) == (2, has_nested, 1)


async def test_asking_for_every_book_starts_none(exchange: RunningExchange) -> None:
    assert (await get(exchange, "/api/v3/ticker/bookTicker"))[1] == []
    _, days, _ = await get(exchange, "/api/v3/ticker/24hr")
    assert all(row["bidPrice"] == "0.00000000" for row in days), "asking for the day of every symbol starts no book"
    _, single, _ = await get(exchange, "/api/v3/ticker/bookTicker?symbol=BTCUSDT")
    assert float(single["bidPrice"]) < float(single["askPrice"])
    assert [row["symbol"] for row in (await get(exchange, "/api/v3/ticker/bookTicker"))[1]] == ["BTCUSDT"]


async def test_shutdown_notice_in_both_dialects_and_a_cut(exchange: RunningExchange) -> None:
    async with connect(address(exchange, "/ws")) as raw, connect(address(exchange, "/stream")) as combined:
        exchange.exchange.order(Fault("server_shutdown"))
        assert (await receive(raw))["e"] == "serverShutdown"
        message = await receive(combined)
        assert (message["stream"], message["data"]["e"]) == ("!serverShutdown", "serverShutdown")
        exchange.exchange.order(Fault("cut"))
        with pytest.raises(ConnectionClosed) as caught:
            await receive(raw)
        assert caught.value.rcvd is None


async def test_broken_streams(exchange: RunningExchange) -> None:
    async with connect(address(exchange, "/ws/btcusdt@depth@100ms"), max_size=None) as socket:
        first = await receive(socket)
        exchange.exchange.order(Fault("depth_hole", count=1))
        second = await until(socket, lambda message: message["U"] != first["u"] + 1 or first.update(message))
        assert second["U"] > first["u"] + 1
        exchange.exchange.order(Fault("oversized", count=1))
        sizes = [len(await asyncio.wait_for(socket.recv(), WAIT_S)) for _ in range(4)]
        assert max(sizes) > 1_500_000
        exchange.exchange.order(Fault("bad_json", count=1))
        with pytest.raises(json.JSONDecodeError):
            await until(socket, lambda message: False)


async def test_microseconds(exchange: RunningExchange) -> None:
    async with connect(address(exchange, "/ws/btcusdt@kline_1s?timeUnit=MICROSECOND")) as socket:
        k = (await receive(socket))["k"]
        assert k["T"] == k["t"] + 999_999
        assert k["t"] > 10**15


async def test_python_binance_unmodified(exchange: RunningExchange) -> None:
    client = AsyncClient()
    try:
        client.API_URL = address(exchange, "/api", "http")
        rows = await client.get_klines(symbol="BTCUSDT", interval="1m", limit=5)
        assert len(rows) == 5
        info = await client.get_symbol_info("ETHUSDT")
        assert info is not None
        assert info["status"] == "TRADING"
        manager = BinanceSocketManager(client)
        socket = manager.kline_socket("BTCUSDT", interval="1s")
        socket._url = address(exchange, "/")
        async with socket as stream:
            message = await asyncio.wait_for(stream.recv(), WAIT_S)
        assert message["k"]["i"] == "1s"
    finally:
        await client.close_connection()


async def test_ccxt_unmodified(exchange: RunningExchange) -> None:
    import ccxt.async_support as ccxt  # not above: every worker of a run reads this file, and it takes seconds

    client = ccxt.binance({"options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}})
    try:
        client.urls["api"]["public"] = address(exchange, "/api/v3", "http")
        client.has["fetchCurrencies"] = False
        candles = await client.fetch_ohlcv("BTC/USDT", "5m", limit=10)
        assert len(candles) == 10
        book = await client.fetch_order_book("ETH/USDT", limit=10)
        assert book["bids"][0][0] < book["asks"][0][0]
        ticker = await client.fetch_ticker("BTC/USDT")
        assert ticker["quoteVolume"] > 0
    finally:
        await client.close()
