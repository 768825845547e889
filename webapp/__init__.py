"""Django: pages, the HTTP API in all its dialects, and the database schema (migrations own every table)."""
