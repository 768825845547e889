"""The facts of the market and pure calculation: no I/O, no clock (docs/ARCHITECTURE.md)."""
