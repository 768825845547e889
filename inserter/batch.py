"""One batch: Kafka records turned into what the transaction writes. Pure, no I/O.

The row path is built for catch-up: a kline record is decoded into text fields that go to COPY as they came, and
numbers are checked for the whole batch at once. What fails a check is decoded again strictly (Decimal, the
exchange's rules); only what fails that too becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from market.depth import MiniTicker
from market.errors import BadFrame, BadRecord
from market.feed import BadFrameRecord, FeedOutage
from market.interval import DAY_MS, SECOND_MS, Interval
from market.kline import Kline, require_sane_kline
from market.record_codec import RecordDecoder
from market.topics import Topics
from runtime.kafka_client import ConsumerRecord, TopicPartition

#: A kline this far ahead of the broker's clock would move the watermark beyond everything real.
MAX_AHEAD_MS = DAY_MS
MAX_SYMBOL_CHARS = 40
MAX_TRADE_NUMBER = 2**63 - 1
#: End of the year 9999.
MAX_TIME_MS = 253_402_300_799_999
#: What plain and scientific decimal numbers are written with, and what separates them here.
_NUMBER_CHARS = b"0123456789.E+-\t\n"
_TABS_IN_NUMBERS = 7
_LAST_MS = SECOND_MS - 1
#: How our records say of a kline that it still forms.
_FORMING = b'"is_closed":false'


#: Checked by the decoder, in C. The limits keep what passes inside the database's types.
_Time = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TRADE_NUMBER)]
_TradeId = Annotated[int, msgspec.Meta(ge=-1, le=MAX_TRADE_NUMBER)]


class WireKline(msgspec.Struct, kw_only=True, gc=False):
    """The record of market.kline.Kline with its decimals still text."""

    symbol: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SYMBOL_CHARS)]
    interval: Literal["1s"]
    open_time_ms: _Time
    close_time_ms: _Time
    open: str
    high: str
    low: str
    close: str
    base_volume: str
    quote_volume: str
    trade_count: _Count
    taker_buy_base_volume: str
    taker_buy_quote_volume: str
    first_trade_id: _TradeId
    last_trade_id: _TradeId
    is_closed: bool
    event_time_ms: _Time
    received_at_ms: _Time = 0


class Row(msgspec.Struct, gc=False):
    """A 1 s kline on its way to the table; `record` is where it came from."""

    kline: WireKline
    numbers: str
    record: ConsumerRecord


class DeadLetter(msgspec.Struct, frozen=True):
    """A row of `dead_letter`. `offset` is None where the frame never reached Kafka."""

    topic: str
    partition: int
    offset: int | None
    reason: str
    payload: bytes
    received_at_ms: int


@dataclass
class Progress:
    """What a batch takes from one partition: the offset it must start at, and the next one after it."""

    start_offset: int
    next_offset: int
    record_count: int = 0
    newest_append_ms: int = 0


@dataclass
class Batch:
    """Everything one transaction writes."""

    #: symbol -> open_time_ms -> row; the newest event time wins within the batch
    rows: dict[str, dict[int, Row]] = field(default_factory=dict)
    outages: list[tuple[FeedOutage, ConsumerRecord]] = field(default_factory=list)
    tickers: dict[str, tuple[MiniTicker, ConsumerRecord]] = field(default_factory=dict)
    #: (symbol, open_time_ms) -> the exchange's own closed minute; the newest event time wins within the batch
    minutes: dict[tuple[str, int], tuple[Kline, ConsumerRecord]] = field(default_factory=dict)
    #: symbol -> nothing of it is in the log up to here, and it is known to be out: what is not stored is missing
    unheard_until_ms: dict[str, int] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    progress: dict[TopicPartition, Progress] = field(default_factory=dict)
    #: partitions in which offsets were skipped
    jumped: set[TopicPartition] = field(default_factory=set)
    record_count: int = 0
    byte_count: int = 0
    bad_count: int = 0
    #: the rows as COPY text when there are enough of them; None = row by row
    copy_text: str | None = None

    @property
    def row_count(self) -> int:
        """Kline rows, after the last of each key was kept."""
        return sum(len(rows) for rows in self.rows.values())


_wire_decoder = msgspec.json.Decoder(WireKline)
_strict_decoder = RecordDecoder(Kline)
_outage_decoder = RecordDecoder(FeedOutage)
_ticker_decoder = RecordDecoder(MiniTicker)
_bad_frame_decoder = RecordDecoder(BadFrameRecord)


class BatchBuilder:
    """Takes records in offset order and builds one batch of them."""

    def __init__(self, topics: Topics) -> None:
        self.batch = Batch()
        self._topics = topics

    def add(self, partition: TopicPartition, records: Sequence[ConsumerRecord], expected_offset: int) -> None:
        """The next records of a partition; a first offset other than `expected_offset` is a jump."""
        if not records:
            return
        batch = self.batch
        progress = batch.progress.setdefault(partition, Progress(expected_offset, expected_offset))
        last = records[-1]
        if records[0].offset != progress.next_offset or last.offset - records[0].offset != len(records) - 1:
            batch.jumped.add(partition)
        if partition.topic == self._topics.kline_1s.name:
            self._add_klines(records)
        elif partition.topic == self._topics.kline_1m.name:
            self._add_minutes(records)
        else:
            self._add_others(partition.topic, records)
        progress.next_offset = last.offset + 1
        progress.record_count += len(records)
        progress.newest_append_ms = last.timestamp
        batch.record_count += len(records)

    def _add_klines(self, records: Sequence[ConsumerRecord]) -> None:
        """The hot loop: written out, because at this rate each call counts."""
        decode, refused = _wire_decoder.decode, self._add_strictly
        added: list[Row] = []
        byte_count = 0
        newest_possible_ms = records[-1].timestamp + MAX_AHEAD_MS
        for record in records:
            # A tombstone is no JSON either.
            value = record.value or b""
            try:
                k = decode(value)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                refused(record, newest_possible_ms)
                continue
            open_time_ms, low, high, opened, close = k.open_time_ms, k.low, k.high, k.open, k.close
            # Prices of one length have one scale, so text order is their order. All else goes the strict way,
            # which decides.
            if (
                open_time_ms % SECOND_MS == 0
                and k.close_time_ms == open_time_ms + _LAST_MS
                and open_time_ms < newest_possible_ms > k.event_time_ms
                and k.is_closed
                and len(low) == len(opened) == len(close) == len(high)
                and low <= opened <= high
                and low <= close <= high
                and k.symbol.isalnum()
            ):
                byte_count += len(value)
                numbers = (
                    f"{opened}\t{high}\t{low}\t{close}\t{k.base_volume}\t{k.quote_volume}\t"
                    f"{k.taker_buy_base_volume}\t{k.taker_buy_quote_volume}\n"
                )
                added.append(Row(k, numbers, record))
            else:
                refused(record, newest_possible_ms)
        self.batch.byte_count += byte_count
        if are_numbers([row.numbers for row in added]):
            keep_newest(self.batch.rows, added)
        else:
            for row in added:
                refused(row.record, newest_possible_ms)

    def _add_strictly(self, record: ConsumerRecord, newest_possible_ms: int) -> None:
        """One kline by the strict decoder: a row, or a dead letter that says why not."""
        try:
            kline = as_wire(strict_kline(record.value, newest_possible_ms, Interval.S1))
        except (BadRecord, BadFrame) as error:
            self._add_dead_letter(record, str(error))
        else:
            keep_newest(self.batch.rows, [Row(kline, numbers_of(kline), record)])

    def _add_minutes(self, records: Sequence[ConsumerRecord]) -> None:
        """Closed minutes of the exchange. Most records are of the minute that still forms: passed over unread."""
        minutes = self.batch.minutes
        for record in records:
            value = record.value or b""
            if _FORMING in value:
                continue
            self.batch.byte_count += len(value)
            try:
                kline = strict_kline(value, record.timestamp + MAX_AHEAD_MS, Interval.M1)
            except (BadRecord, BadFrame) as error:
                self._add_dead_letter(record, str(error))
                continue
            held = minutes.get((kline.symbol, kline.open_time_ms))
            if held is None or held[0].event_time_ms < kline.event_time_ms:
                minutes[kline.symbol, kline.open_time_ms] = (kline, record)

    def _add_others(self, topic: str, records: Iterable[ConsumerRecord]) -> None:
        batch, topics = self.batch, self._topics
        for record in records:
            batch.byte_count += len(record.value or b"")
            try:
                if topic == topics.feed_outage.name:
                    batch.outages.append((_outage_decoder.decode(record.value), record))
                elif topic == topics.mini_ticker.name:
                    ticker = _ticker_decoder.decode(record.value)
                    held = batch.tickers.get(ticker.symbol)
                    if held is None or ticker.event_time_ms >= held[0].event_time_ms:
                        batch.tickers[ticker.symbol] = (ticker, record)
                else:
                    frame = _bad_frame_decoder.decode(record.value)
                    batch.dead_letters.append(
                        DeadLetter(frame.stream or topic, 0, None, frame.reason, frame.frame, frame.received_at_ms)
                    )
            except BadRecord as error:
                self._add_dead_letter(record, str(error))

    def _add_dead_letter(self, record: ConsumerRecord, reason: str) -> None:
        self.batch.bad_count += 1
        self.batch.dead_letters.append(dead_letter_of(record, reason))


def rows_of(batch: Batch) -> list[Row]:
    """All rows of the batch."""
    return [row for rows in batch.rows.values() for row in rows.values()]


def dead_letter_of(record: ConsumerRecord, reason: str) -> DeadLetter:
    """The letter of a record that can never work."""
    return DeadLetter(record.topic, record.partition, record.offset, reason, record.value or b"", record.timestamp)


def keep_newest(rows: dict[str, dict[int, Row]], added: Iterable[Row]) -> None:
    """Put rows under their keys unless one with the same or a newer event time is there (the table's own rule)."""
    for row in added:
        kline = row.kline
        of_symbol = rows.get(kline.symbol)
        if of_symbol is None:
            of_symbol = rows[kline.symbol] = {}
        held = of_symbol.setdefault(kline.open_time_ms, row)
        if held is not row and held.kline.event_time_ms < kline.event_time_ms:
            of_symbol[kline.open_time_ms] = row


def numbers_of(kline: WireKline) -> str:
    """The eight decimals as COPY wants them, ending the line."""
    return (
        f"{kline.open}\t{kline.high}\t{kline.low}\t{kline.close}\t{kline.base_volume}\t{kline.quote_volume}\t"
        f"{kline.taker_buy_base_volume}\t{kline.taker_buy_quote_volume}\n"
    )


def are_numbers(numbers: Sequence[str]) -> bool:
    """True when all texts can only be non-negative decimals: right characters, right count, no sign in front."""
    text = "".join(numbers)
    if not text.isascii():
        return False
    data = text.encode("ascii")
    return (
        not data.translate(None, _NUMBER_CHARS)
        and data.count(b"\n") == len(numbers)
        and data.count(b"\t") == _TABS_IN_NUMBERS * len(numbers)
        and not data.startswith(b"-")
        and not any(wrong in data for wrong in (b"\t-", b"\n-", b"\t\t", b"\t\n", b"\n\t", b"\tE"))
    )


def strict_kline(value: bytes | None, newest_possible_ms: int, interval: Interval) -> Kline:
    """The record by the exchange's rules. Raises BadRecord or BadFrame, which name what is wrong."""
    kline = _strict_decoder.decode(value)
    require_sane_kline(kline)
    if kline.interval is not interval or not kline.is_closed:
        raise BadRecord(f"not a closed {interval} kline: interval {kline.interval}, is_closed {kline.is_closed}")
    if not 0 <= max(kline.open_time_ms, kline.event_time_ms) < newest_possible_ms or kline.open_time_ms < 0:
        raise BadRecord(f"open time {kline.open_time_ms} is not within the broker's time + {MAX_AHEAD_MS} ms")
    if not kline.symbol or len(kline.symbol) > MAX_SYMBOL_CHARS or not kline.symbol.replace("_", "").isalnum():
        raise BadRecord(f"no symbol of the exchange: {kline.symbol[:MAX_SYMBOL_CHARS]!r}")
    if max(kline.trade_count, kline.last_trade_id, kline.first_trade_id) > MAX_TRADE_NUMBER:
        raise BadRecord("a trade number does not fit 64 bits")
    if min(kline.last_trade_id, kline.first_trade_id) < -1 or not 0 <= kline.received_at_ms <= MAX_TIME_MS:
        raise BadRecord("a trade id or the receive time is out of range")
    return kline


def as_wire(kline: Kline) -> WireKline:
    """The same with its decimals as text."""
    fields: dict[str, Any] = msgspec.structs.asdict(kline)
    fields |= {name: str(fields[name]) for name in _DECIMALS}
    return WireKline(**fields)


_DECIMALS = frozenset(
    ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_buy_base_volume", "taker_buy_quote_volume")
)
