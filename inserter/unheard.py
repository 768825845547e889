"""Symbols that are known to be out, and what of them is missing while no row of theirs comes. Pure.

A hole is usually found by the next row of the symbol. Where none comes, and it is known why (the producer says that
the stream is out, or the log lost records and nothing has come since), the seconds are missing all the same, and the
ledger must say so soon. Proof that they are: the broker was asked at a moment where its logs end; all up to those ends
has been read; what the exchange had closed LATE_MS before that moment and is not among it did not come in time. A row
that comes later still is a late row and takes its second out of the gap.

The moment is put on the exchange's clock by the symbol's newest row (the end of its second against the time it was
received), so a wrong clock of this machine, or a tape of last year, makes no gap of hours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from inserter.batch import Batch
from inserter.positions import Positions
from market.interval import SECOND_MS
from market.stream import Stream
from market.topics import Topics
from runtime.kafka_client import TopicPartition

#: More than a second's kline needs from the second's end into the log while all is well.
LATE_MS = 3_000


@dataclass(frozen=True)
class LogEnds:
    """Where the logs ended (exclusive) at a moment of our clock."""

    at_ms: int
    ends: Mapping[TopicPartition, int]


class Unheard:
    """Which symbols are out: by the producer's reports, and by losses of the log."""

    def __init__(self, topics: Topics) -> None:
        self._seconds_topic = topics.kline_1s.name
        self._topics = frozenset((topics.kline_1s.name, topics.feed_outage.name))
        #: symbol -> begin of its open outage
        self._out_since_ms: dict[str, int] = {}
        #: symbol -> the exchange's clock minus the receiver's, or less when its newest row was late
        self._ahead_ms: dict[str, int] = {}
        self._used: LogEnds | None = None

    def load(self, out_since_ms: Mapping[str, int], ahead_ms: Mapping[str, int]) -> None:
        """What the store knows."""
        self._out_since_ms = dict(out_since_ms)
        self._ahead_ms = dict(ahead_ms)

    def committed(self, batch: Batch) -> None:
        """Rows and reports of a batch that is stored now."""
        for symbol, rows in batch.rows.items():
            kline = rows[max(rows)].kline
            if kline.received_at_ms:
                self._ahead_ms[symbol] = kline.open_time_ms + SECOND_MS - kline.received_at_ms
        for outage, _ in batch.outages:
            if outage.stream != Stream.KLINE_1S:
                continue
            since_ms = self._out_since_ms.get(outage.symbol)
            if outage.to_time_ms is None:
                self._out_since_ms[outage.symbol] = outage.from_time_ms
            elif since_ms is not None and since_ms <= outage.from_time_ms:
                del self._out_since_ms[outage.symbol]

    def candidates(
        self, batch: Batch, positions: Positions, known: Collection[str], logs: LogEnds | None
    ) -> dict[str, int]:
        """symbol -> everything before this is missing unless it is stored or in `batch`, the next to be written.

        `known` are the symbols with a watermark. Empty when `logs` were used already or are not read to their ends.
        """
        if logs is None or logs is self._used:
            return {}
        symbols = self._out_since_ms.keys() | positions.unseen(self._seconds_topic, known)
        if not symbols or not self._is_read(batch, positions, logs):
            return {}
        self._used = logs
        return {
            symbol: _floor(logs.at_ms + self._ahead_ms[symbol] - LATE_MS)
            for symbol in sorted(symbols)
            if symbol in self._ahead_ms
        }

    def _is_read(self, batch: Batch, positions: Positions, logs: LogEnds) -> bool:
        for partition, end in logs.ends.items():
            if partition.topic not in self._topics:
                continue
            progress = batch.progress.get(partition)
            read = positions.by_partition[partition].read_offset if progress is None else progress.next_offset
            if read < end:
                return False
        return True


def _floor(time_ms: int) -> int:
    return time_ms - time_ms % SECOND_MS
