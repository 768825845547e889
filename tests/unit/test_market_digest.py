"""The digest and the account of a tape: the same for the same facts, whatever the way they came."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.digest import Digest, Fact, Hole, Second, decimal_text
from market.errors import BadFrame
from market.feed import GapCause
from market.interval import MINUTE_MS, SECOND_MS, Interval
from market.kline import Candle, Kline, Source
from market.rollup import roll_up
from market.tape_account import LATE_MAX_MS, LOOK_EVERY_FRAMES, TapeAccount
from market.tape_lines import TapedFrame
from tests.klines_of import seconds_of

START_MS = 1_700_000_040_000
SYMBOL = "BTCUSDT"
KLINES = seconds_of(SYMBOL, START_MS + 17_000, 200)


def frame_of(kline: Kline, *, after_ms: int = 1_050) -> TapedFrame:
    """The kline as the exchange sends it, received `after_ms` after its open time."""
    name = f"{kline.symbol.lower()}@kline_1s"
    inner = {
        "t": kline.open_time_ms,
        "T": kline.close_time_ms,
        "s": kline.symbol,
        "i": "1s",
        "f": kline.first_trade_id,
        "L": kline.last_trade_id,
        "o": str(kline.open),
        "c": str(kline.close),
        "h": str(kline.high),
        "l": str(kline.low),
        "v": str(kline.base_volume),
        "n": kline.trade_count,
        "x": kline.is_closed,
        "q": str(kline.quote_volume),
        "V": str(kline.taker_buy_base_volume),
        "Q": str(kline.taker_buy_quote_volume),
    }
    return framed(name, {"e": "kline", "E": kline.event_time_ms, "s": kline.symbol, "k": inner}, kline, after_ms)


def framed(name: str, data: object, kline: Kline, after_ms: int) -> TapedFrame:
    frame = json.dumps({"stream": name, "data": data}).encode()
    return TapedFrame(float(kline.open_time_ms + after_ms), "c1.1", frame)


def trade_frame(trade_id: int, after_ms: int, *, connection: str = "c1.1") -> TapedFrame:
    time_ms = START_MS + after_ms
    data = {"e": "trade", "E": time_ms, "s": SYMBOL, "t": trade_id, "p": "5.5", "q": "2", "T": time_ms, "m": False}
    frame = json.dumps({"stream": "btcusdt@trade", "data": data}).encode()
    return TapedFrame(float(time_ms + 3), connection, frame)


def facts_of(frames: Iterable[TapedFrame], account: TapeAccount | None = None) -> list[Fact]:
    account = account or TapeAccount()
    facts: list[Fact] = []
    for frame in frames:
        account.take(frame)
        facts += account.settled()
    return [*facts, *account.finish()]


def digest_of(facts: Iterable[Fact]) -> str:
    digest = Digest()
    digest.take(facts)
    return digest.text()


def rows_of(facts: Iterable[Fact]) -> list[Kline]:
    return [fact.kline for fact in facts if isinstance(fact, Second)]


def holes_of(facts: Iterable[Fact]) -> list[tuple[int, int, GapCause]]:
    return [
        ((fact.from_ms - START_MS) // SECOND_MS, (fact.to_ms - START_MS) // SECOND_MS, fact.cause)
        for fact in facts
        if isinstance(fact, Hole)
    ]


def test_the_digest_is_the_declared_one() -> None:
    """Written down so that no change goes unnoticed: a new form of the digest is a new version."""
    facts = facts_of(frame_of(kline) for kline in KLINES if kline.open_time_ms != KLINES[7].open_time_ms)
    digest = Digest()
    digest.take(facts)
    names = [name for _, name in digest.sections()]
    assert names == ["1s", "1m", "5m", "15m", "1h", "4h", "1d", "gap"]
    assert digest.text() == "v1:sha256:991c4274c11a79aa2f8bb633e266de1384a9925b219fe864a825a5f632aafcfd"


@pytest.mark.parametrize(
    ("value", "text"),
    [("1.500", "1.5"), ("0E-8", "0"), ("100", "100"), ("1E+3", "1000"), ("0.00000001", "0.00000001"), ("10.0", "10")],
)
def test_numbers_have_one_spelling(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text
    assert decimal_text(None) == "-"
    assert decimal_text(-1) == "-1"


@given(st.permutations(range(15)), st.lists(st.integers(0, 14), max_size=5), st.integers(0, 60_000))
def test_order_doubles_and_receive_times_do_not_matter(order: Sequence[int], doubles: list[int], late_ms: int) -> None:
    straight = digest_of(facts_of(frame_of(kline) for kline in KLINES[:15]))
    mixed = [frame_of(KLINES[i], after_ms=1_000 + late_ms) for i in [*order, *doubles]]
    assert digest_of(facts_of(mixed)) == straight


@given(st.sets(st.integers(1, len(KLINES) - 2), max_size=30))
def test_every_second_between_first_and_last_is_a_row_or_a_gap(dropped: set[int]) -> None:
    facts = facts_of(frame_of(kline) for i, kline in enumerate(KLINES) if i not in dropped)
    accounted = {row.open_time_ms for row in rows_of(facts)}
    for fact in facts:
        if isinstance(fact, Hole):
            seconds = set(range(fact.from_ms, fact.to_ms, SECOND_MS))
            assert not seconds & accounted
            accounted |= seconds
    assert accounted == {kline.open_time_ms for kline in KLINES}
    assert len(rows_of(facts)) == len(KLINES) - len(dropped)


def test_the_candles_are_those_of_the_line() -> None:
    facts = facts_of(frame_of(kline) for kline in KLINES)
    candles = [fact for fact in facts if isinstance(fact, Candle)]
    by_minute: dict[int, list[Kline]] = {}
    for kline in KLINES:
        by_minute.setdefault(Interval.M1.floor(kline.open_time_ms), []).append(kline)
    minutes = [roll_up(rows, Interval.M1) for rows in by_minute.values()]
    assert [candle for candle in candles if candle.interval is Interval.M1] == minutes
    assert [candle.row_count for candle in candles if candle.interval is Interval.D1] == [len(KLINES)]


def test_a_corrected_second_replaces_the_first_and_changes_the_digest() -> None:
    wrong = msgspec.structs.replace(KLINES[5], base_volume=KLINES[5].base_volume + 1, event_time_ms=1)
    right = digest_of(facts_of(frame_of(kline) for kline in KLINES))
    before = [*KLINES[:5], wrong, *KLINES[5:]]
    after = [*KLINES, wrong]
    assert digest_of(facts_of(map(frame_of, before))) == right
    assert digest_of(facts_of(map(frame_of, after))) == right
    assert digest_of(facts_of(frame_of(k) for k in [*KLINES[:5], wrong, *KLINES[6:]])) != right


def test_forming_klines_are_no_facts() -> None:
    forming = [msgspec.structs.replace(kline, is_closed=False) for kline in KLINES]
    assert facts_of(map(frame_of, forming)) == []


def test_minutes_come_out_while_the_tape_runs_and_late_news_is_counted() -> None:
    account, count = TapeAccount(), 2 * LOOK_EVERY_FRAMES
    early = []
    for kline in seconds_of(SYMBOL, START_MS, count):
        account.take(frame_of(kline))
        early += list(account.settled())
    settled = rows_of(early)
    held_s = count - len(settled)
    assert 0 < held_s <= (LATE_MAX_MS + 2 * MINUTE_MS) // SECOND_MS
    account.take(frame_of(settled[0], after_ms=count * SECOND_MS))
    assert account.counts["too_late"] == 1
    assert len(rows_of([*early, *account.finish()])) == count


def test_seconds_of_trades_where_the_tape_has_no_seconds() -> None:
    facts = facts_of([trade_frame(1, 0), trade_frame(2, 900), trade_frame(3, 3_100), trade_frame(4, 4_500)])
    rows = rows_of(facts)
    assert [(row.open_time_ms - START_MS) // SECOND_MS for row in rows] == [0, 1, 2, 3]
    assert [row.trade_count for row in rows] == [2, 0, 0, 1]
    assert {fact.source for fact in facts if isinstance(fact, Second)} == {Source.TRADES}


def test_what_a_tape_of_seconds_lacks_is_not_made_up_from_trades() -> None:
    trades = [trade_frame(i, 1_000 * i) for i in range(20)]
    assert facts_of(trades, TapeAccount(build_seconds=False)) == []


def test_the_second_in_which_the_tape_begins_is_not_whole() -> None:
    rows = rows_of(facts_of([trade_frame(1, 300), trade_frame(2, 1_200), trade_frame(3, 2_500)]))
    assert [(row.open_time_ms - START_MS, row.trade_count) for row in rows] == [(1_000, 1)]


def test_a_broken_chain_of_trades_is_a_gap_and_no_calm() -> None:
    ids = {1: 0, 2: 1_500, 5: 4_200, 6: 5_500, 7: 7_100}
    facts = facts_of(trade_frame(trade_id, after_ms) for trade_id, after_ms in ids.items())
    assert [(row.open_time_ms - START_MS) // SECOND_MS for row in rows_of(facts)] == [0, 5, 6]
    assert holes_of(facts) == [(1, 5, GapCause.TRADE_CHAIN)]


def test_a_cut_connection_is_waited_for_while_others_go_on() -> None:
    """Nothing of its trades is called calm before the chain of their ids is seen again."""
    cut = [trade_frame(1, 0), trade_frame(2, 1_500)]
    others = [frame_of(kline) for kline in seconds_of("ETHUSDT", START_MS, 2 * LOOK_EVERY_FRAMES)]
    others = [TapedFrame(frame.received_ms, "c2.1", frame.frame) for frame in others]
    back = [trade_frame(9, 2_000_500, connection="c1.2"), trade_frame(10, 2_002_100, connection="c1.2")]
    facts = facts_of([*cut, *others, *back])
    assert holes_of(facts) == [(1, 2_001, GapCause.TRADE_CHAIN)]


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"stream":"btcusdt@kline_1s","data":{"e":"kline"}}',
        b'{"stream":"btcusdt@trade","data":{"E":"x"}}',
        b'{"stream":"btcusdt@aggTrade","data":{"E":1,"s":"BTCUSDT","f":5,"l":4,"p":"1","q":"1","T":1,"m":true}}',
        frame_of(KLINES[0]).frame.replace(b"btcusdt@", b"ethusdt@"),
    ],
)
def test_frames_that_the_exchange_cannot_have_sent_are_refused(frame: bytes) -> None:
    account = TapeAccount()
    with pytest.raises(BadFrame):
        account.take(TapedFrame(1.0, "c1.1", frame))
    assert list(account.finish()) == []


def test_answers_to_our_own_messages_are_no_bad_frames() -> None:
    account = TapeAccount()
    for frame in (b'{"result":null,"id":1}', b'{"error":{"code":2,"msg":"x"}}', b'{"e":"serverShutdown","E":1}'):
        account.take(TapedFrame(1.0, "c1.1", frame))


def test_out_of_order_facts_are_refused() -> None:
    digest = Digest()
    digest.row(KLINES[1])
    with pytest.raises(ValueError, match="out of order"):
        digest.row(KLINES[0])


def test_touching_gaps_are_one() -> None:
    one, two = Digest(), Digest()
    one.gap(SYMBOL, 0, 5_000)
    two.gap(SYMBOL, 0, 2_000)
    two.gap(SYMBOL, 2_000, 5_000)
    assert one.text() == two.text()
    two.gap(SYMBOL, 6_000, 7_000)
    assert one.text() != two.text()
