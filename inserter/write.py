"""The transaction of one batch (its order: the top of inserter/consume.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from inserter import ledger_store, meter, sql
from inserter.batch import MAX_TIME_MS, Batch, DeadLetter, Row, WireKline, dead_letter_of, rows_of
from inserter.ledger_store import Found
from inserter.positions import Positions
from inserter.rows import copy_in, copy_text, upsert
from market.feed import GapCause
from market.interval import DAY_MS, MINUTE_MS
from market.ledger import account
from runtime.crash import crash_point
from runtime.database import AsyncConnection, TupleRow, UnusableData
from runtime.errors import Fenced
from runtime.kafka_client import TopicPartition
from runtime.logs import get_logger

log = get_logger(__name__)
_T = TypeVar("_T")


class Writer:
    """Writes batches over one connection. After any error it is thrown away; a new one loads its state afresh."""

    def __init__(
        self, connection: AsyncConnection[TupleRow], positions: Positions, copy_min_rows: int, ahead_days: int
    ) -> None:
        self._connection = connection
        self._positions = positions
        self._copy_min_rows = copy_min_rows
        self._ahead_days = ahead_days
        self._watermarks: dict[str, int] = {}
        self._last_trade_ids: dict[str, int] = {}
        self._marked_minutes: dict[str, int] = {}
        self._known_days: set[int] = set()

    async def load(self) -> None:
        """Watermarks and trade chains from the database; the stage table of this connection."""
        async with self._connection.transaction():
            await self._connection.execute(sql.CREATE_STAGE)
            cursor = await self._connection.execute(sql.LOAD_WATERMARKS)
            for symbol, watermark_ms, last_trade_id in await cursor.fetchall():
                self._watermarks[symbol] = watermark_ms
                if last_trade_id is not None:
                    self._last_trade_ids[symbol] = last_trade_id

    async def write(self, batch: Batch) -> None:
        """The batch, all or nothing. Data that the database refuses become dead letters.

        Raises Fenced, and what the driver raises.
        """
        try:
            await self._write_once(batch)
        except UnusableData as error:
            log.warning("batch_refused", error=str(error), rows=batch.row_count)
            self._known_days.clear()
            await self._take_out_unusable(batch)
            await self.load()
            await self._write_once(batch)

    async def _write_once(self, batch: Batch) -> None:
        await self._ensure_partitions(batch)
        async with self._connection.transaction():
            crash_point("before_rows")
            written = await self._insert(batch)
            crash_point("after_rows")
            await self._write_facts(batch)
            found = self._account(batch)
            await ledger_store.apply(self._connection, found, [outage for outage, _ in batch.outages])
            await self._mark_dirty(found)
            await self._advance_watermarks(found)
            await self._advance_checkpoints(batch)
            crash_point("before_commit")
        crash_point("after_commit")
        self._after_commit(batch, found, written)

    async def _insert(self, batch: Batch) -> int:
        """Rows of the batch that were new or newer."""
        if batch.copy_text is None:
            return await upsert(self._connection, rows_of(batch))
        return await copy_in(self._connection, batch.copy_text, batch.row_count, are_new=self._is_new(batch))

    async def _try(self, rows: Sequence[Row]) -> None:
        """Whether the database takes these rows."""
        if len(rows) < self._copy_min_rows:
            await upsert(self._connection, rows)
        else:
            await copy_in(self._connection, copy_text(rows), len(rows), are_new=False)

    def _is_new(self, batch: Batch) -> bool:
        """True when no row lies before its symbol's watermark."""
        return all(min(rows) >= self._watermarks.get(symbol, 0) for symbol, rows in batch.rows.items())

    async def _ensure_partitions(self, batch: Batch) -> None:
        """Daily partitions for the rows of the batch, and some ahead, in a transaction of their own."""
        needed = days_of(batch)
        if needed:
            needed |= {max(needed) + ahead for ahead in range(1, self._ahead_days + 1)}
        missing = sorted(needed - self._known_days)
        if not missing:
            return
        async with self._connection.transaction():
            await self._connection.execute(sql.ENSURE_DAYS, [missing])
        self._known_days |= set(missing)

    async def _write_facts(self, batch: Batch) -> None:
        """Outages, tickers and dead letters."""
        async with self._connection.cursor() as cursor:
            if batch.outages:
                values = [ledger_store.outage_values(outage) for outage, _ in batch.outages]
                await cursor.executemany(sql.UPSERT_OUTAGE, values)
                await cursor.executemany(sql.END_EARLIER_OUTAGES, values)
            if batch.tickers:
                tickers = [ledger_store.ticker_values(batch.tickers[symbol][0]) for symbol in sorted(batch.tickers)]
                await cursor.executemany(sql.UPSERT_TICKER, tickers)
            if batch.dead_letters:
                await cursor.executemany(sql.INSERT_DEAD_LETTER, [_letter_values(e) for e in batch.dead_letters])

    def _account(self, batch: Batch) -> Found:
        """Gaps, late rows, dirty minutes and watermarks of the batch; checks the trade chain on the way."""
        found = Found()
        for symbol, rows in batch.rows.items():
            times = sorted(rows)
            watermark_ms = self._watermarks.get(symbol)
            arrivals = account(watermark_ms, times)
            partition = TopicPartition(rows[times[0]].record.topic, rows[times[0]].record.partition)
            cause = self._positions.loss_seen_by(partition, symbol, newly=batch.jumped)
            if arrivals.missing:
                found.missing[symbol] = (arrivals.missing, cause or GapCause.UNKNOWN)
            if arrivals.late:
                found.late[symbol] = arrivals.late
            if arrivals.watermark_ms != watermark_ms:
                found.watermarks[symbol] = arrivals.watermark_ms
            if arrivals.late or arrivals.missing:
                minutes = {time_ms - time_ms % MINUTE_MS for time_ms in times}
            else:
                minutes = set(range(times[0] - times[0] % MINUTE_MS, times[-1] + 1, MINUTE_MS))
            late_minutes = {time_ms - time_ms % MINUTE_MS for time_ms in arrivals.late}
            found.dirty[symbol] = late_minutes | (minutes - {self._marked_minutes.get(symbol, -1)})
            in_order = [rows[time_ms].kline for time_ms in times[len(arrivals.late) :]]
            self._follow_trades(symbol, in_order, bool(arrivals.missing))
        return found

    def _follow_trades(self, symbol: str, klines: Iterable[WireKline], has_hole: bool) -> None:
        """Consecutive seconds chain by trade id; a break without a missing second is suspect, not proof."""
        last_id = self._last_trade_ids.get(symbol, -1)
        for kline in klines:
            first_id = kline.first_trade_id
            if first_id < 0:
                continue
            if first_id != last_id + 1 and last_id >= 0 and not has_hole:
                meter.TRADE_CHAIN_BREAKS.labels(symbol).inc()
                log.warning("trade_chain_broken", symbol=symbol, open_time_ms=kline.open_time_ms, last_id=last_id)
            last_id = kline.last_trade_id
        self._last_trade_ids[symbol] = last_id

    async def _mark_dirty(self, found: Found) -> None:
        pairs = sorted((symbol, minute) for symbol, minutes in found.dirty.items() for minute in minutes)
        if pairs:
            await self._connection.execute(sql.MARK_DIRTY, [[pair[0] for pair in pairs], [pair[1] for pair in pairs]])

    async def _advance_watermarks(self, found: Found) -> None:
        if found.watermarks:
            values = [list(found.watermarks), list(found.watermarks.values())]
            await self._connection.execute(sql.ADVANCE_WATERMARKS, values)

    async def _advance_checkpoints(self, batch: Batch) -> None:
        """Raises Fenced when another inserter has claimed or moved one of them."""
        if not batch.progress:
            return
        values = [self._positions.advance_values(partition, p) for partition, p in sorted(batch.progress.items())]
        async with self._connection.cursor() as cursor:
            await cursor.executemany(sql.ADVANCE_CHECKPOINT, values)
            if cursor.rowcount != len(values):
                raise Fenced("another inserter has taken the checkpoint")

    def _after_commit(self, batch: Batch, found: Found, written: int) -> None:
        self._watermarks.update(found.watermarks)
        for symbol, watermark_ms in found.watermarks.items():
            newest_ms = watermark_ms - 1
            self._marked_minutes[symbol] = newest_ms - newest_ms % MINUTE_MS
        self._positions.committed(batch)
        meter.ROWS.labels("kline_1s", "written").inc(written)
        meter.ROWS.labels("kline_1s", "unchanged").inc(batch.row_count - written)
        for symbol, (ranges, _) in found.missing.items():
            meter.MISSING_SECONDS.labels(symbol).inc(sum(end - start for start, end in ranges) // 1000)
        for letter in batch.dead_letters:
            # The name on a frame is whatever the exchange sent: no label for each.
            meter.DEAD_LETTERS.labels("frame" if letter.offset is None else letter.topic).inc()

    async def _take_out_unusable(self, batch: Batch) -> None:
        """Try parts of the batch, halving, until the records that the database refuses are found."""
        await self._ensure_partitions(batch)
        batch.copy_text = None
        for row, reason in await self._refused(rows_of(batch), self._try):
            del batch.rows[row.kline.symbol][row.kline.open_time_ms]
            if not batch.rows[row.kline.symbol]:
                del batch.rows[row.kline.symbol]
            self._bury(batch, dead_letter_of(row.record, reason))
        for symbol, reason in await self._refused(
            sorted(batch.tickers), lambda part: self._write_facts(Batch(tickers={s: batch.tickers[s] for s in part}))
        ):
            self._bury(batch, dead_letter_of(batch.tickers.pop(symbol)[1], reason))
        for outage, reason in await self._refused(
            batch.outages, lambda part: self._write_facts(Batch(outages=list(part)))
        ):
            batch.outages.remove(outage)
            self._bury(batch, dead_letter_of(outage[1], reason))

    async def _refused(
        self, items: Sequence[_T], attempt: Callable[[Sequence[_T]], Awaitable[object]]
    ) -> list[tuple[_T, str]]:
        """The items that make `attempt` fail with unusable data, each with the reason. Nothing stays written."""
        if not items:
            return []
        try:
            async with self._connection.transaction(force_rollback=True):
                await attempt(items)
        except UnusableData as error:
            if len(items) == 1:
                return [(items[0], str(error).splitlines()[0])]
            half = len(items) // 2
            return await self._refused(items[:half], attempt) + await self._refused(items[half:], attempt)
        return []

    @staticmethod
    def _bury(batch: Batch, letter: DeadLetter) -> None:
        batch.bad_count += 1
        batch.dead_letters.append(letter)


def days_of(batch: Batch) -> set[int]:
    """Days (since the epoch, UTC) that the rows lie in."""
    days: set[int] = set()
    for rows in batch.rows.values():
        first, last = min(rows) // DAY_MS, max(rows) // DAY_MS
        days |= {first, last} if last - first <= 1 else {open_ms // DAY_MS for open_ms in rows}
    return days


def _letter_values(letter: DeadLetter) -> list[object]:
    """Texts that PostgreSQL can hold: a letter must never be what stops the line."""
    topic, reason = letter.topic.replace("\x00", "\\0"), letter.reason.replace("\x00", "\\0")
    received_at_ms = min(max(0, letter.received_at_ms), MAX_TIME_MS)
    return [topic, letter.partition, letter.offset, reason, letter.payload, received_at_ms]
