"""The tables as Django sees them: unmanaged, the migrations' SQL is the truth. Comments stand in the database."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    _DecimalField = models.Field[Decimal, Decimal]
else:
    _DecimalField = models.Field


class Numeric(_DecimalField):
    """PostgreSQL's numeric without a bound: exact, as many digits as the exchange sends."""

    def db_type(self, connection: object) -> str:
        """Plain `numeric`; the driver gives it as Decimal."""
        return "numeric"


class KlineValues(models.Model):
    """The columns that 1 s rows and candles share."""

    symbol = models.TextField()
    open_time = models.DateTimeField()
    close_time = models.DateTimeField()
    open = Numeric()
    high = Numeric()
    low = Numeric()
    close = Numeric()
    base_volume = Numeric()
    quote_volume = Numeric()
    trade_count = models.BigIntegerField()
    taker_buy_base_volume = Numeric()
    taker_buy_quote_volume = Numeric()
    first_trade_id = models.BigIntegerField(null=True)
    last_trade_id = models.BigIntegerField(null=True)
    event_time = models.DateTimeField()
    source = models.TextField()

    class Meta:
        abstract = True


class Kline1s(KlineValues):
    """Closed 1 s klines."""

    pk = models.CompositePrimaryKey("symbol", "open_time")
    received_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "kline_1s"


class AggregatedKline(KlineValues):
    """Candles of 1m to 1d."""

    pk = models.CompositePrimaryKey("symbol", "interval", "open_time")
    interval = models.TextField()
    row_count = models.IntegerField()
    expected_count = models.IntegerField()
    covered_until = models.DateTimeField()
    is_complete = models.BooleanField()
    is_closed = models.BooleanField()
    revision = models.IntegerField()
    rest_count = models.IntegerField()
    trades_count = models.IntegerField()
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "aggregated_kline"


class KlineCheckpoint(models.Model):
    """How far each partition has been read."""

    pk = models.CompositePrimaryKey("topic", "partition")
    topic = models.TextField()
    topic_id = models.UUIDField()
    partition = models.IntegerField()
    next_offset = models.BigIntegerField()
    epoch = models.BigIntegerField()
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "kline_checkpoint"


class SymbolWatermark(models.Model):
    """How far each symbol has come in event time."""

    pk = models.CompositePrimaryKey("symbol", "stream")
    symbol = models.TextField()
    stream = models.TextField()
    event_time = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "symbol_watermark"


class KlineGap(models.Model):
    """The gap ledger."""

    id = models.BigAutoField(primary_key=True)
    symbol = models.TextField()
    interval = models.TextField(default="1s")
    from_time = models.DateTimeField()
    to_time = models.DateTimeField()
    cause = models.TextField()
    state = models.TextField(default="open")
    detected_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.TextField(null=True)
    detector = models.TextField()
    attempts = models.IntegerField()
    next_attempt_at = models.DateTimeField(null=True)
    last_error = models.TextField(null=True)

    class Meta:
        managed = False
        db_table = "kline_gap"


class DeadLetter(models.Model):
    """What can never work, with the raw bytes."""

    id = models.BigAutoField(primary_key=True)
    topic = models.TextField()
    partition = models.IntegerField()
    record_offset = models.BigIntegerField(null=True)
    reason = models.TextField()
    payload = models.BinaryField()
    received_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "dead_letter"


class FeedOutage(models.Model):
    """What the producer reported of its own feed."""

    pk = models.CompositePrimaryKey("symbol", "stream", "from_time")
    symbol = models.TextField()
    stream = models.TextField()
    from_time = models.DateTimeField()
    to_time = models.DateTimeField(null=True)
    cause = models.TextField()
    detail = models.TextField()

    class Meta:
        managed = False
        db_table = "feed_outage"


class MarketSymbol(models.Model):
    """Symbols of the exchange."""

    symbol = models.TextField(primary_key=True)
    base_asset = models.TextField()
    quote_asset = models.TextField()
    status = models.TextField()
    tick_size = Numeric()
    step_size = Numeric()
    rank = models.IntegerField()
    is_followed = models.BooleanField()
    history_loaded_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "market_symbol"


class SymbolTicker(models.Model):
    """Newest rolling 24 h figures."""

    symbol = models.TextField(primary_key=True)
    open = Numeric()
    high = Numeric()
    low = Numeric()
    close = Numeric()
    base_volume = Numeric()
    quote_volume = Numeric()
    event_time = models.DateTimeField()
    received_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "symbol_ticker"
