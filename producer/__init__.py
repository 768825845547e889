"""The producer: the exchange's WebSocket to Kafka."""
