"""Roll-up of what is below the watermark, history from the exchange, retention, audit (docs/ARCHITECTURE.md)."""
