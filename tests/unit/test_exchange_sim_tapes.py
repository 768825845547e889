"""Tapes: the formats, bad files, and klines built from recorded trades against the exchange's own."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from exchange_sim.klines import bar
from exchange_sim.tape import moved
from exchange_sim.tape_book import TapeBook
from exchange_sim.tape_formats import Tape, TapeError
from exchange_sim.tape_log import TapeContents, units8
from exchange_sim.wire import kline_row

DAY_MS = 86_400_000
FIVE_MINUTES = 1_723_161_300_000


def own_tape(lines: int) -> bytes:
    rows: list[dict[str, Any]] = [{"candlewire_tape": 1, "started_at_ms": 5, "exchange": "x", "streams": []}]
    for i in range(lines):
        data = {
            "e": "trade",
            "E": 1000 * i + 9,
            "s": "ABCUSDT",
            "t": i,
            "p": "1.50",
            "q": "2",
            "T": 1000 * i,
            "m": True,
        }
        frame = json.dumps({"stream": "abcusdt@trade", "data": data})
        rows.append({"received_at_ms": 1000 * i + 30, "connection": "1", "frame": frame})
    return "\n".join(json.dumps(row) for row in rows).encode() + b"\n"


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_our_own_format_packed_or_not(tmp_path: Path, packed: str) -> None:
    pack = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[packed]
    path = tmp_path / "a.tape"
    path.write_bytes(pack(own_tape(4)))
    contents = TapeContents(Tape(path))
    spec = contents.symbols["ABCUSDT"]
    assert (spec.base, spec.quote, spec.price_decimals, spec.quantity_decimals) == ("ABC", "USDT", 1, 0)
    made = bar(contents, spec, (1000, 3000), 3000)
    assert made is not None
    assert (made.trade_count, made.first_id, made.last_id, made.close) == (2, 1, 2, 15)


def test_a_second_without_trades_is_flat(tmp_path: Path) -> None:
    path = tmp_path / "a.tape.jsonl"
    path.write_bytes(own_tape(2))
    contents = TapeContents(Tape(path))
    made = bar(contents, contents.symbols["ABCUSDT"], (2000, 3000), 3000)
    assert made is not None
    assert (made.trade_count, made.first_id, made.open, made.close) == (0, -1, 15, 15)


@pytest.mark.parametrize("packed", ["plain", "gzip"])
def test_a_cut_tape_plays_up_to_the_cut(tmp_path: Path, packed: str) -> None:
    whole = own_tape(500)
    whole = gzip.compress(whole) if packed == "gzip" else whole
    path = tmp_path / "cut.tape"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    tape = Tape(path)
    lines = list(tape)
    assert 0 < len(lines) < 500
    assert tape.cut_at_line is not None


@pytest.mark.parametrize("content", [b"", b"hello world\n", gzip.compress(b"", mtime=0)[:5]])
def test_what_is_no_tape_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.tape"
    path.write_bytes(content)
    with pytest.raises(TapeError, match=r"bad\.tape"):
        TapeContents(Tape(path))


def test_times_move_by_whole_days_in_their_own_unit() -> None:
    kline = {"e": "kline", "E": 1_784_410_630_021, "k": {"t": 1_784_410_620_000, "T": 1_784_410_679_999}}
    shifted = moved(kline, DAY_MS, DAY_MS, 1)
    assert shifted["k"] == {"t": 1_784_410_620_000 + DAY_MS, "T": 1_784_410_679_999 + DAY_MS}
    micro = moved(kline, 0, 0, 1000)
    assert micro["k"] == {"t": 1_784_410_620_000_000, "T": 1_784_410_679_999_999}
    assert moved(micro, 0, 0, 1) == kline
    trade = {"e": "trade", "E": 5, "T": 4, "t": 77}
    assert moved(trade, 10, 12, 1) == {"e": "trade", "E": 17, "T": 14, "t": 77}


def test_the_recorded_spot_tape_gives_the_exchanges_own_five_minute_candle(shared_data: Path) -> None:
    contents = TapeContents(Tape(shared_data / "captures" / "hftbacktest_spot_btcusdt_20240808.gz"))
    spec = contents.symbols["BTCUSDT"]
    assert spec.price_decimals == 2
    made = bar(contents, spec, (FIVE_MINUTES, FIVE_MINUTES + 300_000), FIVE_MINUTES + 300_000)
    assert made is not None
    with gzip.open(shared_data / "klines" / "BTCUSDT-5m-2024-08.days01-08.csv.gz", "rt") as file:
        expected = next(row for row in csv.reader(file) if row[0] == str(FIVE_MINUTES))
    assert [str(value) for value in kline_row(spec, made, 1)] == expected


def test_the_recorded_book_follows_its_snapshot(shared_data: Path) -> None:
    tape = Tape(shared_data / "captures" / "hftbacktest_spot_btcusdt_20240808.gz")
    spec = TapeContents(tape).symbols["BTCUSDT"]
    book = TapeBook(spec)
    equal, tickers = 0, {}
    for line in tape:
        if not line.stream:
            book.snapshot(line.data)
        elif line.stream.endswith("@bookTicker"):
            tickers[line.data["u"]] = line.data
        elif line.data.get("e") == "depthUpdate":
            book.event(line.data)
            ticker = tickers.get(book.update_id)
            best = book.best()
            if ticker is not None and best is not None:
                (bid, bid_lots), (ask, ask_lots) = best
                assert bid * spec.price_unit == units8(ticker["b"])
                assert bid_lots * spec.quantity_unit == units8(ticker["B"])
                assert ask * spec.price_unit == units8(ticker["a"])
                assert ask_lots * spec.quantity_unit == units8(ticker["A"])
                equal += 1
    assert equal > 500


def test_kline_messages_of_the_recorded_tape_equal_ours_where_judgeable(shared_data: Path) -> None:
    tape = Tape(shared_data / "captures" / "cryptofeed_spot_20210404_btc_eth_dot.txt.gz")
    contents = TapeContents(tape)
    judged = dict.fromkeys(("BTCUSDT", "ETHUSDT", "DOTUSDT"), 0)
    seen_first: dict[str, int] = {}
    for line in tape:
        data = line.data
        if data.get("e") == "aggTrade":
            seen_first.setdefault(data["s"], data["f"])
        if data.get("e") != "kline" or data["k"]["f"] < seen_first.get(data["s"], data["k"]["f"] + 1):
            continue
        k, spec = data["k"], contents.symbols[data["s"]]
        run = next(contents.from_id(spec, k["f"], aggregate=False), None)
        if run is None or run.first_id + len(run) - 1 < k["L"]:
            continue
        count = k["L"] - k["f"] + 1
        after = run.part(count - 1, count)
        until = after.base_ms + int(after.offset_ms[0]) + 1
        if len(run) > count and run.base_ms + int(run.offset_ms[count]) < until:
            continue  # the message was cut in the middle of a millisecond
        made = bar(contents, spec, (k["t"], k["T"] + 1), until)
        assert made is not None
        row = kline_row(spec, made, 1)
        assert row[1:6] == [k["o"], k["h"], k["l"], k["c"], k["v"]]
        assert (row[8], row[9]) == (k["n"], k["V"])
        assert (row[7], row[10]) == (k["q"], k["Q"])
        judged[data["s"]] += 1
    assert all(count >= 8 for count in judged.values()), msgspec.json.encode(judged)
