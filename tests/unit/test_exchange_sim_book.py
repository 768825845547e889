"""The simulated order book: never crossed, every trade fits, diffs on a snapshot give the book."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_sim.book import LEVELS_MIN, Book
from exchange_sim.symbols import catalogue
from runtime.clock import new_random

SPEC = catalogue(5)[0]
START_MS = 1_795_263_890_000
steps = st.lists(
    st.tuples(st.integers(-300, 300), st.integers(1, 500_000), st.booleans(), st.integers(0, 400)), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), steps)
def test_a_book_is_never_crossed_and_its_diffs_replay(seed: int, moves: list[tuple[int, int, bool, int]]) -> None:
    price = 6_280_000
    book = Book(SPEC, new_random(seed), (START_MS, price, True))
    snapshot_id = book.update_id
    copy: tuple[dict[int, int], dict[int, int]] = (dict(book.bids.lots), dict(book.asks.lots))
    last_id = snapshot_id
    for number, (move, lots, sold, passed_ms) in enumerate(moves):
        price += move
        book.advance([(number, START_MS, price, lots, sold)], passed_ms)
        (bid, bid_lots), (ask, ask_lots) = book.best()
        assert bid < ask
        assert bid_lots > 0
        assert ask_lots > 0
        taken = book.fast.take(book.update_id)
        if taken is not None:
            (first_id, final_id), bids, asks = taken
            assert first_id == last_id + 1
            assert final_id == book.update_id
            last_id = final_id
            for side, levels in zip(copy, (bids, asks), strict=True):
                for level, quantity in levels:
                    if quantity:
                        side[level] = quantity
                    else:
                        side.pop(level, None)
    assert copy == (book.bids.lots, book.asks.lots)
    assert book.bids.prices == sorted(book.bids.lots)
    assert book.asks.prices == sorted(book.asks.lots)


def test_a_book_starts_deep_and_stays_so() -> None:
    book = Book(SPEC, new_random(1), (START_MS, 6_280_000, False))
    assert len(book.bids.prices) == len(book.asks.prices) == 1000
    book.advance([], 120_000)
    assert min(len(book.bids.prices), len(book.asks.prices)) >= LEVELS_MIN


def test_ids_of_a_later_start_are_higher() -> None:
    book = Book(SPEC, new_random(1), (START_MS, 6_280_000, False))
    for second in range(60):
        book.advance([(second, START_MS, 6_280_000 + second, 1000, False)], 1000)
    later = Book(SPEC, new_random(1), (START_MS + 60_000, 6_280_000, False))
    assert later.update_id > book.update_id
