"""/api/v3: market data in the dialect of Binance Spot (binance.md 5 and 6)."""
