"""When is a stream silent: time since its last frame, against what is usual for it. Pure.

A socket that lives proves nothing (binance.md 0.15), so each stream is judged for itself. A kline_1s comes each
second even without trades, a miniTicker nearly so: their limits are fixed. Trades and book changes of a quiet
symbol may rest for minutes: their limit follows from the longest rest seen lately.
"""

from __future__ import annotations

from dataclasses import dataclass

from market.stream import Stream

#: Limits that follow from the stream's own period, in seconds.
FIXED_LIMIT_S = {Stream.KLINE_1S: 4.0, Stream.MINI_TICKER: 15.0}
#: A stream that follows the market is silent after this many times its longest recent rest, within these bounds.
REST_FACTOR = 6.0
MIN_LIMIT_S = 15.0
MAX_LIMIT_S = 600.0
#: Before so many frames nothing is known about a stream's habits.
FRAMES_TO_KNOW = 50
#: The longest rest fades by this factor with each frame that comes sooner, so that an old rest does not rule for ever.
REST_FADE = 0.999


@dataclass(slots=True)
class Silence:
    """The frames of one stream, by monotonic time in seconds."""

    stream: Stream
    last_frame_s: float | None = None
    listening_since_s: float | None = None
    frames: int = 0
    longest_rest_s: float = 0.0

    def on_frame(self, now_s: float) -> None:
        """A frame came."""
        if self.last_frame_s is not None:
            rest_s = now_s - self.last_frame_s
            self.longest_rest_s = max(rest_s, self.longest_rest_s * REST_FADE)
        self.last_frame_s = now_s
        self.frames += 1

    def on_listening(self, now_s: float) -> None:
        """The stream was asked for (again): silence counts from now on, and the time without it was no rest."""
        self.listening_since_s = now_s
        self.last_frame_s = None

    def on_cut(self) -> None:
        """Nothing carries the stream any more: until it does again there is nothing to judge."""
        self.listening_since_s = None
        self.last_frame_s = None

    def limit_s(self) -> float:
        """Longest silence that is still usual."""
        fixed = FIXED_LIMIT_S.get(self.stream)
        if fixed is not None:
            return fixed
        if self.frames < FRAMES_TO_KNOW:
            return MAX_LIMIT_S
        return min(MAX_LIMIT_S, max(MIN_LIMIT_S, self.longest_rest_s * REST_FACTOR))

    def silent_s(self, now_s: float) -> float:
        """Seconds since the last frame, or since it was asked for."""
        since = self.last_frame_s if self.last_frame_s is not None else self.listening_since_s
        return 0.0 if since is None else now_s - since

    def is_silent(self, now_s: float) -> bool:
        """True when the silence is longer than usual."""
        return self.silent_s(now_s) > self.limit_s()
