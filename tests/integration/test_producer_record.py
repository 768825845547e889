"""`candlewire record`: what is on the tape is what came, and its digest proves it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.producer_process import SimProcess
from tests.stack_process import ROOT, wait_for

VARIABLES = {"SYMBOLS": "BTCUSDT,ETHUSDT", "STREAMS": "kline_1s,trade,depth"}


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    directory = tmp_path_factory.mktemp("record_sim")
    with SimProcess(directory / "sim.log", directory, SIM_SYMBOLS="20") as process:
        process.wait_ready()
        yield process


def start(sim: SimProcess, output: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "producer.record", "--output", str(output), *arguments],
        cwd=ROOT,
        env={**os.environ, **sim.addresses, **VARIABLES},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def lines_of(tape: Path) -> bytes:
    with tape.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def test_the_tape_holds_the_frames_and_a_snapshot_of_each_book(sim: SimProcess, tmp_path: Path) -> None:
    output = tmp_path / "a.tape.zst"
    process = start(sim, output, "--seconds", "6", "--json")
    report = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    raw = lines_of(output)
    assert report["digest"] == hashlib.sha256(raw).hexdigest()
    assert report["bytes"] == len(raw)
    header, *lines = [json.loads(line) for line in raw.splitlines()]
    assert header["candlewire_tape"] == 1
    assert header["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert header["streams"] == ["kline_1s", "trade", "depth"]
    frames = [line for line in lines if "frame" in line]
    assert len(frames) == report["frames"]
    streams = {json.loads(line["frame"]).get("stream") for line in frames}
    assert {"btcusdt@kline_1s", "ethusdt@kline_1s", "btcusdt@depth@100ms"} <= streams
    snapshots = {
        line["rest"]: json.loads(line["body"]) for line in lines if line.get("rest", "").startswith("/api/v3/d")
    }
    assert set(snapshots) == {f"/api/v3/depth?symbol={symbol}&limit=1000" for symbol in header["symbols"]}
    assert all(body["lastUpdateId"] for body in snapshots.values())
    assert lines == sorted(lines, key=lambda line: line["received_at_ms"])


def test_an_interrupt_ends_the_tape_cleanly(sim: SimProcess, tmp_path: Path) -> None:
    output = tmp_path / "b.tape.zst"
    process = start(sim, output, "--seconds", "600")
    partial = tmp_path / "b.tape.zst.partial"
    wait_for("something on the tape", lambda: partial.exists() and partial.stat().st_size > 1000, 60)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert hashlib.sha256(lines_of(output)).hexdigest() in printed
    assert not partial.exists()


@pytest.mark.parametrize("arguments", [("--seconds", "0"), ("--seconds", "x"), ()])
def test_wrong_usage_writes_nothing(sim: SimProcess, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process = start(sim, tmp_path / "c.tape.zst", *arguments)
    assert process.wait(30) == 2
    assert list(tmp_path.iterdir()) == []
