"""Aggregate trades of the exchange's REST (binance.md 3.3): fills of one taker order at one price and time."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise

import msgspec

from market.errors import BadFrame
from market.trade import Trade


class AggregateTrade(msgspec.Struct, frozen=True):
    """One row of GET aggTrades; it stands for the trades `first_id` to `last_id`, both inclusive."""

    aggregate_id: int = msgspec.field(name="a")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    first_id: int = msgspec.field(name="f")
    last_id: int = msgspec.field(name="l")
    trade_time_ms: int = msgspec.field(name="T")
    is_buyer_maker: bool = msgspec.field(name="m")


_rows = msgspec.json.Decoder(list[AggregateTrade])


def decode_aggregate_trades(body: bytes, symbol: str) -> list[AggregateTrade]:
    """Rows of an answer, oldest first.

    Raises BadFrame for a wrong shape, values that are no numbers, ids that do not follow each other.
    """
    try:
        rows = _rows.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFrame(f"bad aggTrades answer for {symbol}: {error}") from error
    for row in rows:
        if not (row.price.is_finite() and row.quantity.is_finite() and row.price > 0 and row.quantity >= 0):
            raise BadFrame(f"aggregate trade {row.aggregate_id} of {symbol}: price or quantity is not a number")
        if row.last_id < row.first_id:
            raise BadFrame(f"aggregate trade {row.aggregate_id} of {symbol}: ids {row.first_id} to {row.last_id}")
    require_unbroken(rows, symbol)
    return rows


def require_unbroken(rows: Iterable[AggregateTrade], symbol: str) -> None:
    """Raise BadFrame where a trade is missing between two rows."""
    for before, after in pairwise(rows):
        if after.first_id != before.last_id + 1:
            raise BadFrame(f"aggregate trades of {symbol}: {after.first_id} follows {before.last_id}")


def single_trades(rows: Iterable[AggregateTrade], symbol: str) -> list[Trade]:
    """As many trades as each row stands for. All have its price and time; the first carries the whole quantity (how
    it was shared out is not known), so that counts, ids, prices and sums of a kline come out right."""
    return [
        Trade(
            symbol=symbol,
            trade_id=trade_id,
            price=row.price,
            quantity=row.quantity if trade_id == row.first_id else Decimal(0),
            trade_time_ms=row.trade_time_ms,
            is_buyer_maker=row.is_buyer_maker,
            event_time_ms=row.trade_time_ms,
        )
        for row in rows
        for trade_id in range(row.first_id, row.last_id + 1)
    ]
