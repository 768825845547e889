"""A stand-in exchange that speaks Binance's WebSocket and REST: a seeded market, or recorded tapes."""
