"""Kafka to browsers and clients over WebSocket: one frame encoded once, sent by one thread (docs/LIVE.md)."""
