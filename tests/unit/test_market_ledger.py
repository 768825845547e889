"""The gap ledger: whatever the order of arrival, every second is a row or in exactly one gap."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from market.feed import GapCause
from market.ledger import (
    OPEN,
    REPAIRED,
    Gap,
    LedgerChange,
    Outage,
    account,
    apply_arrivals,
    apply_outages,
    cause_of,
    runs,
)

S = 1_000


class LedgerTable:
    """kline_gap of one symbol, in memory."""

    def __init__(self) -> None:
        self.gaps: dict[int, Gap] = {}
        self._next_id = 1

    def touching(self, from_ms: int, to_ms: int) -> list[Gap]:
        return [gap for gap in self.gaps.values() if gap.from_ms <= to_ms and gap.to_ms >= from_ms]

    def write(self, change: LedgerChange) -> None:
        for gap_id in change.deleted_ids:
            del self.gaps[gap_id]
        for gap in change.written:
            if gap.gap_id is None:
                gap_id, self._next_id = self._next_id, self._next_id + 1
            else:
                gap_id = gap.gap_id
                assert gap_id in self.gaps
            stored = {**gap.__dict__, "gap_id": gap_id, "detected_at_ms": gap.detected_at_ms or gap_id}
            self.gaps[gap_id] = Gap(**stored)


def play(batches: Sequence[Sequence[int]]) -> tuple[set[int], LedgerTable, int, int]:
    """Rows, ledger, first second and watermark after the batches (each any list of seconds)."""
    table, rows = LedgerTable(), set[int]()
    watermark_ms: int | None = None
    first_ms = 0
    for batch in batches:
        times = sorted({second * S for second in batch})
        if not times:
            continue
        if watermark_ms is None:
            first_ms = times[0]
        arrivals = account(watermark_ms, times)
        rows |= set(times)
        new_gaps = [Gap("A", start, end, GapCause.UNKNOWN) for start, end in arrivals.missing]
        touched = [*arrivals.late, *(time for pair in arrivals.missing for time in pair)]
        if touched:
            stored = table.touching(min(touched), max(touched) + S)
            table.write(apply_arrivals(stored, new_gaps, arrivals.late))
        assert watermark_ms is None or arrivals.watermark_ms >= watermark_ms
        watermark_ms = arrivals.watermark_ms
    return rows, table, first_ms, watermark_ms or 0


def seconds_of(gaps: Sequence[Gap]) -> list[int]:
    return [time_ms for gap in gaps for time_ms in range(gap.from_ms, gap.to_ms, S)]


@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=12))
def test_every_second_is_a_row_or_in_one_open_gap(batches: list[list[int]]) -> None:
    rows, table, first_ms, watermark_ms = play(batches)
    unresolved = seconds_of([gap for gap in table.gaps.values() if gap.state == OPEN])
    assert len(unresolved) == len(set(unresolved)), "gaps overlap"
    expected = set(range(first_ms, watermark_ms, S))
    assert set(unresolved) == expected - rows
    repaired = seconds_of([gap for gap in table.gaps.values() if gap.state == REPAIRED])
    assert set(repaired) <= rows
    assert len(repaired) == len(set(repaired))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_any_order_ends_with_the_same_holes(seconds: list[int], rng: Random) -> None:
    start = [min(seconds)]
    shuffled = list(seconds)
    rng.shuffle(shuffled)
    in_order = play([start, *[[second] for second in sorted(seconds)]])
    mixed = play([start, *[[second] for second in shuffled]])
    assert _open(in_order[1]) == _open(mixed[1])
    assert in_order[3] == mixed[3]


def _open(table: LedgerTable) -> list[int]:
    return sorted(seconds_of([gap for gap in table.gaps.values() if gap.state == OPEN]))


def test_first_rows_of_a_symbol_make_no_gap() -> None:
    assert account(None, [5 * S, 6 * S]).missing == []


def test_gap_filled_from_the_front_second_by_second_leaves_one_repaired_row() -> None:
    rows, table, _, _ = play([[0], [10], *[[second] for second in range(1, 10)]])
    assert len(rows) == 11
    assert [(gap.from_ms, gap.to_ms, gap.state) for gap in table.gaps.values()] == [(S, 10 * S, REPAIRED)]


def test_middle_second_splits_a_gap_and_keeps_its_id() -> None:
    stored = Gap("A", 0, 5 * S, GapCause.DISCONNECT, gap_id=7, detected_at_ms=1)
    change = apply_arrivals([stored], [], [2 * S])
    assert [(g.from_ms, g.to_ms, g.state, g.gap_id) for g in change.written] == [
        (0, 2 * S, OPEN, 7),
        (2 * S, 3 * S, REPAIRED, None),
        (3 * S, 5 * S, OPEN, None),
    ]
    assert {gap.cause for gap in change.written} == {GapCause.DISCONNECT}


def test_row_that_the_exchange_was_said_not_to_have_resolves_its_gap() -> None:
    absent = Gap("A", 0, S, GapCause.UNKNOWN, state="absent", gap_id=1, detected_at_ms=1)
    assert apply_arrivals([absent], [], [0]).written[0].state == REPAIRED


def test_late_row_outside_every_gap_changes_nothing() -> None:
    stored = Gap("A", 0, 5 * S, GapCause.SILENCE, gap_id=7, detected_at_ms=1)
    assert apply_arrivals([stored], [], [5 * S]) == LedgerChange()


def test_outage_names_the_cause_and_an_expired_log_outranks_it() -> None:
    outage = Outage("A", 10_300, 12_900, GapCause.DISCONNECT)
    assert cause_of(10_000, 13_000, [outage]) is GapCause.DISCONNECT
    assert cause_of(20_000, 21_000, [outage]) is GapCause.UNKNOWN
    assert cause_of(20_000, 21_000, [outage], GapCause.OFFSET_JUMP) is GapCause.OFFSET_JUMP
    assert cause_of(10_000, 13_000, [outage], GapCause.LOG_EXPIRED) is GapCause.LOG_EXPIRED


def test_outage_reported_late_explains_open_gaps_of_unknown_cause_only() -> None:
    unknown = Gap("A", 10 * S, 13 * S, GapCause.UNKNOWN, gap_id=1)
    settled = Gap("A", 20 * S, 23 * S, GapCause.UNKNOWN, state=REPAIRED, gap_id=2)
    other = Gap("B", 10 * S, 13 * S, GapCause.UNKNOWN, gap_id=3)
    change = apply_outages([unknown, settled, other], [Outage("A", 9 * S, None, GapCause.SILENCE)])
    assert [(gap.gap_id, gap.cause) for gap in change.written] == [(1, GapCause.SILENCE)]


def test_runs_joins_touching_seconds() -> None:
    assert runs([3 * S, S, 2 * S, 7 * S]) == [(S, 4 * S), (7 * S, 8 * S)]


def test_the_outage_that_began_the_hole_gives_the_cause() -> None:
    hour_ms, start_ms = 3_600_000, 10_000_000
    old = Outage("BTCUSDT", 0, None, GapCause.SILENCE)
    mark = Outage("BTCUSDT", start_ms - 1000, start_ms, GapCause.DOWNTIME)
    unreachable = Outage("BTCUSDT", start_ms, start_ms + 5000, GapCause.DISCONNECT)
    outages = [unreachable, mark, old]
    assert cause_of(start_ms - hour_ms, start_ms + 5000, outages) is GapCause.DOWNTIME
    assert cause_of(start_ms, start_ms + 5000, outages) is GapCause.DISCONNECT
    assert cause_of(start_ms - hour_ms, start_ms - hour_ms + 1000, outages) is GapCause.SILENCE
    later = Outage("BTCUSDT", start_ms + 6000, start_ms + 9000, GapCause.SILENCE)
    assert cause_of(start_ms + 6000, start_ms + 9000, [later, unreachable]) is GapCause.SILENCE
