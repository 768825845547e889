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
HOPS = Histogram(
    "line_hop_seconds",
    "Time of a row from one moment to the next, of one row in each batch",
    ["hop"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


def observe_hops(event_ms: int, received_ms: int, appended_ms: int, committed_ms: int) -> None:
    """The ways of one row: from the exchange's event to us, into Kafka, into the database.

    The clocks are three machines': a time that seems to go back counts as 0.
    """
    moments = (event_ms, received_ms, appended_ms, committed_ms)
    hops = ("exchange_to_received", "received_to_kafka", "kafka_to_committed")
    for hop, from_ms, to_ms in zip(hops, moments, moments[1:], strict=False):
        HOPS.labels(hop).observe(max(0, to_ms - from_ms) / 1000)
