"""One order book: sorted, bounded, never believed beyond what is known."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.book import PRUNE_LEVELS, BadBook, BookSide, OrderBook
from market.depth import BookTicker, Level, PartialDepth


def levels(*pairs: tuple[str, str]) -> list[Level]:
    return [(Decimal(price), Decimal(quantity)) for price, quantity in pairs]


def book(bids: list[Level], asks: list[Level], limit: int = 1000, last_update_id: int = 10) -> OrderBook:
    return OrderBook(PartialDepth(symbol="AAA", last_update_id=last_update_id, bids=bids, asks=asks), limit)


def test_best_and_top_of_both_sides() -> None:
    made = book(levels(("9", "1"), ("8", "2")), levels(("10", "3"), ("12", "4")))
    made.apply(levels(("9.5", "5"), ("8", "0"), ("7", "0")), levels(("10", "1")), 11)
    assert made.bids.top(5) == levels(("9.5", "5"), ("9", "1"))
    assert made.asks.top(1) == levels(("10", "1"))
    assert made.bids.best == (Decimal("9.5"), Decimal(5))
    assert made.last_update_id == 11
    assert made.bids.top(0) == []


def test_beyond_a_cut_snapshot_nothing_is_known() -> None:
    made = book(levels(("9", "1"), ("8", "1")), levels(("10", "1")), limit=2)
    assert (made.bids.known_to, made.asks.known_to) == (Decimal(8), None)
    made.apply(levels(("7", "1"), ("9", "0")), levels(("50", "2")), 11)
    assert made.bids.top(9) == levels(("8", "1")), "what lies beyond the bound is not shown"
    assert made.asks.top(9) == levels(("10", "1"), ("50", "2")), "a side that came whole has no bound"
    assert not made.is_exhausted
    assert made.levels_left(2) == 1
    made.apply(levels(("8", "0")), [], 12)
    assert made.is_exhausted
    assert made.bids.best is None


@pytest.mark.parametrize("level", [("0", "1"), ("-1", "1"), ("9", "-1"), ("NaN", "1"), ("9", "NaN"), ("Infinity", "1")])
def test_a_level_that_no_book_can_have_is_refused(level: tuple[str, str]) -> None:
    made = book(levels(("9", "1")), levels(("10", "1")))
    with pytest.raises(BadBook):
        made.apply(levels(level), [], 11)


def test_a_crossed_book_an_old_update_and_a_bad_snapshot_are_refused() -> None:
    with pytest.raises(BadBook, match="crossed"):
        book(levels(("10", "1")), levels(("10", "1")))
    with pytest.raises(BadBook, match="repeats"):
        book(levels(("9", "1"), ("9.0", "2")), [])
    with pytest.raises(BadBook, match="without quantity"):
        book(levels(("9", "0")), [])
    made = book(levels(("9", "1")), levels(("10", "1")))
    with pytest.raises(BadBook, match="after 10"):
        made.apply([], [], 10)
    with pytest.raises(BadBook, match="crossed"):
        made.apply(levels(("11", "1")), [], 11)


def test_the_exchanges_own_best_prices_are_compared_at_the_same_update_only() -> None:
    made = book(levels(("9", "1")), levels(("10", "1")))
    ticker = BookTicker(
        symbol="AAA",
        update_id=10,
        bid_price=Decimal("9.00"),
        bid_quantity=Decimal(1),
        ask_price=Decimal(10),
        ask_quantity=Decimal(2),
    )
    assert not made.agrees_with(ticker)
    made.apply([], levels(("10", "2")), 11)
    assert made.agrees_with(ticker), "of another update: nothing to compare"


@pytest.mark.parametrize("is_bid", [True, False])
def test_a_side_that_grows_is_pruned_at_its_far_end(is_bid: bool) -> None:
    side = BookSide(is_bid=is_bid, levels=[], limit=1000, max_levels=PRUNE_LEVELS + 10)
    prices = range(1, PRUNE_LEVELS + 12)
    side.apply([(Decimal(price), Decimal(1)) for price in prices])
    assert len(side) == 10
    kept = list(prices)[-10:][::-1] if is_bid else list(prices)[:10]
    assert [int(price) for price, _ in side.top(20)] == kept
    assert side.known_to == Decimal(kept[-1])
    side.check()


changes = st.lists(
    st.lists(st.tuples(st.integers(1, 12).map(Decimal), st.integers(0, 3).map(Decimal)), max_size=5), max_size=25
)


@given(st.booleans(), changes)
def test_a_side_is_what_a_plain_table_says(is_bid: bool, updates: list[list[Level]]) -> None:
    side = BookSide(is_bid=is_bid, levels=[], limit=1000)
    table: dict[Decimal, Decimal] = {}
    for update in updates:
        side.apply(update)
        table.update(update)
        expected = sorted(((price, held) for price, held in table.items() if held), reverse=is_bid)
        assert side.top(20) == expected
        assert side.top(2) == expected[:2]
        assert side.best == (expected[0] if expected else None)
        side.check()
