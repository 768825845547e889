"""One contract, two stores and two brokers: what holds in the simulation holds for PostgreSQL and Kafka, and back."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from inserter.batch import Batch, BatchBuilder
from inserter.positions import LogRange, Positions
from inserter.store import Advance, Checkpoint, Store
from inserter.unheard import ExchangeClock
from inserter.write import Writer
from market.feed import FeedOutage, GapCause
from market.interval import SECOND_MS
from market.kline import Kline
from market.ledger import Gap, LedgerChange
from market.record_codec import Record, encode_record
from runtime.clock import new_random
from runtime.errors import Fenced
from runtime.kafka_client import TopicPartition, load_topics
from tests.conftest import Engines
from tests.klines_of import seconds_of
from tests.simulation.benches import (
    BrokerBench,
    KafkaBench,
    MemoryBench,
    MemoryBrokerBench,
    OffsetOutOfRangeError,
    PostgresBench,
    StoreBench,
    Tables,
)
from tests.simulation.clock import BASE_MS, SimClock

TOPICS = load_topics()
KLINES, OUTAGES = TopicPartition(TOPICS.kline_1s.name, 0), TopicPartition(TOPICS.feed_outage.name, 0)
TOPIC_ID = uuid.UUID(int=7)


@dataclass(frozen=True)
class Stored:
    """A record as a consumer gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes


class Interrupted(Exception):
    """The block does not come to its end."""


@pytest.fixture(params=["memory", "postgres"])
def bench(request: pytest.FixtureRequest) -> StoreBench:
    """Each test runs over both stores."""
    if request.param == "memory":
        return MemoryBench()
    return PostgresBench(request.getfixturevalue("fresh_database"))


def batch_of(partition: TopicPartition, first_offset: int, *records: Record) -> Batch:
    """These records, read from the partition."""
    builder = BatchBuilder(TOPICS)
    add(builder, partition, first_offset, *records)
    return builder.batch


def add(builder: BatchBuilder, partition: TopicPartition, first_offset: int, *records: Record) -> None:
    """More of them."""
    stored: Any = [
        Stored(partition.topic, partition.partition, first_offset + index, BASE_MS, encode_record(record))
        for index, record in enumerate(records)
    ]
    builder.add(partition, stored, first_offset)


async def writer_of(store: Store, log_start: int = 0) -> Writer:
    """A writer that goes on at the stored checkpoints, or at the start of the log."""
    positions = Positions()
    await positions.claim(store, {KLINES.topic, OUTAGES.topic})
    await positions.take(store, {p: LogRange(TOPIC_ID, log_start, 10**6) for p in (KLINES, OUTAGES)})
    writer = Writer(store, positions, TOPICS, SimClock(), ExchangeClock())
    await writer.load()
    return writer


async def test_a_block_that_raises_leaves_nothing(bench: StoreBench) -> None:
    before = bench.tables()

    async def write_half(store: Store) -> None:
        async with store.transaction():
            await store.advance_watermarks({"A": BASE_MS})
            await store.mark_dirty([("A", BASE_MS)])
            raise Interrupted

    async with bench.open() as store:
        with pytest.raises(Interrupted):
            await write_half(store)
    assert bench.tables() == before


async def test_rows_keep_the_newest_event(bench: StoreBench) -> None:
    klines = seconds_of("A", BASE_MS, 8)
    newer = msgspec.structs.replace(klines[2], event_time_ms=klines[2].event_time_ms + 1, trade_count=77)
    older = msgspec.structs.replace(klines[3], event_time_ms=klines[3].event_time_ms - 1, trade_count=78)
    async with bench.open() as store:
        written = []
        async with store.transaction():
            await store.load_symbols()
        for part in (klines, klines, [newer], [older]):
            rows = list(batch_of(KLINES, 0, *part).rows["A"].values())
            async with store.transaction():
                await store.ensure_days([BASE_MS // 86_400_000])
                written.append(await store.insert_rows(rows, are_new=part is klines))
    assert written == [8, 0, 1, 0]
    counts = {row[1]: row[8] for row in bench.tables()["rows"]}
    assert counts[newer.open_time_ms] == 77
    assert counts[older.open_time_ms] == klines[3].trade_count


async def test_checkpoints_are_compared_and_set(bench: StoreBench) -> None:
    first = Checkpoint(TOPIC_ID, 5, 1)
    async with bench.open() as store:
        async with store.transaction():
            await store.claim_checkpoints({KLINES: first, OUTAGES: first})
            await store.claim_checkpoints({KLINES: replace(first, next_offset=99, epoch=2)})
            assert await store.load_checkpoints([KLINES.topic]) == {KLINES: replace(first, epoch=2)}
        good = Advance(OUTAGES, TOPIC_ID, 1, 5, 6)
        for wrong in (Advance(KLINES, TOPIC_ID, 1, 5, 6), Advance(KLINES, TOPIC_ID, 2, 4, 6)):
            with pytest.raises(Fenced):
                async with store.transaction():
                    await store.advance_checkpoints([good, wrong])
        async with store.transaction():
            await store.advance_checkpoints([good, Advance(KLINES, TOPIC_ID, 2, 5, 9)])
    assert [point[3:] for point in bench.tables()["checkpoints"]] == [(6, 1), (9, 2)]


async def test_a_claim_fences_whoever_began_before(bench: StoreBench) -> None:
    """From the claim on no older inserter moves a checkpoint: what the broker says after it can be compared."""
    klines = seconds_of("A", BASE_MS, 8)
    async with bench.open() as store:
        old = await writer_of(store)
        await old.write(batch_of(KLINES, 0, *klines[:4]))
        await Positions().claim(store, {KLINES.topic})
        with pytest.raises(Fenced):
            await old.write(batch_of(KLINES, 4, *klines[4:]))
    assert len(bench.tables()["rows"]) == 4


async def test_ledger_is_read_as_it_was_written(bench: StoreBench) -> None:
    def gap(from_s: int, to_s: int, cause: GapCause = GapCause.UNKNOWN) -> Gap:
        return Gap("A", BASE_MS + from_s * SECOND_MS, BASE_MS + to_s * SECOND_MS, cause)

    async with bench.open() as store, store.transaction():
        await store.lock_ledger(["A"])
        await store.write_ledger(LedgerChange((gap(0, 5), gap(10, 20), gap(30, 40, GapCause.SILENCE))))
        touching = await store.gaps_touching({"A": (BASE_MS + 5_000, BASE_MS + 10_000)})
        assert [(g.from_ms - BASE_MS, g.to_ms - BASE_MS) for g in touching] == [(0, 5_000), (10_000, 20_000)]
        assert len(await store.gaps_of_unknown_cause(["A"])) == 2
        shorter = replace(touching[1], to_ms=BASE_MS + 15_000, state="repaired", resolved_by="stream")
        assert touching[0].gap_id is not None
        await store.write_ledger(LedgerChange((shorter,), (touching[0].gap_id,)))
        assert len(await store.gaps_of_unknown_cause(["A"])) == 0
    found = [(g[1] - BASE_MS, g[2] - BASE_MS, g[3], g[4]) for g in bench.tables()["gaps"]]
    assert found == [(10_000, 15_000, "unknown", "repaired"), (30_000, 40_000, "silence", "open")]


def outage(from_s: int, to_s: int | None, cause: GapCause = GapCause.DISCONNECT) -> FeedOutage:
    """A report of the producer."""
    from_ms = BASE_MS + from_s * SECOND_MS
    to_ms = None if to_s is None else BASE_MS + to_s * SECOND_MS
    return FeedOutage(
        symbol="A", stream="kline_1s", cause=cause, from_time_ms=from_ms, to_time_ms=to_ms, detail="", event_time_ms=1
    )


async def test_what_expired_explains_the_hole_before_the_first_row_only(bench: StoreBench) -> None:
    klines = seconds_of("A", BASE_MS, 9)
    async with bench.open() as store:
        await (await writer_of(store)).write(batch_of(KLINES, 0, *klines[:2]))
    async with bench.open() as store:
        writer = await writer_of(store, log_start=50)
        await writer.write(batch_of(KLINES, 50, klines[5], klines[8]))
    assert [((a - BASE_MS) // 1000, (b - BASE_MS) // 1000, cause) for _, a, b, cause, *_ in bench.tables()["gaps"]] == [
        (2, 5, "log_expired"),
        (6, 8, "unknown"),
    ]


async def test_outages_end_each_other(bench: StoreBench) -> None:
    async with bench.open() as store, store.transaction():
        await store.write_outages([outage(0, None), outage(10, None), outage(10, 12), outage(20, None)])
        await store.write_outages([outage(10, None, GapCause.SILENCE)])
        assert [o.from_ms - BASE_MS for o in await store.load_open_outages()] == [20_000]
        assert len(await store.outages_of(["A"], BASE_MS + 11_000)) == 2
    ends = [(o[2] - BASE_MS, None if o[3] is None else o[3] - BASE_MS, o[4]) for o in bench.tables()["outages"]]
    assert ends == [(0, 10_000, "disconnect"), (10_000, 12_000, "silence"), (20_000, None, "disconnect")]


async def test_watermarks_only_rise_and_tell_the_chain(bench: StoreBench) -> None:
    klines = seconds_of("A", BASE_MS, 20)
    async with bench.open() as store:
        await (await writer_of(store)).write(batch_of(KLINES, 0, *klines))
        async with store.transaction():
            await store.advance_watermarks({"A": BASE_MS})
            state = (await store.load_symbols())["A"]
    newest = max((k for k in klines if k.trade_count), key=lambda k: k.open_time_ms)
    assert state.watermark_ms == BASE_MS + 20 * SECOND_MS
    assert (state.last_trade_id, state.last_trade_open_ms) == (newest.last_trade_id, newest.open_time_ms)
    assert bench.tables()["dirty"] == [("A", BASE_MS, 1)]


# --- a life, the same over both ------------------------------------------------------------------------------------


def _damaged(klines: list[Kline], seed: int) -> list[Kline]:
    """Some dropped, some late, some twice."""
    rng = new_random(seed)
    kept: list[Kline] = []
    late: list[tuple[int, Kline]] = []
    for index, kline in enumerate(klines):
        luck = rng.random()
        if index and luck < 0.15:
            continue
        if index and luck < 0.3:
            late.append((index + rng.randrange(1, 60), kline))
        else:
            kept.append(kline)
        kept.extend(one for at, one in late if at == index)
        if luck > 0.95:
            kept.append(kline)
    return kept


async def _live(bench: StoreBench, seed: int) -> list[Tables]:
    """Batches, restarts and roll-ups, the same for the same seed; the tables after each restart."""
    rng = new_random(seed)
    klines = _damaged(seconds_of("A", BASE_MS, 400), seed)
    seen: list[Tables] = []
    at = outages = 0
    while at < len(klines):
        async with bench.open() as store:
            writer = await writer_of(store)
            for _ in range(4):
                count = rng.choice((1, 3, 40))
                part = klines[at : at + count]
                builder = BatchBuilder(TOPICS)
                if part:
                    add(builder, KLINES, at, *part)
                if rng.random() < 0.3:
                    since_s = (part[0].open_time_ms - BASE_MS) // SECOND_MS if part else 400
                    add(builder, OUTAGES, outages, outage(since_s - 5, since_s))
                    outages += 1
                if builder.batch.record_count:
                    await writer.write(builder.batch)
                at += len(part)
        bench.roll_up()
        seen.append(bench.tables())
    return seen


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_life_leaves_the_same_tables_in_both(seed: int, fresh_database: str) -> None:
    in_memory = await _live(MemoryBench(), seed)
    in_postgres = await _live(PostgresBench(fresh_database), seed)
    for number, (ours, real) in enumerate(zip(in_memory, in_postgres, strict=True)):
        for table in ours:
            assert ours[table] == real[table], f"{table} after restart {number}"
    assert len(in_memory[-1]["gaps"]) > 5
    assert len(in_memory[-1]["candles"]) > 6


# --- brokers -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "kafka"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[BrokerBench]:
    """Each test runs over both brokers."""
    if request.param == "memory":
        yield MemoryBrokerBench()
        return
    engines: Engines = request.getfixturevalue("engines")
    kafka = KafkaBench(engines)
    await kafka.start()
    yield kafka


async def test_log_keeps_order_and_says_what_it_lost(broker: BrokerBench) -> None:
    await broker.send([b"a", b"b", b"c"])
    assert await broker.ends() == (0, 3)
    assert await broker.fetch(1) == [(1, b"b"), (2, b"c")]
    assert await broker.fetch(3) == []
    with pytest.raises(OffsetOutOfRangeError):
        await broker.fetch(4)
    await broker.expire()
    assert await broker.ends() == (3, 3)
    with pytest.raises(OffsetOutOfRangeError):
        await broker.fetch(2)
    await broker.send([b"d"])
    assert await broker.fetch(3) == [(3, b"d")]


async def test_a_topic_made_again_has_another_id_and_begins_anew(broker: BrokerBench) -> None:
    await broker.send([b"a", b"b"])
    before = await broker.topic_id()
    await broker.recreate()
    assert await broker.topic_id() != before
    assert await broker.ends() == (0, 0)
    with pytest.raises(OffsetOutOfRangeError):
        await broker.fetch(2)
    await broker.send([b"c"])
    assert await broker.fetch(0) == [(0, b"c")]
