"""The pages: market list, chart, about, errors."""
