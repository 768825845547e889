"""The exchange of a simulation: what really happened, second by second, all of it from the seed.

Everything is calculated with integers (prices in 1/100, quantities in 1/100000) and by its own roll-up, so that no
code of the product takes part in the truth that the product is compared with.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from tests.simulation.clock import BASE_MS

PRICE_STEP, QUANTITY_STEP, QUOTE_STEP = Decimal("0.01"), Decimal("0.00001"), Decimal("0.0000001")
SECOND_MS = 1_000


class Trade(NamedTuple):
    """One trade; price in 1/100, quantity in 1/100000."""

    trade_id: int
    price: int
    quantity: int
    time_ms: int
    taker_bought: bool


class Second(NamedTuple):
    """The kline of one second; volumes in the same steps, quote volume in 1/10000000."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    base: int
    quote: int
    count: int
    taker_base: int
    taker_quote: int
    first_id: int
    last_id: int

    def values(self) -> tuple[Decimal, ...]:
        """The nine values as the tables hold them, in the order of market.kline.VALUE_COLUMNS."""
        return (
            *(value * PRICE_STEP for value in (self.open, self.high, self.low, self.close)),
            self.base * QUANTITY_STEP,
            self.quote * QUOTE_STEP,
            Decimal(self.count),
            self.taker_base * QUANTITY_STEP,
            self.taker_quote * QUOTE_STEP,
        )


def fold(seconds: Iterable[Second]) -> tuple[Decimal, ...]:
    """The values of a bar by the exchange's rule: seconds without trades take no part in open, high and low."""
    parts = list(seconds)
    traded = [part for part in parts if part.count]
    close = parts[-1].close
    return Second(
        parts[0].open_ms,
        traded[0].open if traded else close,
        max((part.high for part in traded), default=close),
        min((part.low for part in traded), default=close),
        close,
        sum(part.base for part in parts),
        sum(part.quote for part in parts),
        sum(part.count for part in parts),
        sum(part.taker_base for part in parts),
        sum(part.taker_quote for part in parts),
        0,
        0,
    ).values()


def event_time_ms(second: Second) -> int:
    """When the exchange says that the second is closed."""
    return second.open_ms + SECOND_MS + second.open_ms // SECOND_MS % 7


def _price(value: int) -> str:
    return f"{value // 100}.{value % 100:02d}000000"


def _quantity(value: int) -> str:
    return f"{value // 100_000}.{value % 100_000:05d}000"


def _quote(value: int) -> str:
    return f"{value // 10_000_000}.{value % 10_000_000:07d}0"


@dataclass
class SymbolTruth:
    """One symbol: every second from BASE_MS on, those that the exchange lacks, and the single trades if asked for."""

    symbol: str
    seconds: list[Second]
    absent: set[int]
    trades: dict[int, list[Trade]]

    def index(self, open_ms: int) -> int:
        """Which second."""
        return (open_ms - BASE_MS) // SECOND_MS

    def at(self, open_ms: int) -> Second | None:
        """The second that opens then; None where the exchange itself has nothing."""
        if open_ms in self.absent or not 0 <= self.index(open_ms) < len(self.seconds):
            return None
        return self.seconds[self.index(open_ms)]

    def between(self, from_ms: int, to_ms: int) -> list[Second]:
        """The seconds that exist, end exclusive."""
        return [s for s in self.seconds[self.index(from_ms) : self.index(to_ms)] if s.open_ms not in self.absent]

    def frame(self, second: Second, *, is_closed: bool = True) -> bytes:
        """The kline as the exchange sends it on a combined connection."""
        s = second
        event_ms = event_time_ms(s) if is_closed else s.open_ms + 500
        high = s.high if is_closed else s.high + 3
        return (
            f'{{"stream":"{self.symbol.lower()}@kline_1s","data":{{"e":"kline","E":{event_ms},"s":"{self.symbol}",'
            f'"k":{{"t":{s.open_ms},"T":{s.open_ms + 999},"s":"{self.symbol}","i":"1s",'
            f'"f":{s.first_id},"L":{s.last_id},'
            f'"o":"{_price(s.open)}","c":"{_price(s.close)}","h":"{_price(high)}","l":"{_price(s.low)}",'
            f'"v":"{_quantity(s.base)}","n":{s.count},"x":{"true" if is_closed else "false"},"q":"{_quote(s.quote)}",'
            f'"V":"{_quantity(s.taker_base)}","Q":"{_quote(s.taker_quote)}","B":"0"}}}}}}'
        ).encode()

    def trade_frame(self, trade: Trade) -> bytes:
        """A trade as the exchange sends it."""
        return (
            f'{{"stream":"{self.symbol.lower()}@trade","data":{{"e":"trade","E":{trade.time_ms + 1},'
            f'"s":"{self.symbol}","t":{trade.trade_id},"p":"{_price(trade.price)}","q":"{_quantity(trade.quantity)}",'
            f'"T":{trade.time_ms},"m":{"false" if trade.taker_bought else "true"},"M":true}}}}'
        ).encode()

    def rest_row(self, second: Second) -> bytes:
        """The kline as a row of GET /api/v3/klines."""
        s = second
        return (
            f'[{s.open_ms},"{_price(s.open)}","{_price(s.high)}","{_price(s.low)}","{_price(s.close)}",'
            f'"{_quantity(s.base)}",{s.open_ms + 999},"{_quote(s.quote)}",{s.count},"{_quantity(s.taker_base)}",'
            f'"{_quote(s.taker_quote)}","0"]'
        ).encode()


def make_truth(
    symbol: str, length_s: int, rng: random.Random, *, with_trades: bool, absent_share: float, absent_until_s: int
) -> SymbolTruth:
    """The market of one symbol; calm and lively stretches follow each other."""
    price, trade_id = rng.randrange(9_000, 11_000), rng.randrange(1, 10_000)
    quiet_share, absent_left = 0.3, 0
    seconds: list[Second] = []
    absent: set[int] = set()
    trades: dict[int, list[Trade]] = {}
    draw = rng.random
    for index in range(length_s):
        open_ms = BASE_MS + index * SECOND_MS
        if not index % 20:
            quiet_share = (0.0, 0.3, 0.9, 1.0)[int(draw() * 4)]
            if absent_share and 0 < index < absent_until_s and draw() < absent_share:
                absent_left = 1 + int(draw() * 4)
        if absent_left:
            absent_left -= 1
            absent.add(open_ms)
            seconds.append(Second(open_ms, price, price, price, price, 0, 0, 0, 0, 0, -1, -1))
            continue
        count = 0 if draw() < quiet_share else 1 + int(draw() * 3)
        if not count:
            seconds.append(Second(open_ms, price, price, price, price, 0, 0, 0, 0, 0, -1, -1))
            continue
        base = quote = taker_base = taker_quote = high = opened = 0
        low = 10**9
        of_second = []
        for number in range(count):
            price = max(100, price + int(draw() * 41) - 20)
            quantity, taker_bought = 1 + int(draw() * 99_999), draw() < 0.5
            opened = opened or price
            high, low = max(high, price), min(low, price)
            base, quote = base + quantity, quote + quantity * price
            if taker_bought:
                taker_base, taker_quote = taker_base + quantity, taker_quote + quantity * price
            if with_trades:
                time_ms = open_ms + number * 900 // count
                of_second.append(Trade(trade_id + number, price, quantity, time_ms, taker_bought))
        last_id = trade_id + count - 1
        seconds.append(
            Second(open_ms, opened, high, low, price, base, quote, count, taker_base, taker_quote, trade_id, last_id)
        )
        if with_trades:
            trades[open_ms] = of_second
        trade_id = last_id + 1
    return SymbolTruth(symbol, seconds, absent, trades)
