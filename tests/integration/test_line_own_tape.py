"""A recording of trades alone, played and replayed: klines built from its trades equal the exchange's own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import websockets

from aggregator.replay import Replay
from exchange_sim.service import RunningExchange
from exchange_sim.settings import SimSettings
from market.binance_codec import decode_envelope, decode_event
from market.digest import Fact, Second
from market.interval import SECOND_MS, Interval
from market.kline import Kline, differing_columns
from runtime.clock import SystemClock
from runtime.exchange_rest import ExchangeRest
from runtime.tape_file import TapeFile
from tests.producer_process import SimProcess
from tests.stack_process import ROOT

SECONDS = "10"
SILENCE_S = 3.0


async def test_a_recording_of_trades_plays_as_the_exchanges_own_seconds(tmp_path: Path) -> None:
    tape = tmp_path / "own.tape.zst"
    with SimProcess(tmp_path / "sim.log", tmp_path, SIM_SYMBOLS="5") as sim:
        await asyncio.to_thread(sim.wait_ready)
        environment = {**os.environ, **sim.addresses, "SYMBOLS": "BTCUSDT", "STREAMS": "trade"}
        command = [sys.executable, "-m", "producer.record", "--output", str(tape), "--seconds", SECONDS, "--json"]
        report = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        assert json.loads(report.stdout)["frames"] > 0
        played = await play(tape)
        rest = ExchangeRest([sim.addresses["EXCHANGE_REST_URL"]], SystemClock())
        start_ms = played[0].open_time_ms - 10 * SECOND_MS
        truth = await asyncio.to_thread(rest.klines, "BTCUSDT", Interval.S1, start_ms, None)
    rebuilt = replayed(tape)
    theirs = {kline.open_time_ms: kline for kline in truth}
    # The recording ends inside a second, and so may the last one built from it.
    whole = played[:-1]
    assert len(whole) >= 3
    assert [differing_columns(kline, theirs[kline.open_time_ms]) for kline in whole] == [()] * len(whole)
    assert len(rebuilt) >= 3
    assert [differing_columns(kline, theirs[kline.open_time_ms]) for kline in rebuilt] == [()] * len(rebuilt)


def replayed(tape: Path) -> list[Kline]:
    """The seconds that a replay builds from the tape, only whole ones."""
    facts: list[Fact] = []
    run = Replay(TapeFile(tape), facts.append)
    run.run(lambda received_ms: None)
    return [fact.kline for fact in facts if isinstance(fact, Second)]


async def play(tape: Path) -> list[Kline]:
    """The kline_1s of the tape, played at once, until nothing more comes."""
    settings = SimSettings(sim_port=0, source="tape", tape=str(tape), tape_speed="max", tape_shift="none")
    klines: list[Kline] = []
    path = "/stream?streams=btcusdt@kline_1s"
    async with RunningExchange(settings) as exchange, websockets.connect(f"ws://127.0.0.1:{exchange.port}{path}") as ws:
        while True:
            try:
                frame = await asyncio.wait_for(ws.recv(), SILENCE_S)
            except TimeoutError:
                return klines
            envelope = decode_envelope(frame)
            event = decode_event(envelope.stream or "", envelope.data, 0)
            assert isinstance(event, Kline)
            klines.append(event)
