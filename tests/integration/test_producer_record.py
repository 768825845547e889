"""`candlewire record`: what is on the tape is what came, it can be read whatever happens, and its digest says it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from market.tape_lines import TapedFrame
from producer.tape import TapeFrame, TapeHeader, TapeLimits, TapeWriter
from runtime.clock import ManualClock
from runtime.operations.recordings import ask_to_rotate, running
from runtime.tape_file import TapeError, TapeFile
from tests.producer_process import SimProcess
from tests.stack_process import ROOT, wait_for
from tests.tape_digest import digest_of_tape

VARIABLES = {"SYMBOLS": "BTCUSDT,ETHUSDT", "STREAMS": "kline_1s,trade,depth"}
WANTED = {
    *("btcusdt@kline_1s", "ethusdt@kline_1s", "btcusdt@depth@100ms"),
    *(f"/api/v3/depth?symbol={symbol}&limit=1000" for symbol in ("BTCUSDT", "ETHUSDT")),
}
HEADER = TapeHeader(started_at_ms=1, exchange="ws://x", symbols=["BTCUSDT"], streams=["trade"])


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    directory = tmp_path_factory.mktemp("record_sim")
    with SimProcess(directory / "sim.log", directory, SIM_SYMBOLS="20") as process:
        process.wait_ready()
        yield process


def start(sim: SimProcess, output: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "producer.record", "--output", str(output), *arguments],
        cwd=ROOT,
        env={**os.environ, **sim.addresses, **VARIABLES, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    tape = TapeFile(path)
    lines = [json.loads(line) for line in tape]
    assert tape.cut_at_line is None
    return lines


def test_a_running_recording_goes_on_in_a_new_part_when_asked(sim: SimProcess, tmp_path: Path) -> None:
    output = tmp_path / "a.tape.zst"
    assert ask_to_rotate(tmp_path) == []
    process = start(sim, output, "--seconds", "60", "--json", DATA_DIR=str(tmp_path))
    try:
        wait_for("the recording", lambda: ask_to_rotate(tmp_path), 60)
        wait_for("the new part", (tmp_path / "a.0002.tape.zst").exists, 60)
    finally:
        process.send_signal(signal.SIGTERM)
    report = json.loads(process.communicate(timeout=60)[0])
    assert [Path(file).name for file in report["files"]][:2] == ["a.tape.zst", "a.0002.tape.zst"]
    assert report["digest"] == digest_of_tape(output)
    assert running(tmp_path) == {}


def read_so_far(output: Path) -> list[bytes]:
    """The lines of a tape that is being written."""
    try:
        return list(TapeFile(output)) if output.exists() else []
    except TapeError:  # its first line is still being written
        return []


def kinds_of(output: Path) -> set[str]:
    """The streams and REST paths on the tape so far."""
    lines = [json.loads(line) for line in read_so_far(output)]
    streams = {str(json.loads(line["frame"]).get("stream")) for line in lines if "frame" in line}
    return streams | {str(line["rest"]) for line in lines if "rest" in line}


def test_the_tape_holds_the_frames_and_a_snapshot_of_each_book(sim: SimProcess, tmp_path: Path) -> None:
    output = tmp_path / "a.tape.zst"
    process = start(sim, output, "--seconds", "600", "--json")
    wait_for("every stream and both books", lambda: kinds_of(output) >= WANTED, 60)
    process.send_signal(signal.SIGINT)
    report = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert report["digest"] == digest_of_tape(output)
    assert report["bytes"] == output.stat().st_size
    assert (report["bad_frames"], report["problem"]) == (0, None)
    assert set(report["windows"]) == {"BTCUSDT", "ETHUSDT"}
    header, *lines = lines_of(output)
    assert header["candlewire_tape"] == 1
    assert header["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert header["streams"] == ["kline_1s", "trade", "depth"]
    frames = [line for line in lines if "frame" in line]
    assert len(frames) == report["frames"]
    snapshots = {
        line["rest"]: json.loads(line["body"]) for line in lines if line.get("rest", "").startswith("/api/v3/d")
    }
    assert set(snapshots) == {f"/api/v3/depth?symbol={symbol}&limit=1000" for symbol in header["symbols"]}
    assert all(body["lastUpdateId"] for body in snapshots.values())
    assert lines == sorted(lines, key=lambda line: line["received_at_ms"])


def test_an_interrupt_ends_the_tape_cleanly(sim: SimProcess, tmp_path: Path) -> None:
    output = tmp_path / "b.tape.zst"
    process = start(sim, output, "--seconds", "600")
    wait_for("something on the tape", lambda: output.exists() and output.stat().st_size > 1000, 60)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert digest_of_tape(output) in printed
    assert lines_of(output)


def test_a_killed_recorder_leaves_a_tape_that_is_cut_and_can_be_read(sim: SimProcess, tmp_path: Path) -> None:
    output = tmp_path / "k.tape.zst"
    process = start(sim, output, "--seconds", "600")

    def frames() -> int:
        return sum(b'"frame"' in line for line in read_so_far(output))

    wait_for("frames on the disk", lambda: frames() > 20, 60)
    process.kill()
    process.communicate(timeout=30)
    tape = TapeFile(output)
    lines = [json.loads(line) for line in tape]
    assert len(lines) > 20
    assert tape.cut_at_line == len(lines) + 1


def test_the_bound_on_the_disk_ends_the_recording_and_says_so(sim: SimProcess, tmp_path: Path) -> None:
    output = tmp_path / "f.tape.zst"
    process = start(sim, output, "--seconds", "600", "--json", RECORD_MAX_BYTES="65536")
    printed, complaints = process.communicate(timeout=120)
    report = json.loads(printed)
    assert process.returncode == 1
    assert "65536 bytes" in report["problem"]
    assert "65536 bytes" in complaints
    assert output.stat().st_size == report["bytes"] <= 65536
    assert report["digest"] == digest_of_tape(output)
    assert sum("frame" in line for line in lines_of(output)) == report["frames"]


@pytest.mark.parametrize("arguments", [("--seconds", "0"), ("--seconds", "x"), ()])
def test_wrong_usage_writes_nothing(sim: SimProcess, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process = start(sim, tmp_path / "c.tape.zst", *arguments)
    process.communicate(timeout=30)
    assert process.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_parts_follow_each_other_by_age(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "p.tape.zst"
    with TapeWriter(path, HEADER, TapeLimits(10**6, 10**6, 60.0), clock) as tape:
        for minute in range(3):
            tape.frame(TapeFrame(minute, "c1.1", f'{{"id":{minute}}}'))
            clock.advance(61_000)
            tape.flush()
        tape.finish("v1:sha256:0")
    assert [file.name for file in tape.files] == [
        "p.tape.zst", "p.0002.tape.zst", "p.0003.tape.zst", "p.0004.tape.zst",
    ]  # fmt: skip
    whole = TapeFile(path)
    taped = [whole.parse(line) for line in whole]
    assert [frame.received_ms for frame in taped if isinstance(frame, TapedFrame)] == [0.0, 1.0, 2.0]
    assert whole.end is not None
    assert whole.end.digest == "v1:sha256:0"


def test_the_bound_holds_over_all_parts(tmp_path: Path) -> None:
    path, limits = tmp_path / "p.tape.zst", TapeLimits(20_000, 4_000, 3600.0)
    with TapeWriter(path, HEADER, limits, ManualClock()) as tape:
        while not tape.is_full:
            noise = hashlib.sha256(str(tape.frames).encode()).hexdigest()
            tape.frame(TapeFrame(tape.frames, "c1.1", noise))
            if tape.frames % 10 == 0:
                tape.flush()
        tape.finish("v1:sha256:0")
    assert len(tape.files) > 3
    assert 15_000 < sum(file.stat().st_size for file in tape.files) == tape.byte_count <= 20_000
    assert sum("frame" in line for line in lines_of(path)) == tape.frames


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "p.tape.zst"
    (tmp_path / "p.0002.tape.zst").write_bytes(b"mine")
    with TapeWriter(path, HEADER, TapeLimits(10**6, 1, 60.0), ManualClock()) as tape:
        tape.flush()
        assert "disk" in tape.problem
        tape.finish("v1:sha256:0")
    assert (tmp_path / "p.0002.tape.zst").read_bytes() == b"mine"
