"""What Django keeps in mind of the unmanaged models; changes nothing in the database."""

from django.db import migrations, models

import webapp.models


class Migration(migrations.Migration):
    """State only."""

    initial = True

    dependencies = [
        ("webapp", "0001_tables"),
    ]

    operations = [
        migrations.CreateModel(
            name="AggregatedKline",
            fields=[
                ("symbol", models.TextField()),
                ("open_time", models.DateTimeField()),
                ("close_time", models.DateTimeField()),
                ("open", webapp.models.Numeric()),
                ("high", webapp.models.Numeric()),
                ("low", webapp.models.Numeric()),
                ("close", webapp.models.Numeric()),
                ("base_volume", webapp.models.Numeric()),
                ("quote_volume", webapp.models.Numeric()),
                ("trade_count", models.BigIntegerField()),
                ("taker_buy_base_volume", webapp.models.Numeric()),
                ("taker_buy_quote_volume", webapp.models.Numeric()),
                ("first_trade_id", models.BigIntegerField(null=True)),
                ("last_trade_id", models.BigIntegerField(null=True)),
                ("event_time", models.DateTimeField()),
                ("source", models.TextField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "symbol", "interval", "open_time", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("interval", models.TextField()),
                ("row_count", models.IntegerField()),
                ("expected_count", models.IntegerField()),
                ("covered_until", models.DateTimeField()),
                ("is_complete", models.BooleanField()),
                ("is_closed", models.BooleanField()),
                ("revision", models.IntegerField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "aggregated_kline",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("topic", models.TextField()),
                ("partition", models.IntegerField()),
                ("record_offset", models.BigIntegerField(null=True)),
                ("reason", models.TextField()),
                ("payload", models.BinaryField()),
                ("received_at", models.DateTimeField()),
            ],
            options={
                "db_table": "dead_letter",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="FeedOutage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "symbol", "stream", "from_time", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("symbol", models.TextField()),
                ("stream", models.TextField()),
                ("from_time", models.DateTimeField()),
                ("to_time", models.DateTimeField(null=True)),
                ("cause", models.TextField()),
                ("detail", models.TextField()),
            ],
            options={
                "db_table": "feed_outage",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Kline1s",
            fields=[
                ("symbol", models.TextField()),
                ("open_time", models.DateTimeField()),
                ("close_time", models.DateTimeField()),
                ("open", webapp.models.Numeric()),
                ("high", webapp.models.Numeric()),
                ("low", webapp.models.Numeric()),
                ("close", webapp.models.Numeric()),
                ("base_volume", webapp.models.Numeric()),
                ("quote_volume", webapp.models.Numeric()),
                ("trade_count", models.BigIntegerField()),
                ("taker_buy_base_volume", webapp.models.Numeric()),
                ("taker_buy_quote_volume", webapp.models.Numeric()),
                ("first_trade_id", models.BigIntegerField(null=True)),
                ("last_trade_id", models.BigIntegerField(null=True)),
                ("event_time", models.DateTimeField()),
                ("source", models.TextField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "symbol", "open_time", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("received_at", models.DateTimeField()),
            ],
            options={
                "db_table": "kline_1s",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="KlineCheckpoint",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "topic", "partition", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("topic", models.TextField()),
                ("topic_id", models.UUIDField()),
                ("partition", models.IntegerField()),
                ("next_offset", models.BigIntegerField()),
                ("epoch", models.BigIntegerField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "kline_checkpoint",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="KlineGap",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("symbol", models.TextField()),
                ("interval", models.TextField(default="1s")),
                ("from_time", models.DateTimeField()),
                ("to_time", models.DateTimeField()),
                ("cause", models.TextField()),
                ("state", models.TextField(default="open")),
                ("detected_at", models.DateTimeField()),
                ("resolved_at", models.DateTimeField(null=True)),
                ("resolved_by", models.TextField(null=True)),
            ],
            options={
                "db_table": "kline_gap",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="MarketSymbol",
            fields=[
                ("symbol", models.TextField(primary_key=True, serialize=False)),
                ("base_asset", models.TextField()),
                ("quote_asset", models.TextField()),
                ("status", models.TextField()),
                ("tick_size", webapp.models.Numeric()),
                ("step_size", webapp.models.Numeric()),
                ("rank", models.IntegerField()),
                ("is_followed", models.BooleanField()),
                ("history_loaded_at", models.DateTimeField(null=True)),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "market_symbol",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="SymbolTicker",
            fields=[
                ("symbol", models.TextField(primary_key=True, serialize=False)),
                ("open", webapp.models.Numeric()),
                ("high", webapp.models.Numeric()),
                ("low", webapp.models.Numeric()),
                ("close", webapp.models.Numeric()),
                ("base_volume", webapp.models.Numeric()),
                ("quote_volume", webapp.models.Numeric()),
                ("event_time", models.DateTimeField()),
                ("received_at", models.DateTimeField()),
            ],
            options={
                "db_table": "symbol_ticker",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="SymbolWatermark",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "symbol", "stream", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("symbol", models.TextField()),
                ("stream", models.TextField()),
                ("event_time", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "db_table": "symbol_watermark",
                "managed": False,
            },
        ),
    ]
