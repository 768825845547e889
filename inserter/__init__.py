"""Kafka to PostgreSQL: rows, gap ledger and checkpoint in one transaction (docs/ARCHITECTURE.md)."""
