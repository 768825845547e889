"""What the producer knows about its own feed, as records: one when a stream goes out, one when it is back. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from market.feed import FeedOutage, GapCause
from market.stream import Stream
from runtime.clock import Clock

#: The distance of two events where each stands for a span of time; elsewhere the next ms.
STEP_MS = {Stream.KLINE_1S: 1000}


def step_ms_of(stream: Stream) -> int:
    """Time that one event stands for: the first moment not delivered is the newest event's time plus this."""
    return STEP_MS.get(stream, 1)


@dataclass(slots=True)
class OutageState:
    """Delivery of one stream of one symbol. `next_event_ms` is the first time that was not delivered."""

    symbol: str
    stream: Stream
    step_ms: int
    next_event_ms: int
    open: FeedOutage | None = None

    def delivered(self, event_time_ms: int, clock: Clock) -> FeedOutage | None:
        """An event was delivered; the closing record when that ends an outage."""
        ended = None
        if self.open is not None:
            now_ms = clock.now_ms()
            ended = FeedOutage(
                symbol=self.symbol,
                stream=self.stream.value,
                cause=self.open.cause,
                from_time_ms=self.open.from_time_ms,
                to_time_ms=max(event_time_ms, self.open.from_time_ms),
                detail=self.open.detail,
                event_time_ms=now_ms,
                received_at_ms=now_ms,
            )
            self.open = None
        self.next_event_ms = max(self.next_event_ms, event_time_ms + self.step_ms)
        return ended

    def out(self, cause: GapCause, detail: str, clock: Clock) -> FeedOutage | None:
        """The stream does not deliver; the opening record, or None while an outage is open already."""
        if self.open is not None:
            return None
        now_ms = clock.now_ms()
        self.open = FeedOutage(
            symbol=self.symbol,
            stream=self.stream.value,
            cause=cause,
            from_time_ms=self.next_event_ms,
            to_time_ms=None,
            detail=detail,
            event_time_ms=now_ms,
            received_at_ms=now_ms,
        )
        return self.open


def first_missing_ms(stream: Stream, now_ms: int) -> int:
    """Where a stream that never delivered begins: the running step of the moment we began to want it."""
    step_ms = step_ms_of(stream)
    return now_ms - now_ms % step_ms


def start_mark(symbol: str, stream: Stream, before_ms: int, now_ms: int) -> FeedOutage:
    """A producer started: the step before its first one, as downtime. What is missing around it was lost while no
    producer ran, and an outage that an earlier process left open ends here."""
    return FeedOutage(
        symbol=symbol,
        stream=stream.value,
        cause=GapCause.DOWNTIME,
        from_time_ms=before_ms - step_ms_of(stream),
        to_time_ms=before_ms,
        detail="a producer started",
        event_time_ms=now_ms,
        received_at_ms=now_ms,
    )


def overflow_outage(symbol: str, stream: str, span_ms: tuple[int, int], records: int, now_ms: int) -> FeedOutage:
    """Facts that were dropped for want of room, from..to (exclusive)."""
    return FeedOutage(
        symbol=symbol,
        stream=stream,
        cause=GapCause.OVERFLOW,
        from_time_ms=span_ms[0],
        to_time_ms=span_ms[1],
        detail=f"{records} records dropped while the broker was away",
        event_time_ms=now_ms,
        received_at_ms=now_ms,
    )
