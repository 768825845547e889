"""What must hold: after every commit while faults last, and at the end after everything was healed."""

from __future__ import annotations

import msgspec

from inserter.store import Checkpoint
from market.interval import MINUTE_MS, SECOND_MS, STORED_INTERVALS, Interval
from market.kline import VALUE_COLUMNS, Candle, Kline
from market.ledger import OPEN, REPAIRED, UNRESOLVED
from market.topics import Topics
from runtime.kafka_client import TopicPartition
from tests.simulation.broker import MemoryBroker, Record
from tests.simulation.exchange import SymbolTruth, fold
from tests.simulation.tables import Change, Database, StoredRow
from tests.simulation.violations import Anomaly, Violation


class _Head(msgspec.Struct):
    symbol: str
    open_time_ms: int = -1
    event_time_ms: int = -1
    trade_id: int = -1


_head = msgspec.json.Decoder(_Head)


def values_of(kline: Kline | Candle) -> tuple[object, ...]:
    """The nine values."""
    return tuple(getattr(kline, name) for name in VALUE_COLUMNS)


class Checker:
    """Knows the truth, and looks at every commit and every record."""

    def __init__(
        self, topics: Topics, truths: dict[str, SymbolTruth], database: Database, broker: MemoryBroker
    ) -> None:
        self._truths, self._db, self._broker = truths, database, broker
        self._kline_topic, self._trade_topic = topics.kline_1s.name, topics.trade.name
        #: partitions whose broker has lost its tail, and where the log ended before: the checkpoint may go back once,
        #: and until it does offsets below that end may mean what was read before the loss
        #: where the log ended before each loss of its newest records that the inserter has not noticed yet
        self._lost_tails: dict[TopicPartition, list[int]] = {}
        self._first_ms: dict[str, int] = {}
        #: (producer, topic, symbol, event time or trade id) of everything that was ever in the log
        self._appended: set[tuple[int, str, str, int]] = set()
        self._delivered: set[tuple[int, str, int]] = set()
        self.producer = 0
        self.may_repeat = False
        database.on_commit = self.on_commit
        broker.on_append = self.on_append

    # --- while faults last ---------------------------------------------------------------------------------------

    def on_tail_lost(self, partition: TopicPartition, end: int) -> None:
        """The broker lost records, its log ended at `end` before: offsets below are given out again."""
        self._lost_tails.setdefault(partition, []).append(end)

    def on_delivered(self, producer: int, symbol: str, event_ms: int) -> None:
        """A closed kline with this event time was given to a living producer."""
        self._delivered.add((producer, symbol, event_ms))

    def on_append(self, record: Record) -> None:
        """A record was appended by `self.producer`: none of its life comes twice, unless it had to send again."""
        if record.topic not in (self._kline_topic, self._trade_topic):
            return
        head = _head.decode(record.value)
        number = head.event_time_ms if head.trade_id < 0 else head.trade_id
        key = (self.producer, record.topic, head.symbol, number)
        if key in self._appended and not self.may_repeat:
            raise Violation(Anomaly.DUPLICATE, f"{record.topic} {head.symbol} {number} sent twice by one producer")
        self._appended.add(key)

    def on_commit(self, changes: list[Change]) -> None:
        """Every commit keeps every promise that does not need time."""
        added: dict[str, list[int]] = {}
        advanced: dict[str, tuple[int, int]] = {}
        in_doubt: set[str] = set()
        points: list[Change] = []
        for change in changes:
            if change.table == "row":
                self._check_row(change.old, change.new)
                if change.old is None:
                    added.setdefault(change.new.kline.symbol, []).append(change.key)
            elif change.table == "gap":
                in_doubt.add((change.new or change.old).symbol)
            elif change.table == "watermark":
                if change.old is None:
                    self._first_ms[change.key] = min(self._db.rows[change.key])
                elif change.new <= change.old:
                    raise Violation(Anomaly.REGRESSED, f"watermark of {change.key}: {change.old} -> {change.new}")
                advanced[change.key] = (change.old or self._first_ms[change.key], change.new)
            elif change.table == "candle":
                self._check_candle(change.old, change.new)
            elif change.table == "checkpoint" and change.key.topic == self._kline_topic:
                points.append(change)
        for change in points:
            self._check_checkpoint(change.key, change.old, change.new)
        for symbol in added.keys() | advanced.keys() | in_doubt:
            start, end = advanced.get(symbol, (0, 0))
            times = added.get(symbol, [])
            is_plain = len(times) * SECOND_MS == end - start and (
                not times or start <= min(times) < max(times) + 1 <= end
            )
            if symbol in in_doubt or not is_plain:
                self.check_account(symbol)

    def _check_row(self, old: StoredRow | None, new: StoredRow) -> None:
        kline = new.kline
        truth = self._truths[kline.symbol].at(kline.open_time_ms)
        where = f"{kline.symbol} {kline.open_time_ms} ({new.source})"
        if truth is None or values_of(kline) != truth.values():
            raise Violation(Anomaly.PHANTOM, f"{where} is a row that the exchange never sent")
        if old is not None and kline.event_time_ms < old.kline.event_time_ms:
            raise Violation(Anomaly.REGRESSED, f"{where} was replaced by an older event")

    @staticmethod
    def _check_candle(old: Candle | None, new: Candle) -> None:
        if old is None:
            return
        where = f"{new.symbol} {new.interval} {new.open_time_ms}"
        if old.is_closed and not new.is_closed:
            raise Violation(Anomaly.REGRESSED, f"closed candle {where} is open again")
        if new.row_count < old.row_count or new.revision < old.revision:
            raise Violation(Anomaly.REGRESSED, f"candle {where} has become thinner or older")

    def _check_checkpoint(self, partition: TopicPartition, old: Checkpoint | None, new: Checkpoint) -> None:
        if old is not None and new.epoch < old.epoch:
            raise Violation(Anomaly.REGRESSED, f"epoch of {partition}: {old.epoch} -> {new.epoch}")
        log = self._broker.logs[partition]
        start = log.start
        if old is not None and old.topic_id != new.topic_id:
            self._lost_tails.pop(partition, None)
        elif old is not None:
            lost_tails = self._lost_tails.get(partition, [])
            if new.next_offset >= old.next_offset:
                start = max(start, old.next_offset)
            elif not lost_tails:
                raise Violation(Anomaly.REGRESSED, f"{partition}: {old.next_offset} -> {new.next_offset}")
            else:
                # This one was noticed; another may have followed while the inserter read what it commits now.
                lost_tails.pop(0)
            start = max([start, *lost_tails])
        if new.topic_id != self._broker.topic_ids[partition.topic]:
            return
        for offset in range(start, new.next_offset):
            record = log.at(offset)
            if record is not None:
                self._require_row(record)

    def _require_row(self, record: Record) -> None:
        head = _head.decode(record.value)
        row = self._db.rows.get(head.symbol, {}).get(head.open_time_ms)
        if row is None or row.kline.event_time_ms < head.event_time_ms:
            where = f"{record.topic}/{record.partition} offset {record.offset}"
            raise Violation(Anomaly.LOST, f"{head.symbol} {head.open_time_ms}: checkpoint is past {where}, no row")

    def check_account(self, symbol: str) -> None:
        """Every second from the first to the watermark is a row or in exactly one unresolved gap."""
        rows, watermark_ms = self._db.rows.get(symbol, {}), self._db.watermarks.get(symbol)
        if watermark_ms is None:
            raise Violation(Anomaly.UNFLAGGED, f"{symbol} has rows or gaps and no watermark")
        first_ms = self._first_ms[symbol]
        accounted = sum(1 for time_ms in rows if first_ms <= time_ms < watermark_ms)
        in_gaps: set[int] = set()
        for gap in self._db.gaps.values():
            if gap.symbol == symbol and gap.state in UNRESOLVED:
                for time_ms in range(gap.from_ms, gap.to_ms, SECOND_MS):
                    if time_ms in rows or time_ms in in_gaps:
                        what = "a row" if time_ms in rows else "in a second gap"
                        raise Violation(Anomaly.DUPLICATE, f"{symbol} {time_ms} is in gap {gap.gap_id} and {what}")
                    in_gaps.add(time_ms)
        accounted += sum(1 for time_ms in in_gaps if first_ms <= time_ms < watermark_ms)
        missing = (watermark_ms - first_ms) // SECOND_MS - accounted
        if missing:
            raise Violation(Anomaly.UNFLAGGED, f"{symbol}: {missing} seconds are neither row nor gap")

    # --- after healing -------------------------------------------------------------------------------------------

    def check_converged(self, until_ms: int, *, producer: int | None) -> None:
        """Everything up to about now is there, and everything made of it is right."""
        for partition in self._broker.partitions(self._kline_topic):
            point = self._db.checkpoints.get(partition)
            if point is None or point.next_offset != self._broker.logs[partition].end:
                raise Violation(Anomaly.STUCK, f"checkpoint of {partition} is not at the end of the log")
        for symbol, truth in self._truths.items():
            if self._db.watermarks.get(symbol, 0) < until_ms:
                raise Violation(Anomaly.STUCK, f"watermark of {symbol} has not come to {until_ms}")
            self.check_account(symbol)
            self._check_gaps(symbol, truth)
            self._check_candles(symbol, truth)
        for symbol, minute in self._db.dirty:
            if minute + MINUTE_MS <= self._db.watermarks[symbol]:
                raise Violation(Anomaly.STUCK, f"minute {minute} of {symbol} is still dirty")
        for number, symbol, event_ms in self._delivered if producer is not None else ():
            if number == producer and (number, self._kline_topic, symbol, event_ms) not in self._appended:
                raise Violation(Anomaly.LOST, f"{symbol} {event_ms} was given to the producer and never sent")

    def _check_gaps(self, symbol: str, truth: SymbolTruth) -> None:
        rows = self._db.rows[symbol]
        for gap in self._db.gaps.values():
            if gap.symbol != symbol:
                continue
            where = f"gap {gap.gap_id} of {symbol} {gap.from_ms}-{gap.to_ms}"
            if gap.state == OPEN:
                raise Violation(Anomaly.STUCK, f"{where} is still open")
            for time_ms in range(gap.from_ms, gap.to_ms, SECOND_MS):
                if gap.state == REPAIRED and time_ms not in rows:
                    raise Violation(Anomaly.LOST, f"{where} is repaired and {time_ms} is no row")
                if gap.state != REPAIRED and truth.at(time_ms) is not None:
                    raise Violation(Anomaly.LOST, f"{where} is {gap.state} and the exchange has {time_ms}")

    def _check_candles(self, symbol: str, truth: SymbolTruth) -> None:
        rows, watermark_ms = self._db.rows[symbol], self._db.watermarks[symbol]
        whole_ms = watermark_ms - watermark_ms % MINUTE_MS
        for interval in STORED_INTERVALS:
            opens = sorted({interval.floor(time_ms) for time_ms in rows if time_ms < whole_ms})
            for open_ms in opens:
                self._check_bar(truth, interval, open_ms, min(whole_ms, open_ms + interval.length_ms))

    def _check_bar(self, truth: SymbolTruth, interval: Interval, open_ms: int, end_ms: int) -> None:
        symbol = truth.symbol
        rows = self._db.rows[symbol]
        parts = [second for second in truth.between(open_ms, end_ms) if second.open_ms in rows]
        candle = self._db.candles.get((symbol, interval, open_ms))
        if candle is None:
            raise Violation(Anomaly.STUCK, f"candle {symbol} {interval} {open_ms} was not made")
        if values_of(candle) != fold(parts) or candle.row_count != len(parts):
            raise Violation(Anomaly.SKEWED, f"candle {symbol} {interval} {open_ms} is not what its seconds make")
