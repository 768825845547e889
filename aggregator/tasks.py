"""The tasks: one line each, idempotent, safe to deliver any number of times."""

from __future__ import annotations

from aggregator.celery_app import app
from aggregator.work import current


@app.task(name="aggregator.roll_up")
def roll_up() -> None:
    """Dirty minutes below the watermark become candles; changed candles are published."""
    current().roll_up()


@app.task(name="aggregator.history")
def history() -> None:
    """A slice of the history that new symbols still lack."""
    current().history()


@app.task(name="aggregator.repair")
def repair() -> None:
    """A slice of the gaps that can be filled, newest first."""
    current().repair()


@app.task(name="aggregator.refresh_symbols")
def refresh_symbols() -> None:
    """Status and steps of the symbols, from the exchange."""
    current().refresh_symbols()


@app.task(name="aggregator.top_up")
def top_up() -> None:
    """Minutes that began before their first second was received, from the exchange."""
    current().top_up()


@app.task(name="aggregator.retention")
def retention() -> None:
    """Drop what is older than it has to be."""
    current().retention()


@app.task(name="aggregator.audit")
def audit() -> None:
    """Closed minutes against the exchange's own."""
    current().audit()


@app.task(name="aggregator.completeness")
def completeness() -> None:
    """Hours whose rows or gaps changed are counted anew."""
    current().completeness()


@app.task(name="aggregator.operate")
def operate() -> None:
    """What operators have asked for."""
    current().operate()
