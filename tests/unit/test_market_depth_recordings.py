"""The local order book on recorded traffic: exact, or flagged."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from exchange_sim.tape_formats import Tape
from market.binance_codec import decode_event
from market.depth import BookTicker, DepthUpdate, PartialDepth
from market.depth_sync import DepthSync, ResyncReason, SyncState
from tests.unit.test_market_depth_sync import at_once


@dataclass
class Replayed:
    """What a recording did to the books."""

    syncs: dict[str, DepthSync] = field(default_factory=dict)
    applied: int = 0
    dropped: int = 0
    compared: int = 0
    equal: int = 0


def events_of(path: Path) -> Iterator[tuple[str, msgspec.Struct]]:
    """Depth updates, best prices and REST snapshots ("" = of which symbol is not said) in recorded order."""
    for line in Tape(path):
        kind = line.stream.partition("@")[2].partition("@")[0]
        if line.stream and kind in ("depth", "bookTicker"):
            event = decode_event(line.stream, msgspec.json.encode(line.data), 0)
            yield line.data["s"], event
        elif not line.stream:
            yield line.symbol, decode_event("any@depth5000", msgspec.json.encode(line.data), 0)


def replay(path: Path, snapshots: Path | None = None, limit: int = 1000) -> Replayed:
    """Each symbol's book from the recording. A snapshot recorded before the first update waits until it is wanted."""
    done = Replayed()
    answers = dict(events_of(snapshots)) if snapshots is not None else {}
    tickers: dict[tuple[str, int], BookTicker] = {}
    for number, (name, event) in enumerate(events_of(path)):
        symbol = name or "BTCUSDT"
        sync = done.syncs.setdefault(symbol, DepthSync(symbol, at_once, 0, limit))
        before = sync.book.last_update_id if sync.book is not None else None
        if isinstance(event, PartialDepth):
            answers[symbol] = event
        elif isinstance(event, BookTicker):
            tickers[symbol, event.update_id] = event
            sync.on_book_ticker(event, number)
        elif isinstance(event, DepthUpdate):
            sync.on_update(event, number)
            applied = before is not None and sync.book is not None and sync.book.last_update_id == event.last_update_id
            done.applied += applied
        if symbol in answers and sync.wants_snapshot(number):
            waiting = len(sync._buffer)
            answer = answers.pop(symbol)
            old = sum(kept.last_update_id <= getattr(answer, "last_update_id", 0) for kept in sync._buffer)
            assert isinstance(answer, PartialDepth)
            sync.on_snapshot(answer, number)
            if sync.book is not None:
                done.dropped, done.applied = done.dropped + old, done.applied + waiting - old
        book = sync.book
        ticker = None if book is None else tickers.pop((symbol, book.last_update_id), None)
        if book is not None and ticker is not None:
            done.compared += 1
            named = (ticker.bid_price, ticker.bid_quantity), (ticker.ask_price, ticker.ask_quantity)
            done.equal += (book.bids.best, book.asks.best) == named
    return done


def test_the_recorded_book_is_exact_to_its_best_prices(shared_data: Path) -> None:
    """With the levels of the snapshot taken for all there are (the limit says so), as whoever recorded it did."""
    done = replay(shared_data / "captures/hftbacktest_spot_btcusdt_20240808.gz", limit=5000)
    sync = done.syncs["BTCUSDT"]
    assert (done.dropped, done.applied) == (2, 3449)
    assert (done.compared, done.equal) == (564, 564)
    assert [entry.reason for entry in sync.ledger] == [ResyncReason.START], "never crossed, never a hole"
    assert sync.book is not None
    sync.book.check()


def test_when_the_recorded_price_leaves_the_snapshot_another_was_asked_for_and_the_book_is_flagged(
    shared_data: Path,
) -> None:
    """Its 1000 bids end at 61,631.55, the price went to 61,583.22: what lies below is not known from this recording."""
    done = replay(shared_data / "captures/hftbacktest_spot_btcusdt_20240808.gz")
    sync = done.syncs["BTCUSDT"]
    assert (done.compared, done.equal) == (423, 423)
    assert (sync.state, sync.book) == (SyncState.RESYNCING, None)
    assert [entry.reason for entry in sync.ledger] == [ResyncReason.START, ResyncReason.RANGE_LEFT]
    assert sync.wants_snapshot(10**9)


@pytest.mark.parametrize(
    ("name", "snapshots", "symbols"),
    [
        ("cryptofeed_spot_20210404_btc_eth_dot.txt.gz", None, 3),
        ("cryptofeed_spot_20211012_ws.txt.gz", "cryptofeed_spot_20211012_depth_snapshots.txt.gz", 4),
    ],
)
def test_recordings_of_several_symbols_synchronise(
    shared_data: Path, name: str, snapshots: str | None, symbols: int
) -> None:
    captures = shared_data / "captures"
    done = replay(captures / name, None if snapshots is None else captures / snapshots)
    assert [sync.state for sync in done.syncs.values()] == [SyncState.SYNCED] * symbols
    assert all(len(sync.ledger) == 1 for sync in done.syncs.values())
    assert done.compared == done.equal


def test_the_recorded_snapshot_that_is_too_old_is_refused(shared_data: Path) -> None:
    captures = shared_data / "captures"
    with gzip.open(captures / "polysim_20260718_spot_depth_snapshot.json.gz") as file:
        old = decode_event("btcusdt@depth5000", file.read(), 0)
    assert isinstance(old, PartialDepth)
    sync = DepthSync("BTCUSDT", at_once, 0)
    asked = 0
    for number, (_, event) in enumerate(events_of(captures / "polysim_20260718_spot_depth.jsonl.gz")):
        assert isinstance(event, DepthUpdate)
        sync.on_update(event, number)
        if sync.wants_snapshot(number):
            asked += 1
            sync.on_snapshot(old, number)
        assert sync.book is None
    assert asked == 600
    assert sync.ledger[-1].snapshots_refused == 600
