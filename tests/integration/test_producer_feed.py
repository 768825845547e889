"""The producer against the stand-in exchange and a real broker, with one fault after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from market.feed import GapCause
from tests.conftest import Engines
from tests.producer_process import (
    DEADLINE_S,
    RoomProcess,
    SimProcess,
    TopicReader,
    doubles,
    missing_trades,
    outages_of,
    unaccounted_seconds,
)
from tests.stack_process import wait_for

KLINES = 'ingest_messages_total{stream="kline_1s"}'
KLINES_ACKED = 'produce_records_total{topic="kline_1s"}'
SYMBOLS = 5


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    directory = tmp_path_factory.mktemp("producer_sim")
    with SimProcess(directory / "sim.log", directory, SIM_SYMBOLS="400") as process:
        process.wait_ready()
        yield process


@pytest.fixture
def reader(engines: Engines) -> TopicReader:
    return TopicReader(engines.kafka_bootstrap_servers)


def producer(engines: Engines, sim: SimProcess, directory: Path, **variables: str) -> RoomProcess:
    environment = {**engines.environment, **sim.addresses, "DATA_DIR": str(directory), **variables}
    return RoomProcess("producer", directory / "producer.log", environment)


def more_klines(room: RoomProcess, seconds: int) -> None:
    """Until so many further seconds of every symbol have been acknowledged."""
    room.wait_metric(KLINES_ACKED, room.metric(KLINES_ACKED) + seconds * SYMBOLS)


def test_a_cut_is_written_down_second_by_second(
    engines: Engines, sim: SimProcess, reader: TopicReader, tmp_path: Path
) -> None:
    with producer(engines, sim, tmp_path) as room:
        room.wait_ready()
        more_klines(room, 2)
        sim.order("refuse", duration_ms=2500)
        sim.order("cut")
        room.wait_metric('ingest_reconnects_total{reason="cut"}', 2)
        more_klines(room, 3)
        wait_for("all streams to be back", lambda: room.metric("ingest_open_outages") == 0, DEADLINE_S)
        assert room.get("healthz")[0] == 200
    records = reader.read()
    assert unaccounted_seconds(records) == []
    assert doubles(records["kline_1s"], "open_time_ms") == doubles(records["trade"], "trade_id") == []
    outages = outages_of(records["feed_outage"], "kline_1s")
    assert {outage.cause for outage in outages} == {GapCause.DISCONNECT}
    assert {outage.symbol for outage in outages} == {record["symbol"] for record in records["kline_1s"]}


def test_doubles_are_dropped_and_bad_frames_become_dead_letters(
    engines: Engines, sim: SimProcess, reader: TopicReader, tmp_path: Path
) -> None:
    with producer(engines, sim, tmp_path) as room:
        room.wait_ready()
        sim.order("duplicate", count=300)
        sim.order("reorder", stream="trade", count=3)
        room.wait_metric("ingest_duplicates_total", 300)
        sim.order("bad_json", stream="miniTicker", count=3)
        sim.order("unknown_symbol", stream="bookTicker", count=2)
        sim.order("oversized", stream="depth20", count=1)
        room.wait_metric('produce_records_total{topic="dead_frame"}', 6)
        more_klines(room, 2)
    records = reader.read()
    assert doubles(records["kline_1s"], "open_time_ms") == doubles(records["trade"], "trade_id") == []
    assert unaccounted_seconds(records) == []
    assert missing_trades(records["trade"]) == 0
    assert len(records["dead_frame"]) == 6
    assert all(record["reason"] and record["frame"] for record in records["dead_frame"])
    assert outages_of(records["feed_outage"]) == []


def test_a_silent_stream_on_a_living_connection_is_noticed_and_mended(
    engines: Engines, sim: SimProcess, reader: TopicReader, tmp_path: Path
) -> None:
    with producer(engines, sim, tmp_path) as room:
        room.wait_ready()
        more_klines(room, 2)
        sim.order("stall", stream="kline_1s", duration_ms=7000)
        room.wait_metric('ingest_outages_total{cause="silence",stream="kline_1s"}', SYMBOLS)
        more_klines(room, 2)
        assert room.metric('ingest_reconnects_total{reason="silence"}') >= 1
    records = reader.read()
    assert unaccounted_seconds(records) == []
    outages = outages_of(records["feed_outage"], "kline_1s")
    assert {outage.cause for outage in outages} == {GapCause.SILENCE}
    # Noticed within 5 s of the first second that did not come (its kline was due a second after its begin).
    assert all(outage.event_time_ms >= outage.from_time_ms for outage in outages)
    assert missing_trades(records["trade"]) == 0


def test_planned_rotation_and_announced_shutdown_leave_no_hole_and_no_double(
    engines: Engines, sim: SimProcess, reader: TopicReader, tmp_path: Path
) -> None:
    with producer(engines, sim, tmp_path, CONNECTION_LIFETIME_S="4") as room:
        room.wait_ready()
        room.wait_metric('ingest_reconnects_total{reason="planned"}', 4)
        more_klines(room, 1)
        sim.order("server_shutdown")
        room.wait_metric('ingest_reconnects_total{reason="server_shutdown"}', 1)
        more_klines(room, 3)
    records = reader.read()
    assert unaccounted_seconds(records) == []
    assert doubles(records["kline_1s"], "open_time_ms") == doubles(records["trade"], "trade_id") == []
    assert missing_trades(records["trade"]) == 0
    assert outages_of(records["feed_outage"]) == []


@pytest.mark.timeout(240)
def test_a_killed_broker_costs_nothing(engines: Engines, sim: SimProcess, reader: TopicReader, tmp_path: Path) -> None:
    with producer(engines, sim, tmp_path) as room:
        room.wait_ready()
        more_klines(room, 2)
        before = room.metric(KLINES)
        pid = engines.stack.kill("kafka")
        room.wait_metric(KLINES, before + 2 * SYMBOLS)
        engines.stack.wait_restarted("kafka", pid)
        more_klines(room, 12)
        wait_for("health", lambda: room.get("healthz")[0] == 200, DEADLINE_S)
    records = reader.read()
    assert unaccounted_seconds(records) == []
    assert missing_trades(records["trade"]) == 0
    assert outages_of(records["feed_outage"]) == []


@pytest.mark.timeout(240)
def test_what_overflows_while_the_broker_hangs_is_written_down(
    engines: Engines, sim: SimProcess, reader: TopicReader, tmp_path: Path
) -> None:
    broker_pid = int(engines.stack.room("kafka")["pid"])
    variables = {"SYMBOLS": ",".join(sim.symbols()), "STREAMS": "kline_1s", "PRODUCE_BUFFER_BYTES": str(1024 * 1024)}
    with producer(engines, sim, tmp_path, **variables) as room:
        room.wait_metric(KLINES_ACKED, 800)
        os.kill(broker_pid, signal.SIGSTOP)
        try:
            room.wait_metric('produce_dropped_records_total{topic="kline_1s"}', 400)
            assert room.metric("produce_buffer_bytes") <= 1024 * 1024 + 300_000
            wait_for("health to name it", lambda: "no acknowledgement" in room.get("healthz")[1], DEADLINE_S)
        finally:
            os.kill(broker_pid, signal.SIGCONT)
        room.wait_metric('ingest_outages_total{cause="overflow"', 1)
        room.wait_metric(KLINES_ACKED, room.metric(KLINES_ACKED) + 1200)
    records = reader.read()
    assert unaccounted_seconds(records) == []
    assert {outage.cause for outage in outages_of(records["feed_outage"], "kline_1s")} == {GapCause.OVERFLOW}


def test_a_feed_of_garbage_stops_the_room_with_an_error(
    engines: Engines, sim: SimProcess, reader: TopicReader, tmp_path: Path
) -> None:
    room = producer(engines, sim, tmp_path)
    room.__enter__()
    room.wait_ready()
    assert room.process is not None
    sim.order("bad_json", duration_ms=20_000)
    try:
        assert room.process.wait(DEADLINE_S) == 1
    finally:
        room.stop()
    assert "too_many_bad_frames" in (tmp_path / "producer.log").read_text("utf-8")
