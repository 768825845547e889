"""The local order book under loss, repetition and reordering: exact, or flagged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from market.depth import BookTicker, DepthUpdate, Level, PartialDepth
from market.depth_sync import (
    FIRST_DELAY_MS,
    MAX_BUFFERED_UPDATES,
    MAX_DELAY_MS,
    RESTART_AFTER_MS,
    SNAPSHOT_TIMEOUT_MS,
    DepthSync,
    ResyncReason,
    SyncState,
)
from runtime.clock import new_random

LIMIT = 8
EVENT_MS = 100


def at_once(_low: float, _high: float) -> float:
    return 0


def update(first_id: int, last_id: int, *, bid: str = "9", ask: str = "10", time_ms: int | None = None) -> DepthUpdate:
    return DepthUpdate(
        symbol="AAA",
        first_update_id=first_id,
        last_update_id=last_id,
        bids=[(Decimal(bid), Decimal(1))],
        asks=[(Decimal(ask), Decimal(1))],
        event_time_ms=last_id if time_ms is None else time_ms,
    )


def snapshot(last_id: int, bid: str = "9", ask: str = "10") -> PartialDepth:
    one = Decimal(1)
    return PartialDepth(symbol="AAA", last_update_id=last_id, bids=[(Decimal(bid), one)], asks=[(Decimal(ask), one)])


def synced(draw: Callable[[float, float], float] = at_once) -> DepthSync:
    sync = DepthSync("AAA", draw, 0, LIMIT)
    sync.connected()
    sync.on_update(update(5, 6), 1)
    assert sync.wants_snapshot(10_000)
    sync.on_snapshot(snapshot(6), 10_000)
    assert sync.book is not None
    return sync


def test_the_states_of_a_first_start() -> None:
    sync = DepthSync("AAA", at_once, 0, LIMIT)
    states = [sync.state]
    sync.connected()
    states.append(sync.state)
    assert states == [SyncState.CONNECTING, SyncState.BUFFERING]
    assert not sync.wants_snapshot(10**6), "nothing has come: a snapshot could be too old for what comes"
    sync.on_update(update(5, 6), 1)
    assert sync.wants_snapshot(1)
    assert not sync.wants_snapshot(2), "one is on its way"
    assert sync.book is None
    sync.on_snapshot(snapshot(4), 3)
    assert sync.state is SyncState.SYNCED, "snapshot 4 and update 5 touch"
    assert sync.book is not None
    assert sync.book.last_update_id == 6
    assert [(entry.reason, entry.from_id, entry.to_id, entry.duration_ms) for entry in sync.ledger] == [
        (ResyncReason.START, None, 6, 3)
    ]


def test_a_snapshot_that_is_too_old_is_refused_and_another_asked_for() -> None:
    bounds: list[float] = []

    def draw(low: float, high: float) -> float:
        bounds.append(high)
        return high

    sync = DepthSync("AAA", draw, 0, LIMIT)
    sync.on_update(update(5, 6), 0)
    now_ms = 0
    for _ in range(9):
        now_ms += MAX_DELAY_MS
        assert sync.wants_snapshot(now_ms)
        sync.on_snapshot(snapshot(3), now_ms)
        assert sync.book is None
        assert not sync.wants_snapshot(now_ms + FIRST_DELAY_MS), "not at once"
    assert bounds == [FIRST_DELAY_MS * 2**n for n in range(6)] + [MAX_DELAY_MS] * 4
    assert sync.ledger[-1].snapshots_refused == 9
    assert sync.wants_snapshot(now_ms + MAX_DELAY_MS)
    sync.on_snapshot(snapshot(4), now_ms)
    assert sync.state is SyncState.SYNCED, "what was kept all the while is still good"


def test_a_hole_discards_the_book_at_once_and_is_written_down() -> None:
    sync = synced()
    sync.on_update(update(7, 8), 20_000)
    sync.on_update(update(10, 11), 20_100)
    assert (sync.state, sync.book) == (SyncState.RESYNCING, None)
    assert sync.wants_snapshot(20_100)
    sync.on_snapshot(snapshot(8), 20_200)
    assert sync.book is None, "snapshot 8 does not touch update 10"
    assert sync.wants_snapshot(20_200)
    sync.on_snapshot(snapshot(30), 20_300)
    assert sync.state is SyncState.SYNCED
    sync.on_update(update(29, 31), 20_400)
    assert sync.book is not None
    assert sync.book.last_update_id == 31
    hole = sync.ledger[-1]
    assert (hole.reason, hole.from_id, hole.to_id, hole.duration_ms) == (ResyncReason.HOLE, 8, 30, 200)


def test_what_ends_a_book_besides_a_hole() -> None:
    crossed = synced()
    crossed.on_update(update(7, 7, bid="10"), 20_000)
    bad = synced()
    bad.on_update(update(7, 7, bid="NaN"), 20_000)
    lost = synced()
    lost.connection_lost(20_000)
    restarted = synced()
    restarted.on_update(update(1, 2, time_ms=6 + RESTART_AFTER_MS), 20_000)
    assert restarted.book is not None, "could be a late one"
    restarted.on_update(update(3, 4, time_ms=7 + RESTART_AFTER_MS), 20_000)
    told = synced()
    one = Decimal(1)
    told.on_book_ticker(
        BookTicker(
            symbol="AAA",
            update_id=6,
            bid_price=Decimal(8),
            bid_quantity=one,
            ask_price=Decimal(10),
            ask_quantity=one,
        ),
        20_000,
    )
    expected = {
        ResyncReason.BAD_BOOK: [crossed, bad],
        ResyncReason.DISCONNECT: [lost],
        ResyncReason.IDS_RESTARTED: [restarted],
        ResyncReason.TICKER_DIFFERS: [told],
    }
    for reason, syncs in expected.items():
        for sync in syncs:
            assert (sync.book, sync.ledger[-1].reason, sync.ledger[-1].from_id) == (None, reason, 6)
    assert not lost.wants_snapshot(10**6)
    lost.on_snapshot(snapshot(50), 30_000)
    assert lost.book is None, "an answer from before the cut"


def test_a_snapshot_from_before_the_ids_began_anew_does_not_hold_the_book_for_ever() -> None:
    sync = DepthSync("AAA", at_once, 0, LIMIT)
    sync.on_update(update(5, 6), 1)
    assert sync.wants_snapshot(1)
    sync.on_snapshot(snapshot(900, bid="7"), 1_000)
    assert sync.book is not None
    sync.on_update(update(7, 8), 1_000 + RESTART_AFTER_MS)
    assert sync.book is not None, "a snapshot is newer than a stream that comes late"
    sync.on_update(update(9, 10), 1_001 + RESTART_AFTER_MS)
    assert (sync.book, sync.ledger[-1].reason) == (None, ResyncReason.IDS_RESTARTED)
    assert sync.wants_snapshot(10_000)
    sync.on_snapshot(snapshot(9), 10_000)
    assert sync.book is not None
    assert sync.book.last_update_id == 10


def test_a_refused_question_is_asked_again_after_the_time_the_exchange_named() -> None:
    sync = synced()
    sync.on_update(update(10, 11), 20_000)
    assert sync.wants_snapshot(20_000)
    sync.snapshot_failed(20_000, retry_after_s=7)
    assert not sync.wants_snapshot(26_999)
    assert sync.wants_snapshot(27_000)
    assert not sync.wants_snapshot(27_000 + SNAPSHOT_TIMEOUT_MS - 1)
    assert sync.wants_snapshot(27_000 + SNAPSHOT_TIMEOUT_MS), "no answer at all"


def test_what_is_kept_is_bounded_and_the_oldest_go_first() -> None:
    sync = DepthSync("AAA", at_once, 0, LIMIT)
    count = MAX_BUFFERED_UPDATES + 5
    for number in range(count):
        sync.on_update(update(number, number), number)
    assert sync.wants_snapshot(count)
    sync.on_snapshot(snapshot(3), count)
    assert sync.book is None, "0 to 4 are gone"
    sync.on_snapshot(snapshot(4), count)
    assert sync.book is not None
    assert sync.book.last_update_id == count - 1


def test_a_book_that_runs_thin_gets_a_fresh_snapshot_while_it_is_shown() -> None:
    sync = DepthSync("AAA", at_once, 0, LIMIT)
    sync.on_update(update(1, 1), 0)
    assert sync.wants_snapshot(0)
    one, bids = Decimal(1), [Decimal(9 - n) / 2 for n in range(LIMIT)]
    whole = PartialDepth(symbol="AAA", last_update_id=1, bids=[(bid, one) for bid in bids], asks=[(Decimal(10), one)])
    sync.on_snapshot(whole, 1)
    for number, bid in enumerate(bids[:-1], 2):
        gone = DepthUpdate(
            symbol="AAA",
            first_update_id=number,
            last_update_id=number,
            bids=[(bid, Decimal(0))],
            asks=[],
            event_time_ms=number,
        )
        sync.on_update(gone, number)
        assert sync.state is SyncState.SYNCED
    assert sync.wants_snapshot(20), "one of eight known bids is left"
    sync.on_snapshot(snapshot(number), 21)
    assert sync.book is not None
    assert sync.book.bids.known_to is None
    assert len(sync.ledger) == 1, "the book was exact all the time"


class Truth:
    """An exchange: its book after each update id, and the events and snapshots it would send.

    About 12 price levels a side, so that a snapshot of LIMIT levels cuts some off.
    """

    def __init__(self) -> None:
        self.bids: dict[int, list[Level]] = {}
        self.asks: dict[int, list[Level]] = {}
        self.events: list[DepthUpdate] = []
        self._bids = {Decimal(price): Decimal(1) for price in range(38, 50)}
        self._asks = {Decimal(price): Decimal(1) for price in range(51, 63)}
        self._update_id = 100
        self._write_down()

    def _write_down(self) -> None:
        self.bids[self._update_id] = sorted(self._bids.items(), reverse=True)
        self.asks[self._update_id] = sorted(self._asks.items())

    def add(self, size: int, changed: Iterable[tuple[int, int]], middle: int) -> None:
        """An event of `size` update ids: (price, quantity), and what the price has passed disappears."""
        bids = {Decimal(price): Decimal(held) for price, held in changed if price < middle}
        asks = {Decimal(price): Decimal(held) for price, held in changed if price > middle}
        bids |= {price: Decimal(0) for price in self._bids if price >= middle}
        asks |= {price: Decimal(0) for price in self._asks if price <= middle}
        for side, new in ((self._bids, bids), (self._asks, asks)):
            side.update(new)
            for price in [price for price, held in side.items() if not held]:
                del side[price]
        event = DepthUpdate(
            symbol="AAA",
            first_update_id=self._update_id + 1,
            last_update_id=self._update_id + size,
            bids=list(bids.items()),
            asks=list(asks.items()),
            event_time_ms=EVENT_MS * len(self.events),
        )
        self.events.append(event)
        self._update_id += size
        self._write_down()

    def snapshot(self, last_id: int) -> PartialDepth:
        """What REST depth answers at that update."""
        return PartialDepth(
            symbol="AAA", last_update_id=last_id, bids=self.bids[last_id][:LIMIT], asks=self.asks[last_id][:LIMIT]
        )


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Up to 40 events of 1 to 3 update ids each."""
    truth = Truth()
    for _ in range(draw(st.integers(5, 40))):
        changed = draw(st.lists(st.tuples(st.integers(30, 70), st.integers(0, 2)), min_size=1, max_size=6))
        truth.add(draw(st.integers(1, 3)), changed, draw(st.sampled_from((49, 50, 51))))
    return truth


def assert_exact_or_flagged(sync: DepthSync, truth: Truth) -> None:
    """P6: levels are shown only when they are what the exchange has, as far as they claim to reach."""
    book = sync.book
    assert (book is not None) == (sync.state is SyncState.SYNCED)
    if book is None:
        assert sync.ledger[-1].to_ms is None, "a time without a book is in the ledger"
        return
    assert sync.ledger[-1].to_ms is not None
    book.check()
    for side, all_levels in ((book.bids, truth.bids), (book.asks, truth.asks)):
        real, bound = all_levels[book.last_update_id], side.known_to
        is_bid = side is book.bids
        known = [level for level in real if bound is None or (level[0] >= bound if is_bid else level[0] <= bound)]
        assert side.top(100) == known


@settings(max_examples=100, deadline=None)
@given(truths(), st.data())
def test_whatever_is_lost_repeated_or_reordered_the_book_is_exact_or_flagged(truth: Truth, data: st.DataObject) -> None:
    sync = DepthSync("AAA", at_once, 0, LIMIT)
    snapshot_ids = sorted(truth.bids)
    for number, event in enumerate(truth.events):
        fault = data.draw(st.sampled_from(("", "", "", "lost", "twice", "late", "old", "cut", "no answer")))
        now_ms = 100 * number
        sent = {
            "lost": [],
            "twice": [event, event],
            "late": [*truth.events[number + 1 : number + 2], event],
            "old": [event, truth.events[number // 2]],
        }.get(fault, [event])
        if fault == "cut":
            sync.connection_lost(now_ms)
        for each in sent:
            sync.on_update(each, now_ms)
            assert_exact_or_flagged(sync, truth)
        if sync.wants_snapshot(now_ms):
            if fault == "no answer":
                sync.snapshot_failed(now_ms)
            else:
                # Answers come late and old, or run ahead of the stream.
                at = min(len(snapshot_ids) - 1, max(0, number + data.draw(st.integers(-3, 4))))
                sync.on_snapshot(truth.snapshot(snapshot_ids[at]), now_ms)
        assert_exact_or_flagged(sync, truth)
    assert len(sync.ledger) <= 1 + len(truth.events)


@settings(max_examples=40, deadline=None)
@given(truths(), st.integers(0, 20))
def test_once_nothing_is_lost_any_more_the_book_comes_back(truth: Truth, lost: int) -> None:
    sync = DepthSync("AAA", at_once, 0, LIMIT)
    for number, event in enumerate(truth.events):
        if number == min(lost, len(truth.events) - 2):
            continue
        sync.on_update(event, number)
        if sync.wants_snapshot(number):
            sync.on_snapshot(truth.snapshot(event.last_update_id), number)
        assert sync.state is SyncState.SYNCED
        assert_exact_or_flagged(sync, truth)
    assert sync.book is not None
    assert sync.book.last_update_id == truth.events[-1].last_update_id


def test_a_hundred_holes_are_flagged_and_closed_within_three_seconds() -> None:
    """F8: holes, snapshots that come late and old, every tenth question refused with 429 and a time to wait."""
    rng, truth = new_random(8), Truth()
    for _ in range(3_100):
        changed = [(rng.randint(30, 70), rng.randint(0, 2)) for _ in range(rng.randint(1, 6))]
        truth.add(rng.randint(1, 3), changed, rng.randint(49, 51))
    sync = DepthSync("AAA", rng.uniform, 0, LIMIT)
    answers: list[tuple[int, PartialDepth]] = []
    asked, refused_until_ms, waited = 0, 0, set[int]()
    for number, event in enumerate(truth.events):
        now_ms = EVENT_MS * number
        if number % 30 != 29:
            sync.on_update(event, now_ms)
        assert_exact_or_flagged(sync, truth)
        for due_ms, answer in answers:
            if due_ms <= now_ms:
                sync.on_snapshot(answer, now_ms)
                assert_exact_or_flagged(sync, truth)
        answers = [(due_ms, answer) for due_ms, answer in answers if due_ms > now_ms]
        if sync.wants_snapshot(now_ms):
            asked += 1
            assert now_ms >= refused_until_ms, "Retry-After is obeyed"
            if asked % 10 == 0:
                refused_until_ms = now_ms + 1_000
                waited.add(len(sync.ledger))
                sync.snapshot_failed(now_ms, retry_after_s=1.0)
            else:
                at = max(0, number - rng.choice((0, 0, 0, 3)))
                answers.append((now_ms + rng.randint(50, 400), truth.snapshot(truth.events[at].last_update_id)))
    holes = [entry for entry in sync.ledger if entry.reason is ResyncReason.HOLE]
    assert len(holes) >= 90
    for place, entry in enumerate(sync.ledger, 1):
        if entry.duration_ms is not None and place not in waited:
            assert entry.duration_ms < 3_000, entry
