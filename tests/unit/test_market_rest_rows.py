"""Checks of REST rows on arrival, aggregate trades, and the choice of the next question."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.repair_plan import CALL_SECONDS, DueGap, next_call
from exchange_sim.bad_rows import RowFault, spoil
from market.aggregate_trades import decode_aggregate_trades, require_unbroken, single_trades
from market.binance_codec import decode_rest_klines
from market.errors import BadFrame
from market.interval import SECOND_MS, Interval
from market.kline import Kline
from market.rest_rows import Neighbour, closed_rows, missing_seconds, require_chain
from market.trade_klines import klines_of_trades

START_MS = 1_700_000_000_000
NOW_MS = START_MS + 3_600_000


def body(count: int, start_ms: int = START_MS) -> bytes:
    """An answer of `count` rows."""
    rows = []
    for number in range(count):
        open_ms = start_ms + number * SECOND_MS
        rows.append([open_ms, "2", "4", "1", "3", "5", open_ms + 999, "15", 7, "1", "3", "0"])
    return json.dumps(rows).encode()


def decoded(answer: bytes) -> list[Kline]:
    return decode_rest_klines(answer, "BTCUSDT", Interval.S1, NOW_MS)


def test_a_good_answer_is_taken_without_the_forming_row() -> None:
    klines = decoded(body(10))
    assert closed_rows(klines, START_MS, START_MS + 10_000, NOW_MS) == klines
    assert closed_rows(klines, START_MS, START_MS + 10_000, START_MS + 9_500) == klines[:9]
    assert closed_rows([], START_MS, START_MS + 10_000, NOW_MS) == []


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("off_grid", "grid"),
        ("doubled", "twice"),
        ("disordered", "out of order"),
        ("short", "bad klines"),
        ("text", "bad klines"),
        ("future", "future"),
        ("inverted", "low..high"),
    ],
)
def test_one_bad_row_refuses_all(how: RowFault, reason: str) -> None:
    with pytest.raises(BadFrame, match=reason):
        closed_rows(decoded(spoil(body(9), how)), START_MS, START_MS + 9_000, NOW_MS)


def test_rows_nobody_asked_for_are_refused() -> None:
    with pytest.raises(BadFrame, match="outside of what was asked"):
        closed_rows(decoded(body(10)), START_MS + SECOND_MS, START_MS + 10_000, NOW_MS)


def test_the_chain_counts_trades_by_the_ids_around() -> None:
    require_chain(10, Neighbour(START_MS, 99), Neighbour(START_MS + 5_000, 110))
    with pytest.raises(BadFrame, match="11 trades in the rows, 10 by the ids"):
        require_chain(11, Neighbour(START_MS, 99), Neighbour(START_MS + 5_000, 110))


@pytest.mark.parametrize(
    ("age_ms", "inside", "outside"), [(0, "later", "later"), (60_000, "absent", "later"), (600_000, "absent", "absent")]
)
def test_what_a_missing_second_means_depends_on_its_age(age_ms: int, inside: str, outside: str) -> None:
    klines = [kline for kline in decoded(body(5)) if kline.open_time_ms != START_MS + 2_000]
    wanted = [START_MS + second * SECOND_MS for second in (1, 2, 6)]
    found = missing_seconds(wanted, klines, START_MS + 7_000 + age_ms, settled_ms=60_000, absent_ms=600_000)
    assert (START_MS + 2_000 in found.absent) is (inside == "absent")
    assert (START_MS + 6_000 in found.absent) is (outside == "absent")
    assert sorted(found.absent + found.later) == wanted[1:]


AGGREGATES = [
    {"a": 5, "p": "2", "q": "3", "f": 10, "l": 12, "T": START_MS + 100, "m": False, "M": True},
    {"a": 6, "p": "4", "q": "1", "f": 13, "l": 13, "T": START_MS + 2_500, "m": True, "M": True},
]


def test_aggregate_trades_make_the_klines_of_their_trades() -> None:
    rows = decode_aggregate_trades(json.dumps(AGGREGATES).encode(), "BTCUSDT")
    klines = klines_of_trades("BTCUSDT", single_trades(rows, "BTCUSDT"), START_MS, START_MS + 3_000, Decimal(1))
    assert [(k.trade_count, k.first_trade_id, k.last_trade_id) for k in klines] == [
        (3, 10, 12),
        (0, -1, -1),
        (1, 13, 13),
    ]
    assert [(k.base_volume, k.quote_volume, k.taker_buy_base_volume) for k in klines] == [
        (3, 6, 3),
        (0, 0, 0),
        (1, 4, 0),
    ]
    assert klines[1].open == klines[1].close == 2


@pytest.mark.parametrize(
    "rows",
    [
        [AGGREGATES[0], AGGREGATES[1] | {"f": 14, "l": 14}],
        [AGGREGATES[0] | {"p": "NaN"}],
        [AGGREGATES[0] | {"f": 13}],
        [{"a": 1}],
    ],
)
def test_broken_aggregate_trades_are_refused(rows: list[dict[str, object]]) -> None:
    with pytest.raises(BadFrame):
        decode_aggregate_trades(json.dumps(rows).encode(), "BTCUSDT")


def test_pages_have_to_follow_each_other() -> None:
    pages = [decode_aggregate_trades(json.dumps([row]).encode(), "BTCUSDT") for row in AGGREGATES]
    require_unbroken(pages[0] + pages[1], "BTCUSDT")
    with pytest.raises(BadFrame):
        require_unbroken(pages[1] + pages[0], "BTCUSDT")


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5_000), st.integers(1, 3_000), st.integers(0, 2)),
        min_size=1,
        max_size=20,
    )
)
def test_a_question_fits_in_one_call_and_takes_the_newest_second(parts: list[tuple[int, int, int, int]]) -> None:
    due = [
        DueGap(number, f"S{symbol}", start * SECOND_MS, (start + length) * SECOND_MS, "open", attempts)
        for number, (symbol, start, length, attempts) in enumerate(parts)
    ]
    call = next_call(due)
    assert call is not None
    assert call.to_ms == max(gap.to_ms for gap in due)
    assert 0 < call.to_ms - call.from_ms <= CALL_SECONDS * SECOND_MS
    wanted = call.wanted_ms
    assert wanted
    assert all(call.from_ms <= second_ms < call.to_ms for second_ms in wanted)
    assert len({gap.attempts > 0 for gap in call.gaps}) == 1
    assert call.gaps[0].attempts == 0 or len(call.gaps) == 1


def test_nothing_due_asks_nothing() -> None:
    assert next_call([]) is None
