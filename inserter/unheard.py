"""Symbols that are known to be out, and what of them is missing while no row of theirs comes. Pure.

A hole is usually found by the next row of the symbol. Where none comes, and it is known why (the producer says that
the stream is out, or the log lost records and nothing has come since), the seconds are missing all the same, and the
ledger must say so soon. Proof that they are: the broker was asked at a moment where its logs end; all up to those ends
has been read; what the exchange had closed LATE_MS before that moment and is not among it did not come in time. A row
that comes later still is a late row and takes its second out of the gap.

The moment is put on the exchange's clock by the newest row (the end of its second) and the time that has passed since
by our monotonic clock, so a wrong or corrected clock of this machine, or a tape of last year, makes no gap of hours.
Until the first row after a start the symbol's newest stored row stands in: if our clock and the exchange's agreed when
it was received they are taken to agree now, else the time before the start is not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from inserter.batch import Batch
from inserter.positions import Positions
from inserter.store import SymbolState
from market.interval import SECOND_MS
from market.stream import Stream
from market.topics import Topics
from runtime.clock import Clock
from runtime.kafka_client import TopicPartition

#: More than a second's kline needs from the second's end into the log while all is well.
LATE_MS = 3_000
#: So far apart are two clocks that are right, and a row's way to us.
CLOCKS_AGREE_MS = 5_000


@dataclass(frozen=True)
class LogEnds:
    """Where the logs ended (exclusive) at a moment of our monotonic clock."""

    at_s: float
    ends: Mapping[TopicPartition, int]


class Unheard:
    """Which symbols are out: by the producer's reports, and by losses of the log."""

    def __init__(self, topics: Topics) -> None:
        self._seconds_topic = topics.kline_1s.name
        self._topics = frozenset((topics.kline_1s.name, topics.feed_outage.name))
        #: symbol -> begin of its open outage
        self._out_since_ms: dict[str, int] = {}
        #: the exchange's clock minus our monotonic one, at least: by the newest row since the start, and by symbol
        #: from what is stored
        self._ahead_ms: float | None = None
        self._stored_ahead_ms: dict[str, float] = {}
        self._used: LogEnds | None = None

    def load(self, states: Mapping[str, SymbolState], out_since_ms: Mapping[str, int], clock: Clock) -> None:
        """What the store knows at a start."""
        self._out_since_ms = dict(out_since_ms)
        for symbol, state in states.items():
            now_ms = state.watermark_ms
            if state.ahead_ms is not None and abs(state.ahead_ms) <= CLOCKS_AGREE_MS:
                now_ms = max(now_ms, clock.now_ms() + state.ahead_ms)
            self._stored_ahead_ms[symbol] = now_ms - clock.monotonic_s() * 1000

    def committed(self, batch: Batch, now_s: float) -> None:
        """Rows and reports of a batch that is stored now."""
        if batch.rows:
            newest_ms = max(max(rows) for rows in batch.rows.values()) + SECOND_MS
            ahead_ms = newest_ms - now_s * 1000
            self._ahead_ms = ahead_ms if self._ahead_ms is None else max(self._ahead_ms, ahead_ms)
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
        until_ms = {}
        for symbol in sorted(symbols):
            ahead_ms = self._stored_ahead_ms.get(symbol) if self._ahead_ms is None else self._ahead_ms
            if ahead_ms is not None:
                until_ms[symbol] = _floor(int(logs.at_s * 1000 + ahead_ms) - LATE_MS)
        return until_ms

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
