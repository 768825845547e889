"""One contract for every codec: what the exchange recorded decodes, round-trips through our records, and
what breaks the protocol is refused by name."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.binance_codec import MarketEvent, decode_envelope, decode_event, decode_exchange_info, decode_rest_klines
from market.depth import BookTicker, DepthUpdate, MiniTicker, PartialDepth
from market.errors import BadFrame, BadRecord
from market.interval import Interval
from market.kline import Kline
from market.record_codec import RecordDecoder, encode_record
from market.trade import Trade

KLINE = {
    "e": "kline",
    "E": 1_700_000_001_005,
    "s": "BTCUSDT",
    "k": {
        "t": 1_700_000_000_000, "T": 1_700_000_000_999, "s": "BTCUSDT", "i": "1s", "f": 5, "L": 6, "o": "1.10",
        "c": "1.20", "h": "1.30", "l": "1.00", "v": "2", "n": 2, "x": True, "q": "2.3", "V": "1", "Q": "1.2", "B": "0",
    },
}  # fmt: skip


def frames(path: Path, separator: str) -> list[str]:
    """Combined-stream frames of a recording: what follows the time stamp of each line."""
    with gzip.open(path, "rt") as lines:
        parts = (line.rstrip("\n").partition(separator)[2] or line for line in lines)
        return [part for part in parts if part.startswith('{"stream"')]


RECORDINGS = [
    ("captures/hftbacktest_spot_btcusdt_20240808.gz", " ", {"depth": 3451, "bookTicker": 28040, "trade": 9757}),
    ("captures/cryptofeed_spot_20210404_btc_eth_dot.txt.gz", ": ", {"depth": 2688, "kline_1m": 118, "aggTrade": 1910}),
    ("captures/polysim_20260718_spot_depth.jsonl.gz", "\0", {"depth": 600}),
    ("captures/polysim_20260718_spot_kline_1m.jsonl.gz", "\0", {"kline_1m": 30}),
]


def decode(event: MarketEvent) -> MarketEvent:
    """The event after a round trip through our record."""
    return RecordDecoder(type(event)).decode(encode_record(event))


@pytest.mark.parametrize(("name", "separator", "expected"), RECORDINGS)
def test_recorded_frames_decode_and_round_trip(
    shared_data: Path, name: str, separator: str, expected: dict[str, int]
) -> None:
    seen: Counter[str] = Counter()
    for frame in frames(shared_data / name, separator):
        envelope = decode_envelope(frame)
        assert envelope.stream is not None
        kind = envelope.stream.partition("@")[2].partition("@")[0]
        seen[kind] += 1
        if kind == "aggTrade":
            with pytest.raises(BadFrame, match="unknown stream"):
                decode_event(envelope.stream, envelope.data, 7)
            continue
        event = decode_event(envelope.stream, envelope.data, received_at_ms=7)
        assert decode(event) == event
        assert event.received_at_ms == 7
    assert seen == expected


def test_recorded_trade_ids_and_depth_chain_are_unbroken(shared_data: Path) -> None:
    trade_id, update_id = None, None
    for frame in frames(shared_data / RECORDINGS[0][0], " "):
        envelope = decode_envelope(frame)
        event = decode_event(envelope.stream or "", envelope.data, 0)
        if isinstance(event, Trade):
            assert trade_id is None or event.trade_id == trade_id + 1
            trade_id = event.trade_id
        elif isinstance(event, DepthUpdate):
            assert update_id is None or event.first_update_id == update_id + 1
            update_id = event.last_update_id
    assert trade_id == 3735693015


def test_recorded_exchange_info(shared_data: Path) -> None:
    body = gzip.decompress((shared_data / "captures/polysim_20260718_spot_exchange_info.json.gz").read_bytes())
    (info,) = decode_exchange_info(body)
    assert (info.symbol, info.base_asset, info.quote_asset) == ("BTCUSDT", "BTC", "USDT")
    assert info.tick_size == Decimal("0.01")


@pytest.mark.parametrize(
    ("stream", "payload", "kind"),
    [
        ("btcusdt@kline_1s", KLINE, Kline),
        (
            "btcusdt@depth20@100ms",
            {"lastUpdateId": 5, "bids": [["1.0", "2.0"]], "asks": []},
            PartialDepth,
        ),
        ("btcusdt@bookTicker", {"u": 1, "s": "BTCUSDT", "b": "1", "B": "2", "a": "3", "A": "4"}, BookTicker),
        (
            "btcusdt@miniTicker",
            {"e": "24hrMiniTicker", "E": 1, "s": "BTCUSDT", "c": "1", "o": "2", "h": "3", "l": "1", "v": "5", "q": "6"},
            MiniTicker,
        ),
    ],
)
def test_documented_shapes(stream: str, payload: dict[str, object], kind: type) -> None:
    event = decode_event(stream, json.dumps(payload).encode(), 9)
    assert isinstance(event, kind)
    assert event.symbol == "BTCUSDT"
    assert decode(event) == event


def broken(path: str, value: object) -> bytes:
    """The documented kline frame with one field replaced (or removed, for None)."""
    frame = json.loads(json.dumps(KLINE))
    target = frame["k"] if path.startswith("k.") else frame
    name = path.removeprefix("k.")
    if value is None:
        del target[name]
    else:
        target[name] = value
    return json.dumps(frame).encode()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("k.o", None, "missing required field `o`"),
        ("k.o", "abc", "Invalid decimal"),
        ("k.o", "NaN", "not a number"),
        ("k.v", "Infinity", "not a number"),
        ("k.v", "-1", "negative"),
        ("k.h", "0.5", "outside low..high"),
        ("k.t", 1_700_000_000_001, "off the 1s grid"),
        ("k.T", 1_700_000_001_000, "not open time"),
        ("k.i", "7s", "Invalid enum value '7s'"),
        ("k.n", "2", "Expected `int`"),
        ("s", 5, "Expected `str`"),
        ("k.x", "true", "Expected `bool`"),
    ],
)
def test_a_broken_kline_is_refused_by_name(path: str, value: object, reason: str) -> None:
    with pytest.raises(BadFrame, match=reason):
        decode_event("btcusdt@kline_1s", broken(path, value), 0)


@given(st.binary(max_size=200))
def test_rubbish_never_raises_anything_else(rubbish: bytes) -> None:
    for decode_bytes in (
        decode_envelope,
        lambda data: decode_event("btcusdt@kline_1s", data, 0),
        lambda data: decode_event("btcusdt@trade", data, 0),
        lambda data: decode_event("btcusdt@depth@100ms", data, 0),
        lambda data: decode_rest_klines(data, "BTCUSDT", Interval.M1, 0),
    ):
        with contextlib.suppress(BadFrame):
            assert decode_bytes(rubbish) is not None


@pytest.mark.parametrize(
    ("stream", "frame"),
    [
        ("btcusdt@miniTicker", {"E": 1, "s": "BTCUSDT", "c": "1", "o": "NaN", "h": "1", "l": "1", "v": "1", "q": "1"}),
        ("btcusdt@bookTicker", {"u": 1, "s": "BTCUSDT", "b": "Infinity", "B": "1", "a": "1", "A": "1"}),
        ("btcusdt@trade", {"E": 1, "s": "BTCUSDT", "t": 1, "p": "NaN", "q": "1", "T": 1, "m": True}),
    ],
)
def test_a_price_that_is_no_number_is_refused(stream: str, frame: dict[str, object]) -> None:
    with pytest.raises(BadFrame, match="not a number"):
        decode_event(stream, json.dumps(frame).encode(), 1)


def test_control_replies_have_no_stream() -> None:
    assert decode_envelope('{"result":null,"id":1}').stream is None
    assert (
        decode_envelope('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}').stream == "!serverShutdown"
    )


def test_rest_rows_with_a_wrong_column_count_are_refused() -> None:
    with pytest.raises(BadFrame, match="length 12"):
        decode_rest_klines(b'[[0,"1","1","1","1","1",59999,"1",1,"1","1"]]', "BTCUSDT", Interval.M1, 0)


def test_the_forming_rest_row_is_marked_open() -> None:
    row = '[{0},"1","1","1","1","1",{1},"1",1,"1","1","0"]'
    body = f"[{row.format(0, 59_999)},{row.format(60_000, 119_999)}]".encode()
    klines = decode_rest_klines(body, "BTCUSDT", Interval.M1, received_at_ms=100_000)
    assert [kline.is_closed for kline in klines] == [True, False]


def test_a_tombstone_and_a_foreign_record_are_bad() -> None:
    decoder = RecordDecoder(Trade)
    with pytest.raises(BadRecord, match="empty record"):
        decoder.decode(None)
    with pytest.raises(BadRecord):
        decoder.decode(msgspec.json.encode({"symbol": "BTCUSDT"}))
