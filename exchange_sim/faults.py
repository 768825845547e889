"""Faults on demand: what a test or an operator can make the exchange do wrong, each bounded by count or time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import msgspec

from exchange_sim.bad_rows import RowFault

MAX_FAULTS: Final = 100
MAX_DURATION_MS: Final = 3_600_000
OVERSIZED_BYTES: Final = 1_500_000
ALTERED_BY: Final = Decimal(1_000)

FaultName = Literal[
    "cut",
    "stall",
    "refuse",
    "server_shutdown",
    "duplicate",
    "reorder",
    "depth_hole",
    "crossed_depth",
    "stale_depth",
    "bad_json",
    "unknown_symbol",
    "oversized",
    "clock_skew",
    "slow_rest",
    "rest_status",
    "rest_rows",
    "altered_trade",
    "drop_kline",
    "corrected_kline",
    "symbol_status",
    "nested_error",
]
IMMEDIATE: Final = frozenset(("cut", "server_shutdown"))


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """One ordered fault.

    `stream` is a part of the stream name it applies to ("" = all). It ends after `count` uses or `duration_ms`,
    whichever comes first. `status` (rest_status, refuse): 418, 429, 451, 500.. ; `delay_ms` (slow_rest); `skew_ms`
    (clock_skew). symbol_status gives the symbol that `stream` names the status `symbol_status`, for `duration_ms`:
    in BREAK its streams are silent, in CANCEL_ONLY its klines (binance.md 5); REST goes on. nested_error: the other
    shape of a control message's error reply. altered_trade: one trade of the stream has another quantity, and so has
    the closed kline_1s of its second; REST and all longer klines tell the truth. corrected_kline: a closed kline comes
    with a wrong volume first, and right with a newer event time. crossed_depth: a depth update bids above every ask.
    stale_depth: REST depth of `<symbol>@depth<limit>` is answered with the answer before. rest_rows: the REST klines
    whose stream name `stream` is part of are answered wrongly, `rows` says how (bad_rows.py).
    """

    fault: FaultName
    stream: str = ""
    count: int = 0
    duration_ms: int = 60_000
    status: int = 503
    delay_ms: int = 1_000
    skew_ms: int = 0
    symbol_status: Literal["HALT", "BREAK", "CANCEL_ONLY"] = "BREAK"
    rows: RowFault = "empty"


class Altered(NamedTuple):
    """What an altered trade adds to its second: quantity in the base asset, the same in the quote asset, taker side."""

    base: Decimal
    quote: Decimal
    taker_bought: bool


class Faults:
    """The faults in force. Used from the exchange's loop only."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._faults: list[tuple[Fault, int, list[int]]] = []
        self._held: dict[str, bytes] = {}
        self._altered: dict[tuple[str, int], Altered] = {}
        self.used: dict[str, int] = {}

    @property
    def active(self) -> bool:
        """True while any fault is in force."""
        return bool(self._faults) or bool(self._held) or bool(self._altered)

    def order(self, fault: Fault) -> None:
        """Put a fault in force. Raises ValueError for a bound outside the limits."""
        if not 0 < fault.duration_ms <= MAX_DURATION_MS:
            raise ValueError(f"duration_ms must be 1 to {MAX_DURATION_MS}")
        if fault.count < 0:
            raise ValueError("count must not be negative (0 = bounded by duration_ms only)")
        if len(self._faults) >= MAX_FAULTS:
            raise ValueError(f"at most {MAX_FAULTS} faults at a time")
        self._faults.append((fault, self._now_ms() + fault.duration_ms, [fault.count]))

    def clear(self) -> None:
        """End all faults."""
        self._faults.clear()

    def listing(self) -> list[dict[str, object]]:
        """The faults in force, for /sim/status."""
        self._expire()
        return [
            {**msgspec.to_builtins(fault), "until_ms": until, "left": left[0] if fault.count else None}
            for fault, until, left in self._faults
        ]

    def use(self, name: FaultName, stream: str = "") -> Fault | None:
        """The fault of this name if it applies now (and count it as used once), else None."""
        if not self._faults:
            return None
        self._expire()
        for entry in self._faults:
            fault, _, left = entry
            if fault.fault != name or fault.stream not in stream:
                continue
            self.used[name] = self.used.get(name, 0) + 1
            if fault.count:
                left[0] -= 1
                if not left[0]:
                    self._faults.remove(entry)
            return fault
        return None

    def transform(self, stream: str, payload: bytes, dialect: str = "") -> list[bytes]:
        """What is really sent instead of this payload: none, one or several. Dialects are kept apart."""
        if self.use("stall", stream) or self._is_suspended(stream):
            return []
        if b'"e":"kline"' in payload and b'"x":true' in payload and self.use("drop_kline", stream):
            return []
        if b'"depthUpdate"' in payload and self.use("depth_hole", stream):
            return []
        if b'"depthUpdate"' in payload and self.use("crossed_depth", stream):
            payload = payload.replace(b'"b":[', b'"b":[["9999999.00000000","1.00000000"]', 1)
            payload = payload.replace(b'"1.00000000"][', b'"1.00000000"],[', 1)
        if self.use("bad_json", stream):
            payload = payload[: len(payload) // 2]
        if self.use("oversized", stream):
            payload = payload[:-1] + b',"pad":"' + b"x" * OVERSIZED_BYTES + b'"}'
        if self.use("unknown_symbol", stream):
            payload = re.sub(rb'"s":"[^"]*"', b'"s":"UNKNOWNUSDT"', payload)
        if b'"e":"trade"' in payload and self.use("altered_trade", stream):
            payload = self._alter_trade(payload)
        if self._altered and stream.endswith("@kline_1s"):
            payload = self._alter_second(payload)
        if b'"e":"kline"' in payload and b'"x":true' in payload and self.use("corrected_kline", stream):
            return [_with_more_volume(payload, Altered(ALTERED_BY, ALTERED_BY, True), -1), payload]
        if self.use("duplicate", stream):
            return [payload, payload]
        held = self._held.pop(stream + dialect, None)
        if held is not None:
            return [payload, held]
        if self.use("reorder", stream):
            self._held[stream + dialect] = payload
            return []
        return [payload]

    def _alter_trade(self, payload: bytes) -> bytes:
        """The trade with ALTERED_BY more; what that does to its second is kept until the second closes."""
        trade = json.loads(payload)
        second = int(str(trade["T"])[:10])
        self._altered[trade["s"], second] = Altered(ALTERED_BY, ALTERED_BY * Decimal(trade["p"]), not trade["m"])
        while len(self._altered) > MAX_FAULTS:
            del self._altered[next(iter(self._altered))]
        trade["q"] = f"{Decimal(trade['q']) + ALTERED_BY:.8f}"
        return json.dumps(trade, separators=(",", ":")).encode()

    def _alter_second(self, payload: bytes) -> bytes:
        event = json.loads(payload)
        altered = self._altered.pop((event["s"], int(str(event["k"]["t"])[:10])), None)
        return payload if altered is None else _with_more_volume(payload, altered, 0)

    def status_of(self, symbol: str) -> str:
        """The symbol's status in exchangeInfo."""
        self._expire()
        ordered = (f for f, _, _ in self._faults if f.fault == "symbol_status" and f.stream == symbol.lower())
        return next((fault.symbol_status for fault in ordered), "TRADING")

    def _is_suspended(self, stream: str) -> bool:
        symbol, _, kind = stream.partition("@")
        status = self.status_of(symbol)
        return status == "BREAK" or (status == "CANCEL_ONLY" and kind.startswith("kline_"))

    def skew_ms(self) -> int:
        """By how much the exchange's own clock is wrong now."""
        if not self._faults:
            return 0
        self._expire()
        return sum(fault.skew_ms for fault, _, _ in self._faults if fault.fault == "clock_skew")

    def _expire(self) -> None:
        now = self._now_ms()
        if any(until <= now for _, until, _ in self._faults):
            self._faults = [entry for entry in self._faults if entry[1] > now]


def parse_fault(body: bytes) -> Fault:
    """The fault in a request body. Raises ValueError that says what is wrong."""
    try:
        return msgspec.json.decode(body, type=Fault)
    except (msgspec.DecodeError, json.JSONDecodeError) as error:
        raise ValueError(str(error)) from None


def _with_more_volume(payload: bytes, more: Altered, event_shift: int) -> bytes:
    """A kline event with `more` in its volumes and another event time."""
    event = json.loads(payload)
    kline = event["k"]
    fields = {"v": more.base, "q": more.quote} | ({"V": more.base, "Q": more.quote} if more.taker_bought else {})
    for name, amount in fields.items():
        kline[name] = f"{Decimal(kline[name]) + amount:.8f}"
    event["E"] += event_shift
    return json.dumps(event, separators=(",", ":")).encode()
