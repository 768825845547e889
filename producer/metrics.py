"""The producer's figures for Prometheus, read when asked for: the feed counts plain integers, no frame pays a lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from producer.buffer import Buffer
from producer.feed import Feed
from producer.publish import Pump
from producer.slots import Exchange

ACK_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, eq=False)
class ProducerMetrics(Collector):
    """Collects from the parts of one producer."""

    feed: Feed
    buffer: Buffer
    pump: Pump
    exchange: Exchange

    def register(self) -> None:
        """Make the figures visible under /metrics, and measure acknowledgements."""
        REGISTRY.register(self)
        histogram = Histogram(
            "produce_ack_seconds", "hand-over of a batch to its acknowledgement", buckets=ACK_BUCKETS_S
        )
        self.pump.observe_ack = histogram.observe

    def collect(self) -> Iterable[Metric]:
        """All figures as they are now. Copies first: the health server asks from a thread of its own."""
        feed, buffer = self.feed, self.buffer
        yield _counter("ingest_messages", "market events received", "stream", feed.messages)
        yield _counter("ingest_duplicates", "events that had been delivered before", "stream", feed.duplicates)
        yield _counter("ingest_reconnects", "new connections, by why", "reason", self.exchange.reconnects)
        yield CounterMetricFamily("ingest_bad_frames", "frames that cannot be used", value=feed.bad_frames)
        outages = CounterMetricFamily(
            "ingest_outages", "outages of one stream of one symbol", labels=["stream", "cause"]
        )
        for (stream, cause), count in dict(feed.outages).items():
            outages.add_metric([stream, cause], count)
        yield outages
        newest = GaugeMetricFamily("ingest_last_message_timestamp_seconds", "newest receive time", labels=["stream"])
        for stream, received_at_ms in dict(feed.newest_received_ms).items():
            newest.add_metric([stream], received_at_ms / 1000)
        yield newest
        yield GaugeMetricFamily("ingest_open_outages", "streams that do not deliver", value=len(feed.open_outages()))
        yield GaugeMetricFamily("produce_buffer_bytes", "bytes not acknowledged by the broker", value=buffer.size_bytes)
        yield GaugeMetricFamily("produce_buffer_records", "records not acknowledged", value=buffer.waiting_records())
        yield _counter("produce_records", "records acknowledged", "topic", self.pump.produced)
        yield _counter("produce_dropped_records", "records dropped for want of room", "topic", buffer.dropped)
        errors = CounterMetricFamily("produce_errors", "batches that failed", labels=["topic", "error"])
        for (topic, error), count in dict(self.pump.errors).items():
            errors.add_metric([topic, error], count)
        yield errors


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in dict(values).items():
        family.add_metric([value], count)
    return family
