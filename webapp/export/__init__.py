"""Bulk export: rows of the database as CSV, Parquet or Arrow, in pieces of a bounded size."""
