"""What recorded traffic says: its closed seconds, the candles made of them, and the gaps between them.

Frames go in as they were recorded, facts come out, of each symbol in order of time. A minute is held until nothing
can come for it any more (LATE_MAX_MS), so that the facts do not depend on the order of arrival. Seconds are the
kline_1s of the tape; of a symbol without any they are built from its trades, unless the tape was asked for kline_1s.
Pure, memory is bounded by LATE_MAX_MS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import msgspec

from market.bars import BarStream
from market.binance_codec import decode_envelope, decode_event
from market.digest import Fact, Hole, Second
from market.errors import BadFrame
from market.feed import GapCause
from market.interval import DAY_MS, MINUTE_MS, SECOND_MS
from market.kline import Kline, Source, differing_columns
from market.ledger import account
from market.tape_lines import TapedFrame, event_time_of, milliseconds
from market.trade import Trade
from market.trade_klines import broken_spans, in_seconds, klines_of_trades

#: How long after its end and after its last news a minute is held; what comes later is counted and left out.
LATE_MAX_MS: Final = 180_000
#: A second of trades is whole when an event this much later than its end has come.
SETTLE_MS: Final = 10
#: An event this far ahead of the receive time is no time of this tape.
MAX_AHEAD_MS: Final = DAY_MS
#: Of one symbol; when there is more, minutes are settled at their end.
HELD_MINUTES_MAX: Final = 10_000
HELD_TRADES_MAX: Final = 1_000_000
#: Frames between two looks at what is over.
LOOK_EVERY_FRAMES: Final = 1_000
#: Trades of one message of aggregated trades.
AGGREGATE_TRADES_MAX: Final = 100_000


class _AggregateFrame(msgspec.Struct, frozen=True):
    event_time: int = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")
    first_id: int = msgspec.field(name="f")
    last_id: int = msgspec.field(name="l")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    trade_time: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


class _Control(msgspec.Struct, frozen=True):
    id: int | str | None = None
    e: str | None = None
    error: msgspec.Raw = msgspec.Raw()


_aggregate = msgspec.json.Decoder(_AggregateFrame)
_control = msgspec.json.Decoder(_Control)


class TapeAccount:
    """The account of one tape. `build_seconds` false: the tape was asked for kline_1s, so what it lacks of them is
    missing, whatever trades it has."""

    def __init__(self, *, build_seconds: bool = True) -> None:
        self._build_seconds = build_seconds
        self.counts: Counter[str] = Counter(frames=0, duplicates=0, too_late=0)
        self._symbols: dict[str, _SymbolAccount] = {}
        #: newest and first event time of each connection's place (c1 of c1.1, c1.2, ...)
        self._clock_ms: dict[str, int] = {}
        self._first_ms: dict[str, int] = {}
        #: newest receive time in ms
        self.received_ms = 0

    def take(self, taped: TapedFrame) -> None:
        """The next frame. Raises BadFrame when it cannot be what the exchange sends; nothing is taken of it then."""
        self.counts["frames"] += 1
        envelope = decode_envelope(taped.frame)
        if envelope.stream is None:
            _require_control(taped.frame)
            return
        event_ms = event_time_of(envelope.data)
        received = taped.received_ms if taped.received_ms is not None else event_ms
        received_ms = int(received) if received is not None else self.received_ms
        place = taped.connection.partition(".")[0]
        name = envelope.stream.partition("@")[2]
        if name == "kline_1s":
            kline = decode_event(envelope.stream, envelope.data, received_ms)
            assert isinstance(kline, Kline)
            _require_stream_of(kline.symbol, envelope.stream)
            self._require_possible(kline.open_time_ms, received_ms)
            if kline.is_closed:
                self._note(self._symbol(kline.symbol, place).kline(kline, max(self.received_ms, received_ms)))
        elif name in ("trade", "aggTrade"):
            for trade in _trades(envelope.stream, envelope.data, received_ms):
                _require_stream_of(trade.symbol, envelope.stream)
                self._require_possible(trade.trade_time_ms, received_ms)
                self._note(self._symbol(trade.symbol, place).trade(trade, max(self.received_ms, received_ms)))
        self.received_ms = max(self.received_ms, received_ms)
        if event_ms is not None and event_ms < received_ms + MAX_AHEAD_MS:
            self._clock_ms[place] = max(self._clock_ms.get(place, 0), event_ms)
            self._first_ms[place] = min(self._first_ms.get(place, event_ms), event_ms)

    def settled(self) -> Iterator[Fact]:
        """What is final by now; looks only every LOOK_EVERY_FRAMES frames."""
        if self.counts["frames"] % LOOK_EVERY_FRAMES == 0:
            for symbol in self._symbols.values():
                clock_ms, first_ms = self._clock_ms.get(symbol.place, 0), self._first_ms.get(symbol.place, 0)
                yield from symbol.settled(clock_ms, first_ms, self.received_ms)

    def finish(self) -> Iterator[Fact]:
        """What is left when the tape is over."""
        for symbol in self._symbols.values():
            clock_ms, first_ms = self._clock_ms.get(symbol.place, 0), self._first_ms.get(symbol.place, 0)
            yield from symbol.finish(clock_ms, first_ms)

    def windows_ms(self) -> dict[str, tuple[int, int]]:
        """Of each symbol the time [from, to) from its first row to its last that came out."""
        return {
            name: (symbol.first_row_ms, symbol.watermark_ms)
            for name, symbol in sorted(self._symbols.items())
            if symbol.first_row_ms is not None and symbol.watermark_ms is not None
        }

    def _symbol(self, name: str, place: str) -> _SymbolAccount:
        known = self._symbols.get(name)
        if known is None:
            known = self._symbols[name] = _SymbolAccount(name, place, build_seconds=self._build_seconds)
        return known

    def _note(self, outcome: str) -> None:
        if outcome:
            self.counts[outcome] += 1

    @staticmethod
    def _require_possible(time_ms: int, received_ms: int) -> None:
        if not 0 < time_ms < received_ms + MAX_AHEAD_MS:
            raise BadFrame(f"time {time_ms} is not within the receive time + {MAX_AHEAD_MS} ms")


class _Minute:
    """What is held of one minute."""

    def __init__(self) -> None:
        self.rows: dict[int, Kline] = {}
        self.touched_ms = 0


class _SymbolAccount:
    """The account of one symbol; rows and candles come out minute by minute."""

    def __init__(self, name: str, place: str, *, build_seconds: bool) -> None:
        self.name, self.place = name, place
        self.first_row_ms: int | None = None
        self.watermark_ms: int | None = None
        self._minutes: dict[int, _Minute] = {}
        #: trades by id while no kline_1s was seen; None afterwards
        self._trades: dict[int, Trade] | None = {} if build_seconds else None
        self._trades_touched_ms: dict[int, int] = {}
        self._last_trade: Trade | None = None
        self._close: Decimal | None = None
        self._settled_ms = 0
        self._bars = BarStream()

    def kline(self, kline: Kline, received_ms: int) -> str:
        """Hold a closed second; of several of one time the newest event stays. Tells what became of it."""
        if self._trades is not None:
            self._trades = None
            self._trades_touched_ms.clear()
        if kline.open_time_ms < self._settled_ms:
            return "too_late"
        minute = self._minutes.setdefault(kline.open_time_ms // MINUTE_MS * MINUTE_MS, _Minute())
        minute.touched_ms = received_ms
        held = minute.rows.setdefault(kline.open_time_ms, kline)
        if held is kline:
            return ""
        if _rank(held) < _rank(kline):
            minute.rows[kline.open_time_ms] = kline
        return "corrected" if differing_columns(held, kline) else "duplicates"

    def trade(self, trade: Trade, received_ms: int) -> str:
        """Hold a trade unless the symbol has seconds of its own."""
        if self._trades is None:
            return ""
        if trade.trade_time_ms < self._settled_ms:
            return "too_late"
        self._trades_touched_ms[trade.trade_time_ms // MINUTE_MS * MINUTE_MS] = received_ms
        return "duplicates" if self._trades.setdefault(trade.trade_id, trade) is not trade else ""

    def settled(self, clock_ms: int, first_ms: int, received_ms: int) -> Iterator[Fact]:
        """The minutes that are over for good."""
        touched = self._trades_touched_ms.items() if self._trades is not None else self._touched()
        busy = [open_ms for open_ms, touched_ms in touched if touched_ms + LATE_MAX_MS > received_ms]
        is_full = len(self._minutes) > HELD_MINUTES_MAX or len(self._trades or ()) > HELD_TRADES_MAX
        until_ms = (
            (clock_ms - LATE_MAX_MS) // MINUTE_MS * MINUTE_MS if not is_full else clock_ms // MINUTE_MS * MINUTE_MS
        )
        until_ms = min([*([] if is_full else busy), until_ms])
        if until_ms > self._settled_ms:
            if self._trades is not None:
                self._build(until_ms, first_ms)
            yield from self._give(until_ms, is_end=False)
            self._settled_ms = until_ms

    def finish(self, clock_ms: int, first_ms: int) -> Iterator[Fact]:
        """Everything that is left; of seconds built from trades those that are whole."""
        if self._trades is not None:
            self._build((clock_ms - SETTLE_MS) // SECOND_MS * SECOND_MS, first_ms)
        yield from self._give(None, is_end=True)
        yield from self._bars.finish()

    def _touched(self) -> list[tuple[int, int]]:
        return [(open_ms, minute.touched_ms) for open_ms, minute in self._minutes.items()]

    def _give(self, until_ms: int | None, *, is_end: bool) -> Iterator[Fact]:
        ready = sorted(open_ms for open_ms in self._minutes if until_ms is None or open_ms < until_ms)
        source = Source.STREAM if self._trades is None else Source.TRADES
        for open_ms in ready:
            rows = self._minutes.pop(open_ms).rows
            times = sorted(rows)
            arrivals = account(self.watermark_ms, times)
            cause = GapCause.UNKNOWN if self._trades is None else GapCause.TRADE_CHAIN
            for from_ms, to_ms in arrivals.missing:
                yield Hole(self.name, from_ms, to_ms, cause)
            if self.first_row_ms is None:
                self.first_row_ms = times[0]
            self.watermark_ms = arrivals.watermark_ms
            ordered = [rows[time_ms] for time_ms in times]
            yield from (Second(kline, source) for kline in ordered)
            yield from self._bars.minute(ordered, is_over=not is_end or open_ms != ready[-1])

    def _build(self, until_ms: int, first_ms: int) -> None:
        """Seconds [settled, until) from the trades held. Where the chain of ids is broken there are none: nobody
        knows what is missing. The first second that the tape saw whole begins at or after its first event."""
        assert self._trades is not None
        from_ms = max(self._settled_ms, -(-first_ms // SECOND_MS) * SECOND_MS)
        if until_ms <= from_ms:
            return
        held = list(self._trades.values()) if self._last_trade is None else [self._last_trade, *self._trades.values()]
        spans = broken_spans(held)
        placed = list(in_seconds(held))
        inside = [trade for second_ms, trade in placed if second_ms < until_ms]
        before = [trade for second_ms, trade in placed if second_ms < from_ms]
        close = before[-1].price if before else self._close
        klines = klines_of_trades(self.name, inside, from_ms, until_ms, close)
        for kline in klines:
            if not any(start <= kline.open_time_ms < end for start, end in spans):
                minute = self._minutes.setdefault(kline.open_time_ms // MINUTE_MS * MINUTE_MS, _Minute())
                minute.rows[kline.open_time_ms] = kline
        if inside:
            self._last_trade = inside[-1]
        self._close = klines[-1].close if klines else close
        self._trades = {trade.trade_id: trade for second_ms, trade in placed if second_ms >= until_ms}
        self._trades_touched_ms = {t: at for t, at in self._trades_touched_ms.items() if t >= until_ms}


def _rank(kline: Kline) -> tuple[object, ...]:
    """Of two klines of one second the one with the higher rank stays, whatever the order of arrival."""
    return (kline.event_time_ms, kline.trade_count, kline.last_trade_id, kline.close, kline.base_volume, kline.high)


def _trades(stream: str, payload: msgspec.Raw, received_ms: int) -> list[Trade]:
    """Single trades of a trade or aggregate trade message; of an aggregate the first carries the quantity of all."""
    if not stream.endswith("@aggTrade"):
        event = decode_event(stream, payload, received_ms)
        assert isinstance(event, Trade)
        times = {name: milliseconds(getattr(event, name)) for name in ("trade_time_ms", "event_time_ms")}
        return [msgspec.structs.replace(event, **times)]
    try:
        frame = _aggregate.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad payload on {stream}: {error}") from error
    if not (frame.price.is_finite() and frame.quantity.is_finite()):
        raise BadFrame(f"aggregate of {frame.symbol}: price or quantity is not a number")
    if not 0 <= frame.last_id - frame.first_id < AGGREGATE_TRADES_MAX:
        raise BadFrame(f"aggregate of {frame.symbol}: ids {frame.first_id} to {frame.last_id}")
    return [
        Trade(
            symbol=frame.symbol,
            trade_id=trade_id,
            price=frame.price,
            quantity=frame.quantity if trade_id == frame.first_id else Decimal(0),
            trade_time_ms=milliseconds(frame.trade_time),
            is_buyer_maker=frame.is_buyer_maker,
            event_time_ms=milliseconds(frame.event_time),
            received_at_ms=received_ms,
        )
        for trade_id in range(frame.first_id, frame.last_id + 1)
    ]


def _require_stream_of(symbol: str, stream: str) -> None:
    if stream.partition("@")[0] != symbol.lower():
        raise BadFrame(f"symbol {symbol!r} on {stream}")


def _require_control(frame: bytes) -> None:
    """Raise BadFrame unless it is an answer, an event or an error of the protocol."""
    try:
        control = _control.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"neither data nor an answer of the protocol: {error}") from error
    if control.id is None and control.e is None and not bytes(control.error):
        raise BadFrame("neither data nor an answer nor an event of the protocol")
