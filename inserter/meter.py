"""What the inserter tells the metrics endpoint (names of the operators' dashboards)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ROWS = Counter("inserter_rows", "Rows by table and outcome", ["table", "outcome"])
CHECKPOINT = Gauge("inserter_checkpoint_offset", "Next offset in the database", ["topic", "partition"])
OUT_OF_RANGE = Counter("inserter_offset_out_of_range", "Times the log started past the checkpoint")
OFFSET_JUMPS = Counter("inserter_offset_jumps", "Times offsets were skipped inside a partition")
MISSING_SECONDS = Counter("inserter_missing_seconds", "Seconds that became a gap", ["symbol"])
TRADE_CHAIN_BREAKS = Counter("inserter_trade_chain_breaks", "First trade id was not the last one + 1", ["symbol"])
DEAD_LETTERS = Counter("inserter_dead_letters", "Records and frames that can never work", ["topic"])
HEADROOM_S = Gauge(
    "inserter_retention_headroom_seconds", "Until the record at the checkpoint may be deleted", ["topic", "partition"]
)
EARLIEST = Gauge("kafka_partition_earliest_offset", "Log start", ["topic", "partition"])
LATEST = Gauge("kafka_partition_latest_offset", "Log end", ["topic", "partition"])
_GROUP = ["group", "topic", "partition"]
GROUP_LAG = Gauge("kafka_consumergroup_group_lag", "Records behind the log end", _GROUP)
GROUP_LAG_S = Gauge("kafka_consumergroup_group_lag_seconds", "Age of the newest committed record while behind", _GROUP)
BATCH_SECONDS = Histogram(
    "inserter_batch_seconds", "Time of one transaction", buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
)
