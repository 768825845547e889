"""Our records on Kafka: JSON objects with our own field names, Decimals as strings, one type per topic."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from market.alert import OperatorAlert
from market.depth import BookTicker, DepthUpdate, MiniTicker, PartialDepth
from market.errors import BadRecord
from market.feed import BadFrameRecord, FeedOutage
from market.kline import Candle, Kline
from market.trade import Trade

Record = (
    Kline
    | Candle
    | Trade
    | DepthUpdate
    | PartialDepth
    | BookTicker
    | MiniTicker
    | FeedOutage
    | BadFrameRecord
    | OperatorAlert
)

_encoder: Final = msgspec.json.Encoder(decimal_format="string")
_T = TypeVar("_T", bound=Record)


def encode_record(record: Record) -> bytes:
    """The record as the bytes of a Kafka value (UTF-8 JSON)."""
    return _encoder.encode(record)


class RecordDecoder(Generic[_T]):
    """Decodes values of one topic. Raises BadRecord, which names what is wrong."""

    def __init__(self, record_type: type[_T]) -> None:
        self._decoder = msgspec.json.Decoder(record_type)

    def decode(self, value: bytes | None) -> _T:
        """One record from a Kafka value; None (a tombstone) is bad too."""
        if value is None:
            raise BadRecord("empty record: no topic of ours has tombstones")
        try:
            return self._decoder.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRecord(str(error)) from error
