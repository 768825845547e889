"""A published UDF datafeed client from npm, unmodified, run by Node against our server. Never part of the product."""
