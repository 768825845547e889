"""Symbols that are known to be out, and what of them is missing while no row of theirs comes. Pure.

A hole is usually found by the next row of the symbol. Where none comes, and it is known why (the producer says that
the stream is out, or the log lost records and nothing has come since), the seconds are missing all the same, and the
ledger must say so soon. Proof that they are: the broker was asked at a moment where its logs end; all up to those ends
has been read; what the exchange had closed LATE_MS before that moment and is not among it did not come in time. A row
that comes later still is a late row and takes its second out of the gap.

The moment is put on the exchange's clock by the newest row (the end of its second) and the time that has passed since
by our monotonic clock, so a wrong or corrected clock of this machine, or a tape of last year, makes no gap of hours,
let alone one that lies in the future. Until the first row after the start of the process the symbol's watermark stands
in: so late it was at least. What passed between that and the start is listed with the first row of any symbol.
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
from runtime.kafka_client import TopicPartition

#: More than a second's kline needs from the second's end into the log while all is well.
LATE_MS = 3_000
KEEP_S = 600.0
#: No clock of a machine runs faster than this: 200 parts in a million, 0.7 s an hour.
MAX_DRIFT_MS_A_S = 0.2


@dataclass(frozen=True)
class LogEnds:
    """Where the logs ended (exclusive) at a moment of our monotonic clock."""

    at_s: float
    ends: Mapping[TopicPartition, int]


class ExchangeClock:
    """What the exchange's clock shows at least, by the rows since the process began and our monotonic clock.

    That one may run fast, so a comparison holds for KEEP_S while there are newer ones, and is discounted while not.
    """

    def __init__(self) -> None:
        #: the exchange's clock minus ours, and when (ours) they were compared
        self._compared: tuple[float, float] | None = None

    def saw(self, newest_ms: int, now_s: float) -> None:
        """At `now_s` of our monotonic clock the second that ended at `newest_ms` was over."""
        ahead_ms = newest_ms - now_s * 1000
        best = self._compared
        if best is None or ahead_ms >= best[0] or now_s - best[1] > KEEP_S:
            self._compared = (ahead_ms, now_s)

    def at_least_ms(self, at_s: float) -> float | None:
        """The exchange's time at a moment of our monotonic clock; None before the first row."""
        if self._compared is None:
            return None
        ahead_ms, compared_s = self._compared
        return at_s * 1000 + ahead_ms - max(0.0, at_s - compared_s) * MAX_DRIFT_MS_A_S


class Unheard:
    """Which symbols are out: by the producer's reports, and by losses of the log."""

    def __init__(self, topics: Topics, exchange_clock: ExchangeClock) -> None:
        self._seconds_topic = topics.kline_1s.name
        self._topics = frozenset((topics.kline_1s.name, topics.feed_outage.name))
        #: symbol -> begin of its open outage
        self._out_since_ms: dict[str, int] = {}
        self._exchange_clock = exchange_clock
        #: stands in for it until the first row: by the watermark of each symbol
        self._stored_ahead_ms: dict[str, float] = {}
        self._used: LogEnds | None = None

    def load(self, states: Mapping[str, SymbolState], out_since_ms: Mapping[str, int], now_s: float) -> None:
        """What the store knows at a start."""
        self._out_since_ms = dict(out_since_ms)
        self._stored_ahead_ms = {symbol: state.watermark_ms - now_s * 1000 for symbol, state in states.items()}

    def committed(self, batch: Batch, now_s: float) -> None:
        """Rows and reports of a batch that is stored now."""
        if batch.rows:
            self._exchange_clock.saw(max(max(rows) for rows in batch.rows.values()) + SECOND_MS, now_s)
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
        exchange_ms = self._exchange_clock.at_least_ms(logs.at_s)
        for symbol in sorted(symbols):
            time_ms = exchange_ms
            if time_ms is None and symbol in self._stored_ahead_ms:
                time_ms = logs.at_s * 1000 + self._stored_ahead_ms[symbol]
            if time_ms is not None:
                until_ms[symbol] = _floor(int(time_ms) - LATE_MS)
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
