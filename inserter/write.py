"""The transaction of one batch (its order: the top of inserter/consume.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from inserter import ledger, meter
from inserter.account import Found, account_symbol, account_unheard, follow_trades
from inserter.batch import Batch, DeadLetter, dead_letter_of, rows_of
from inserter.positions import Positions
from inserter.store import Store
from inserter.unheard import ExchangeClock, LogEnds, Unheard
from market.feed import GapCause
from market.interval import DAY_MS, MINUTE_MS
from market.topics import Topics
from runtime.clock import Clock
from runtime.crash import crash_point
from runtime.errors import Unusable
from runtime.kafka_client import TopicPartition
from runtime.logs import get_logger

log = get_logger(__name__)
_T = TypeVar("_T")


class Writer:
    """Writes batches into one store. After any error it is thrown away; a new one loads its state afresh.

    `exchange_clock` lives as long as the process.
    """

    def __init__(
        self, store: Store, positions: Positions, topics: Topics, clock: Clock, exchange_clock: ExchangeClock
    ) -> None:
        self._store = store
        self._positions = positions
        self._clock = clock
        self._seconds_topic = topics.kline_1s.name
        self._unheard = Unheard(topics, exchange_clock)
        self._watermarks: dict[str, int] = {}
        #: symbol -> newest second with trades: its last trade id and its open time
        self._chains: dict[str, tuple[int, int] | None] = {}
        self._marked_minutes: dict[str, int] = {}

    async def load(self) -> None:
        """Watermarks, trade chains and open outages from the store."""
        async with self._store.transaction():
            states = await self._store.load_symbols()
            outages = await self._store.load_open_outages()
        for symbol, state in states.items():
            self._watermarks[symbol] = state.watermark_ms
            if state.last_trade_id is not None and state.last_trade_open_ms is not None:
                self._chains[symbol] = (state.last_trade_id, state.last_trade_open_ms)
        self._unheard.load(states, {outage.symbol: outage.from_ms for outage in outages}, self._clock.monotonic_s())

    async def list_unheard(self, batch: Batch, logs: LogEnds | None) -> None:
        """Let `batch`, the next to be written, list what is missing of symbols that are out. `logs`: where the logs
        ended when the broker was last asked; cheap when no symbol is out."""
        until_ms = self._unheard.candidates(batch, self._positions, self._watermarks.keys(), logs)
        if not until_ms:
            return
        async with self._store.transaction():
            unfollowed = await self._store.load_unfollowed()
        batch.unheard_until_ms = {
            symbol: end_ms
            for symbol, end_ms in until_ms.items()
            if symbol not in unfollowed and end_ms > self._watermarks.get(symbol, end_ms)
        }

    def watermark_ms(self, symbol: str) -> int | None:
        """How far the symbol has come; None when nothing of it is stored."""
        return self._watermarks.get(symbol)

    async def write(self, batch: Batch) -> None:
        """The batch, all or nothing. Data that the store refuses become dead letters.

        Raises Fenced, and what the store raises.
        """
        try:
            await self._write_once(batch)
        except Unusable as error:
            log.warning("batch_refused", error=str(error), rows=batch.row_count)
            await self._take_out_unusable(batch)
            await self._write_once(batch)

    async def _write_once(self, batch: Batch) -> None:
        store = self._store
        await store.ensure_days(days_of(batch))
        found = self._account(batch)
        outages = [outage for outage, _ in batch.outages]
        are_new = all(min(rows) >= self._watermarks.get(symbol, 0) for symbol, rows in batch.rows.items())
        async with store.transaction():
            crash_point("before_rows")
            # First, so that locks are taken in one order by all: ledger, then rows.
            await store.lock_ledger(ledger.symbols_to_lock(found, outages))
            written = await store.insert_rows(rows_of(batch), are_new=are_new, copy_text=batch.copy_text)
            crash_point("after_rows")
            await self._write_facts(batch)
            hours = await ledger.apply(store, found, outages)
            await store.add_suspects(found.suspects)
            minutes = [(symbol, minute) for symbol, of_symbol in found.dirty.items() for minute in of_symbol]
            await store.mark_dirty(minutes, hours)
            await store.advance_watermarks(found.watermarks)
            await store.advance_checkpoints(self._positions.advances(batch))
            crash_point("before_commit")
        crash_point("after_commit")
        self._after_commit(batch, found, written)

    async def _write_facts(self, batch: Batch) -> None:
        """Minutes, outages, tickers and dead letters."""
        await self._store.upsert_minutes([batch.minutes[key][0] for key in sorted(batch.minutes)])
        await self._store.write_outages([outage for outage, _ in batch.outages])
        await self._store.write_tickers([batch.tickers[symbol][0] for symbol in sorted(batch.tickers)])
        await self._store.write_dead_letters(batch.dead_letters)

    def _account(self, batch: Batch) -> Found:
        """Gaps, late rows, dirty minutes and watermarks of the batch; checks the trade chain on the way."""
        found = Found()
        for symbol, rows in batch.rows.items():
            in_order = account_symbol(
                found, symbol, rows, self._watermarks.get(symbol), self._marked_minutes.get(symbol, -1)
            )
            hole_ends_ms: Sequence[int] = ()
            if symbol in found.missing:
                ranges = found.missing[symbol][0]
                hole_ends_ms = [end_ms for _, end_ms in ranges]
                record = next(iter(rows.values())).record
                partition = TopicPartition(record.topic, record.partition)
                cause = self._positions.loss_seen_by(partition, symbol, newly=batch.jumped)
                found.missing[symbol] = (ranges, cause or GapCause.UNKNOWN)
            found.chains[symbol], suspects = follow_trades(self._chains.get(symbol), in_order, hole_ends_ms)
            found.suspects += suspects
        for symbol, until_ms in batch.unheard_until_ms.items():
            watermark_ms = found.watermarks.get(symbol, self._watermarks[symbol])
            loss = None if symbol in batch.rows else self._positions.loss_of(self._seconds_topic, symbol)
            if account_unheard(found, symbol, watermark_ms, until_ms) and loss is not None:
                found.missing[symbol] = (found.missing[symbol][0], loss)
        return found

    def _after_commit(self, batch: Batch, found: Found, written: int) -> None:
        self._watermarks.update(found.watermarks)
        self._chains.update(found.chains)
        for symbol, watermark_ms in found.watermarks.items():
            newest_ms = watermark_ms - 1
            self._marked_minutes[symbol] = newest_ms - newest_ms % MINUTE_MS
        self._positions.committed(batch)
        self._unheard.committed(batch, self._clock.monotonic_s())
        meter.ROWS.labels("kline_1s", "written").inc(written)
        meter.ROWS.labels("kline_1s", "unchanged").inc(batch.row_count - written)
        for suspect in found.suspects:
            meter.TRADE_CHAIN_BREAKS.labels(suspect.symbol).inc()
            log.warning("trade_chain_broken", symbol=suspect.symbol, from_ms=suspect.from_ms, to_ms=suspect.to_ms)
        for symbol, (ranges, _) in found.missing.items():
            meter.MISSING_SECONDS.labels(symbol).inc(sum(end - start for start, end in ranges) // 1000)
        for letter in batch.dead_letters:
            # The name on a frame is whatever the exchange sent: no label for each.
            meter.DEAD_LETTERS.labels("frame" if letter.offset is None else letter.topic).inc()

    async def _take_out_unusable(self, batch: Batch) -> None:
        """Try parts of the batch, halving, until the records that the store refuses are found."""
        store = self._store
        await store.ensure_days(days_of(batch))
        batch.copy_text = None
        for row, reason in await self._refused(rows_of(batch), lambda part: store.insert_rows(part, are_new=False)):
            del batch.rows[row.kline.symbol][row.kline.open_time_ms]
            if not batch.rows[row.kline.symbol]:
                del batch.rows[row.kline.symbol]
            self._bury(batch, dead_letter_of(row.record, reason))
        tickers = list(batch.tickers.values())
        for ticker, reason in await self._refused(tickers, lambda part: store.write_tickers([t for t, _ in part])):
            del batch.tickers[ticker[0].symbol]
            self._bury(batch, dead_letter_of(ticker[1], reason))
        minutes = list(batch.minutes.values())
        for minute, reason in await self._refused(minutes, lambda part: store.upsert_minutes([m for m, _ in part])):
            del batch.minutes[minute[0].symbol, minute[0].open_time_ms]
            self._bury(batch, dead_letter_of(minute[1], reason))
        outages = list(batch.outages)
        for outage, reason in await self._refused(outages, lambda part: store.write_outages([o for o, _ in part])):
            batch.outages.remove(outage)
            self._bury(batch, dead_letter_of(outage[1], reason))

    async def _refused(
        self, items: Sequence[_T], attempt: Callable[[Sequence[_T]], Awaitable[object]]
    ) -> list[tuple[_T, str]]:
        """The items that make `attempt` fail with unusable data, each with the reason. Nothing stays written."""
        if not items:
            return []
        try:
            async with self._store.trial():
                await attempt(items)
        except Unusable as error:
            if len(items) == 1:
                return [(items[0], str(error))]
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
