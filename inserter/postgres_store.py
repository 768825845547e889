"""The store in PostgreSQL (inserter/store.py says what each method promises).

A batch whose rows all lie at or past their symbol's watermark is new to the table, so it is copied straight in; should
a row be there all the same, the savepoint takes the copy back and the batch goes through the stage table and an upsert.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from inserter import sql
from inserter.batch import MAX_TIME_MS, DeadLetter, Row, WireKline
from inserter.rows import copy_text as text_of
from inserter.store import Advance, Checkpoint, Suspect, SymbolState
from market.depth import MiniTicker
from market.feed import FeedOutage, GapCause
from market.kline import Kline
from market.ledger import Gap, LedgerChange, Outage
from runtime.database import AsyncConnection, TupleRow, UniqueViolation, UnusableData
from runtime.errors import Fenced, Unusable
from runtime.kafka_client import TopicPartition


class PostgresStore:
    """One connection. After any error but Unusable it is closed with its connection."""

    def __init__(self, connection: AsyncConnection[TupleRow], copy_min_rows: int, ahead_days: int) -> None:
        self._connection = connection
        self._copy_min_rows = copy_min_rows
        self._ahead_days = ahead_days
        self._known_days: set[int] = set()

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All or nothing."""
        return self._block(is_trial=False)

    def trial(self) -> AbstractAsyncContextManager[None]:
        """Never committed."""
        return self._block(is_trial=True)

    @asynccontextmanager
    async def _block(self, *, is_trial: bool) -> AsyncIterator[None]:
        try:
            async with self._connection.transaction(force_rollback=is_trial):
                yield
        except UnusableData as error:
            # A day without partition (dropped by the retention) is refused the same way.
            self._known_days.clear()
            raise Unusable(str(error).splitlines()[0]) from error

    async def load_symbols(self) -> dict[str, SymbolState]:
        """Every symbol that has a watermark. Makes the stage table of this connection too."""
        await self._connection.execute(sql.CREATE_STAGE)
        cursor = await self._connection.execute(sql.LOAD_WATERMARKS)
        return {symbol: SymbolState(*state) for symbol, *state in await cursor.fetchall()}

    async def load_open_outages(self) -> list[Outage]:
        """Outages of the 1 s klines that are not over."""
        cursor = await self._connection.execute(sql.LOAD_OPEN_OUTAGES)
        return [Outage(s, a, b, GapCause(c)) for s, a, b, c in await cursor.fetchall()]

    async def load_unfollowed(self) -> set[str]:
        """Symbols no longer followed."""
        cursor = await self._connection.execute(sql.LOAD_UNFOLLOWED)
        return {symbol for (symbol,) in await cursor.fetchall()}

    async def load_checkpoints(self, topics: Collection[str]) -> dict[TopicPartition, Checkpoint]:
        """The stored ones; the claim lock is held to the end of the transaction."""
        await self._connection.execute("select pg_advisory_xact_lock(%s)", [sql.CLAIM_LOCK])
        cursor = await self._connection.execute(sql.LOAD_CHECKPOINTS, [sorted(topics)])
        return {
            TopicPartition(topic, partition): Checkpoint(topic_id, next_offset, epoch)
            for topic, partition, topic_id, next_offset, epoch in await cursor.fetchall()
        }

    async def claim_checkpoints(self, claims: Mapping[TopicPartition, Checkpoint]) -> None:
        """Make the missing ones, raise the epoch of the others."""
        values = [(p.topic, c.topic_id, p.partition, c.next_offset, c.epoch) for p, c in sorted(claims.items())]
        async with self._connection.cursor() as cursor:
            await cursor.executemany(sql.CLAIM, values)

    async def advance_checkpoints(self, advances: Sequence[Advance]) -> None:
        """Compare and set. Raises Fenced."""
        values = [
            {
                "topic": advance.partition.topic,
                "partition": advance.partition.partition,
                "topic_id": advance.topic_id,
                "epoch": advance.epoch,
                "stored_offset": advance.stored_offset,
                "next_offset": advance.next_offset,
            }
            for advance in sorted(advances, key=lambda one: one.partition)
        ]
        async with self._connection.cursor() as cursor:
            await cursor.executemany(sql.ADVANCE_CHECKPOINT, values)
            if cursor.rowcount != len(values):
                raise Fenced("another inserter has taken the checkpoint")

    async def ensure_days(self, days: Collection[int]) -> None:
        """Daily partitions for the days, and some ahead, in a transaction of their own."""
        if not days or self._known_days.issuperset(days):
            return
        missing = sorted({*days, *(max(days) + ahead for ahead in range(1, self._ahead_days + 1))} - self._known_days)
        async with self._connection.transaction():
            await self._connection.execute(sql.ENSURE_DAYS, [missing])
        self._known_days |= set(missing)

    async def insert_rows(self, rows: Sequence[Row], *, are_new: bool, copy_text: str | None = None) -> int:
        """One by one while live, by COPY in catch-up."""
        if not rows:
            return 0
        if copy_text is None and len(rows) < self._copy_min_rows:
            async with self._connection.cursor() as cursor:
                await cursor.executemany(sql.UPSERT_ROW, [_kline_values(row.kline) for row in rows])
                return cursor.rowcount
        text = text_of(rows) if copy_text is None else copy_text
        if are_new:
            try:
                async with self._connection.transaction():
                    await self._copy(sql.COPY_ROWS, text)
            except UniqueViolation:
                # Somebody else brought the row (repair, a topic made again): the upsert decides.
                pass
            else:
                return len(rows)
        await self._copy(sql.COPY_STAGE, text)
        return (await self._connection.execute(sql.UPSERT_STAGE)).rowcount

    async def _copy(self, statement: str, text: str) -> None:
        async with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            await copy.write(text)

    async def _write_each(self, statement: str, values: Iterable[Mapping[str, Any] | Sequence[object]]) -> None:
        if given := list(values):
            async with self._connection.cursor() as cursor:
                await cursor.executemany(statement, given)

    async def upsert_minutes(self, minutes: Sequence[Kline]) -> None:
        """The exchange's own minutes."""
        await self._write_each(sql.UPSERT_MINUTE, map(_kline_values, minutes))

    async def write_outages(self, outages: Sequence[FeedOutage]) -> None:
        """Upsert them, then end what they leave behind."""
        await self._write_each(sql.UPSERT_OUTAGE, map(_outage_values, outages))
        await self._write_each(sql.END_EARLIER_OUTAGES, map(_outage_values, outages))

    async def write_tickers(self, tickers: Sequence[MiniTicker]) -> None:
        """The newest of each symbol."""
        await self._write_each(sql.UPSERT_TICKER, map(_ticker_values, tickers))

    async def write_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """The letters, made such that they are never refused themselves."""
        await self._write_each(sql.INSERT_DEAD_LETTER, map(_letter_values, letters))

    async def lock_ledger(self, symbols: Iterable[str]) -> None:
        """Advisory locks in sorted order, to the end of the transaction."""
        names = sorted(set(symbols))
        if names:
            await self._connection.execute(sql.LOCK_LEDGER, [names])

    async def gaps_touching(self, ranges_ms: Mapping[str, tuple[int, int]]) -> list[Gap]:
        """One query for all symbols."""
        starts, ends = [start for start, _ in ranges_ms.values()], [end for _, end in ranges_ms.values()]
        return await self._gaps(sql.GAPS_TOUCHING, [list(ranges_ms), starts, ends])

    async def gaps_of_unknown_cause(self, symbols: Collection[str]) -> list[Gap]:
        """Open gaps that nothing explains yet."""
        return await self._gaps(sql.GAPS_UNKNOWN, [sorted(symbols)])

    async def _gaps(self, statement: str, values: Sequence[object]) -> list[Gap]:
        cursor = await self._connection.execute(statement, values)
        return [
            Gap(symbol, from_ms, to_ms, GapCause(cause), state, resolved_by, gap_id, detected_ms, detector)
            for gap_id, symbol, from_ms, to_ms, cause, state, resolved_by, detected_ms, detector in (
                await cursor.fetchall()
            )
        ]

    async def outages_of(self, symbols: Collection[str], ending_after_ms: int) -> list[Outage]:
        """The newest first."""
        cursor = await self._connection.execute(sql.OUTAGES_OF, [sorted(symbols), ending_after_ms])
        return [Outage(s, a, b, GapCause(c)) for s, a, b, c in await cursor.fetchall()]

    async def write_ledger(self, change: LedgerChange) -> None:
        """Delete, update, insert."""
        async with self._connection.cursor() as cursor:
            if change.deleted_ids:
                await cursor.execute(sql.DELETE_GAPS, [list(change.deleted_ids)])
            if updated := [gap for gap in change.written if gap.gap_id is not None]:
                await cursor.execute(sql.UPDATE_GAPS, _gap_columns(updated))
            if inserted := [gap for gap in change.written if gap.gap_id is None]:
                await cursor.execute(sql.INSERT_GAPS, _gap_columns(inserted))

    async def add_suspects(self, suspects: Sequence[Suspect]) -> None:
        """Once each."""
        if suspects:
            async with self._connection.cursor() as cursor:
                await cursor.executemany(sql.INSERT_SUSPECT, [(s.symbol, s.from_ms, s.to_ms) for s in suspects])

    async def mark_dirty(
        self, minutes: Collection[tuple[str, int]] = (), hours: Collection[tuple[str, int]] = ()
    ) -> None:
        """Upserts in sorted order."""
        for statement, pairs in ((sql.MARK_DIRTY, minutes), (sql.MARK_DIRTY_HOURS, hours)):
            if pairs:
                ordered = sorted(pairs)
                await self._connection.execute(
                    statement, [[pair[0] for pair in ordered], [pair[1] for pair in ordered]]
                )

    async def advance_watermarks(self, watermarks: Mapping[str, int]) -> None:
        """Never backwards."""
        if watermarks:
            await self._connection.execute(sql.ADVANCE_WATERMARKS, [list(watermarks), list(watermarks.values())])


def _kline_values(k: WireKline | Kline) -> dict[str, Any]:
    return {
        "symbol": k.symbol,
        "open_ms": k.open_time_ms,
        "close_ms": k.close_time_ms,
        "open": k.open,
        "high": k.high,
        "low": k.low,
        "close": k.close,
        "base_volume": k.base_volume,
        "quote_volume": k.quote_volume,
        "trade_count": k.trade_count,
        "taker_base": k.taker_buy_base_volume,
        "taker_quote": k.taker_buy_quote_volume,
        "first_trade_id": k.first_trade_id,
        "last_trade_id": k.last_trade_id,
        "event_ms": k.event_time_ms,
        "received_ms": k.received_at_ms,
    }


def _gap_columns(gaps: Sequence[Gap]) -> dict[str, list[Any]]:
    """Each column with the values of all gaps."""
    names = ("gap_id", "symbol", "from_ms", "to_ms", "state", "resolved_by", "detected_at_ms", "detector")
    return {"cause": [gap.cause.value for gap in gaps]} | {name: [getattr(gap, name) for gap in gaps] for name in names}


def _outage_values(outage: FeedOutage) -> dict[str, Any]:
    return {
        "symbol": outage.symbol,
        "stream": outage.stream,
        "from_ms": outage.from_time_ms,
        "to_ms": outage.to_time_ms,
        "cause": outage.cause.value,
        "detail": outage.detail.replace("\x00", "\\0"),
    }


def _ticker_values(ticker: MiniTicker) -> dict[str, Any]:
    return {
        "symbol": ticker.symbol,
        "open": ticker.open,
        "high": ticker.high,
        "low": ticker.low,
        "close": ticker.close,
        "base_volume": ticker.base_volume,
        "quote_volume": ticker.quote_volume,
        "event_ms": ticker.event_time_ms,
        "received_ms": ticker.received_at_ms,
    }


def _letter_values(letter: DeadLetter) -> list[object]:
    """Texts that PostgreSQL can hold: a letter must never be what stops the line."""
    topic, reason = letter.topic.replace("\x00", "\\0"), letter.reason.replace("\x00", "\\0")
    received_at_ms = min(max(0, letter.received_at_ms), MAX_TIME_MS)
    return [topic, letter.partition, letter.offset, reason, letter.payload, received_at_ms]
