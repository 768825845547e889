"""The relay on a real Kafka with real sockets: join, resume, limits, slow and dead clients, stop, broker away."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from candlewire.client import Client
from candlewire.errors import Refused
from market.interval import MINUTE_MS, Interval
from market.rollup import roll_up
from tests.conftest import Engines
from tests.relay_process import DEADLINE_S, RelayProcess, clock, feed, live
from tests.stack_process import wait_for

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def relay(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    log = tmp_path_factory.mktemp("relay") / "relay.log"
    with RelayProcess(engines.environment, log, STREAM_MAX_PER_ADDRESS="100", PORT="8000") as process:
        yield process
    assert process.stop() == 0
    assert "Traceback" not in log.read_text("utf-8")


@pytest.fixture
def symbol() -> str:
    """A symbol that no other test uses."""
    return f"RELAY{os.getpid()}N{next(_numbers)}USDT"


async def closed_with(connection: ClientConnection) -> int | None:
    """Reads until the end; the close code."""
    try:
        while True:
            await asyncio.wait_for(connection.recv(), DEADLINE_S)
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd is not None else None


async def test_snapshot_then_updates_then_resume(relay: RelayProcess, engines: Engines, symbol: str) -> None:
    channel = f"trade:{symbol}"
    async with feed(engines.kafka_bootstrap_servers, symbol) as records:
        await records.trades(0, 10)
        await asyncio.to_thread(wait_for_trades, relay, symbol)
        async with live(relay) as first:
            await first.subscribe(channel)
            got = await first.some(1)
            await records.trades(10, 30)
            ids = [trade["trade_id"] for trade in got[0]["data"]["trades"]]
            while ids[-1] < 39:
                got.append(await first.next())
                ids.append(got[-1]["data"]["trade_id"])
            assert ids == list(range(40))
            seqs = [message["seq"] for message in got]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            assert got[-1]["t"]["relayed"] >= got[-1]["t"]["appended"] >= got[-1]["t"]["event"]
        await records.trades(40, 20)
        async with live(relay) as again:
            await again.subscribe(channel, since={channel: seqs[-1]})
            back = await again.some(20)
            assert [message["kind"] for message in back] == ["update"] * 20
            assert [message["data"]["trade_id"] for message in back] == list(range(40, 60))
            await again.subscribe(channel, since={channel: 5})
            assert [message["kind"] for message in await again.some(2)] == ["reset", "snapshot"]


def wait_for_trades(relay: RelayProcess, symbol: str) -> None:
    """Until the relay holds trades of the symbol: it refuses symbols that it has no data of."""

    async def is_held() -> bool:
        async with live(relay) as probe:
            await probe.subscribe(f"trade:{symbol}")
            answer = await probe.next()
            return answer.get("kind") == "snapshot" and len(answer["data"]["trades"]) >= 10

    wait_for("the trades", lambda: asyncio.run(is_held()), DEADLINE_S)


async def test_the_python_client_iterates_and_resumes(relay: RelayProcess, engines: Engines, symbol: str) -> None:
    channel = f"trade:{symbol}"
    client = Client("http://127.0.0.1", stream_url=f"ws://127.0.0.1:{relay.port}/live")
    async with feed(engines.kafka_bootstrap_servers, symbol) as records:
        await records.trades(0, 10)
        await asyncio.to_thread(wait_for_trades, relay, symbol)
        messages = client.stream([channel])
        snapshot = await asyncio.to_thread(next, messages)
        await records.trades(10, 5)
        updates = [await asyncio.to_thread(next, messages) for _ in range(5)]
        messages.close()
        await records.trades(15, 5)
        again = client.stream([channel], since={channel: updates[-1].seq})
        updates += [await asyncio.to_thread(next, again) for _ in range(5)]
        again.close()
    assert (snapshot.kind, len(snapshot.data["trades"])) == ("snapshot", 10)
    assert [message.data["trade_id"] for message in updates] == list(range(10, 20))
    assert [message.seq for message in updates] == list(range(snapshot.seq + 1, snapshot.seq + 11))
    with pytest.raises(Refused, match="NOTHING"):
        await asyncio.to_thread(next, client.stream(["trade:NOTHING"]))


async def test_bars_form_from_seconds_and_rest_on_candles(relay: RelayProcess, engines: Engines, symbol: str) -> None:
    open_ms = Interval.M1.floor(clock.now_ms()) - MINUTE_MS
    async with feed(engines.kafka_bootstrap_servers, symbol) as records, live(relay) as viewer:
        seconds = [records.second(open_ms + index * 1000) for index in range(62)]
        await records.send("kline_1s", seconds[:1])
        channel = f"kline:{symbol}:1m"
        while True:
            await viewer.subscribe(channel)
            message = await viewer.next()
            if message.get("kind") == "snapshot" and message["data"]["bars"]:
                break
            await asyncio.sleep(0.3)
        await records.send("kline_1s", seconds[1:])
        bars: dict[int, dict[str, Any]] = {}
        while (open_ms + MINUTE_MS) not in bars or bars[open_ms + MINUTE_MS]["row_count"] < 2:
            bar = (await viewer.next())["data"]
            bars[bar["open_time_ms"]] = bar
        closed = bars[open_ms]
        assert (closed["row_count"], closed["is_closed"], closed["is_complete"]) == (60, True, True)
        assert closed["base_volume"] == "90.00000000"
        await records.send("candle", [roll_up(seconds[:60], Interval.M1)])
        revised = await viewer.next()
        assert (revised["kind"], revised["data"]["open_time_ms"]) == ("update", open_ms)
        async with live(relay) as late:
            await late.subscribe(channel)
            snapshot = await late.next()
            assert [bar["row_count"] for bar in snapshot["data"]["bars"]] == [60, 2]


async def test_errors_go_to_their_sender_alone(relay: RelayProcess) -> None:
    async with live(relay) as wrong, live(relay) as other:
        await wrong.connection.send("no json")
        await wrong.connection.send('{"op":"subscribe","ch":["nothing"]}')
        await wrong.connection.send('{"op":"ping","id":5}')
        answers = await wrong.some(3)
        assert [answer.get("code") for answer in answers[:2]] == ["bad_message", "unknown_channel"]
        assert answers[1]["allowed"]
        assert answers[2]["op"] == "pong"
        await other.connection.send('{"op":"ping","id":6}')
        assert (await other.next())["id"] == 6


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://localhost:8000", None])
async def test_our_pages_and_programs_may_connect(relay: RelayProcess, origin: str | None) -> None:
    async with connect(relay.url(), origin=None if origin is None else Origin(origin)) as connection:
        assert connection.response is not None
        assert "Sec-WebSocket-Extensions" not in connection.response.headers


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:8001", "https://127.0.0.1:8000", "http://127.0.0.1:8000.evil.example", "null", ""]
)
async def test_foreign_pages_are_refused_before_the_upgrade(relay: RelayProcess, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(relay.url(), additional_headers={"Origin": origin})
    assert refused.value.response.status_code == 403


async def test_limits_of_connections(engines: Engines, tmp_path: Path) -> None:
    with RelayProcess(
        engines.environment, tmp_path / "log", STREAM_MAX_PER_ADDRESS="3", STREAM_MAX_CLIENTS="4"
    ) as process:
        connections = [await connect(process.url()) for _ in range(3)]
        with pytest.raises(InvalidStatus) as refused:
            await connect(process.url())
        assert refused.value.response.status_code == 429
        await connections[0].close()
        await asyncio.to_thread(wait_for, "the end", lambda: process.metric("relay_connections") == 2, DEADLINE_S)
        connections.append(await connect(process.url()))
        for connection in connections[1:]:
            await connection.close()


async def test_a_frame_too_large_is_1009(relay: RelayProcess) -> None:
    async with connect(relay.url()) as connection:
        await connection.send("x" * 5000)
        assert await closed_with(connection) == 1009


async def test_a_flood_is_1008(relay: RelayProcess) -> None:
    async with connect(relay.url()) as connection:
        for _ in range(40):
            await connection.send('{"op":"ping"}')
        assert await closed_with(connection) == 1008


async def test_half_handshakes_keep_nobody_out(relay: RelayProcess) -> None:
    halves = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(80)]
    for half in halves[:60]:
        half.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n")
    async with live(relay) as viewer:
        await viewer.connection.send('{"op":"ping","id":1}')
        assert (await viewer.next())["op"] == "pong"
    for half in halves:
        half.close()


async def test_ping_and_close_are_answered(relay: RelayProcess) -> None:
    async with connect(relay.url()) as connection:
        await asyncio.wait_for(await connection.ping(b"payload"), DEADLINE_S)
        await connection.close(code=1000)
        assert connection.close_code == 1000


async def test_the_relay_pings_and_drops_who_is_silent(engines: Engines, tmp_path: Path) -> None:
    with RelayProcess(
        engines.environment, tmp_path / "log", STREAM_PING_INTERVAL_MS="200", STREAM_DEAD_AFTER_MS="5000"
    ) as process:
        async with connect(process.url()) as alive:
            silent = socket.create_connection(("127.0.0.1", process.port))
            silent.sendall(
                b"GET /live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            gone = 'relay_disconnects_total{reason="dead"}'
            await asyncio.to_thread(wait_for, "the end", lambda: process.metric(gone) == 1, DEADLINE_S)
            silent.close()
            await alive.send('{"op":"ping","id":1}')
            assert json.loads(await alive.recv())["op"] == "pong"


async def test_slow_and_stuck_clients_are_closed_and_disturb_nobody(engines: Engines, tmp_path: Path) -> None:
    symbol = f"SLOW{os.getpid()}USDT"
    with RelayProcess(
        engines.environment,
        tmp_path / "log",
        STREAM_BUFFER_BYTES="65536",
        STREAM_SOCKET_BUFFER_BYTES="8192",
        STREAM_MAX_PER_ADDRESS="50",
    ) as process:
        async with feed(engines.kafka_bootstrap_servers, symbol) as records:
            await records.trades(0, 10)
            await asyncio.to_thread(wait_for_trades, process, symbol)
            async with live(process) as healthy:
                await healthy.subscribe(f"trade:{symbol}")
                await healthy.next()
                stuck = [await narrow(process, symbol) for _ in range(5)]
                slow = asyncio.create_task(read_slowly(await narrow(process, symbol)))
                for start in range(10, 5010, 100):
                    await records.trades(start, 100)
                    ids = [message["data"]["trade_id"] for message in await healthy.some(100)]
                    assert ids == list(range(start, start + 100))
                assert await slow == 4008
                closed = 'relay_disconnects_total{reason="too_slow"}'
                await asyncio.to_thread(wait_for, "the end", lambda: process.metric(closed) == 6, DEADLINE_S)
                for connection in stuck:
                    connection.transport.abort()


async def read_slowly(connection: ClientConnection) -> int | None:
    """Reads 20 messages a second at most; the close code."""
    try:
        while True:
            await asyncio.wait_for(connection.recv(), DEADLINE_S)
            await asyncio.sleep(0.05)
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd is not None else None


async def narrow(process: RelayProcess, symbol: str) -> ClientConnection:
    """A subscribed client with small buffers that is not being read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", process.port))
    connection = await connect(process.url(), sock=sock, max_queue=1)
    await connection.send(json.dumps({"op": "subscribe", "ch": [f"trade:{symbol}"]}))
    return connection


async def test_a_stop_says_1001_and_a_new_start_resets(engines: Engines, tmp_path: Path) -> None:
    symbol = f"STOP{os.getpid()}USDT"
    with RelayProcess(engines.environment, tmp_path / "log") as process:
        async with feed(engines.kafka_bootstrap_servers, symbol) as records:
            await records.trades(0, 10)
            await asyncio.to_thread(wait_for_trades, process, symbol)
        async with live(process) as viewer:
            await viewer.subscribe(f"trade:{symbol}")
            seq = (await viewer.next())["seq"]
            stopping = asyncio.to_thread(process.stop)
            code, exit_code = await asyncio.gather(closed_with(viewer.connection), stopping)
            assert (code, exit_code) == (1001, 0)
        process.start()
        async with live(process) as viewer:
            await viewer.subscribe(f"trade:{symbol}", since={f"trade:{symbol}": seq})
            reset, snapshot = await viewer.some(2)
            assert (reset["kind"], snapshot["kind"]) == ("reset", "snapshot")
            assert snapshot["seq"] > seq
            assert len(snapshot["data"]["trades"]) == 10


async def test_the_broker_away_is_waited_for(engines: Engines, tmp_path: Path) -> None:
    """The broker is stopped, not killed: other tests share it."""
    symbol = f"AWAY{os.getpid()}USDT"
    broker = next(room["pid"] for room in engines.stack.status()["rooms"] if room["name"] == "kafka")
    with RelayProcess(engines.environment, tmp_path / "log") as process:
        async with feed(engines.kafka_bootstrap_servers, symbol) as records:
            await records.trades(0, 10)
            await asyncio.to_thread(wait_for_trades, process, symbol)
            async with live(process) as viewer:
                await viewer.subscribe(f"trade:{symbol}")
                await viewer.next()
                os.kill(broker, signal.SIGSTOP)
                try:
                    await asyncio.to_thread(
                        wait_for, "the report", lambda: "kafka" in str(process.health()[1]["reasons"]), 60.0
                    )
                    await viewer.connection.send('{"op":"ping","id":1}')
                    assert (await viewer.next())["op"] == "pong"
                finally:
                    os.kill(broker, signal.SIGCONT)
                await records.trades(10, 5)
                assert [message["data"]["trade_id"] for message in await viewer.some(5)] == list(range(10, 15))
                await asyncio.to_thread(wait_for, "health", lambda: process.health()[0] == 200, 60.0)
