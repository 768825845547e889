"""Exports into files that were interrupted and go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from market.interval import HOUR_MS, Interval
from runtime.database import connect
from tests.webapp_process import END_MS, insert_klines, make_klines
from webapp.export import pieces
from webapp.export.encoders import Format
from webapp.export.files import write_file
from webapp.export.manifest import Progress, described
from webapp.export.pieces import Snapshot
from webapp.export.tables import ExportQuery, Table

Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(module_database: str, tmp_path: Path) -> Write:
    """Write the file `name` of the query, stopped by Ctrl-C behind the piece that brings it to `stop_after` rows."""

    def write(query: ExportQuery, kind: Format, name: str, *, stop_after: int = 10**9) -> dict[str, Any]:
        def report(progress: Progress) -> None:
            if progress.rows >= stop_after:
                raise KeyboardInterrupt

        about = described(query, kind, "table")
        with connect(module_database, "test") as connection:
            return write_file(Snapshot(connection, query), tmp_path / name, about, resume=True, report=report)

    return write


@pytest.fixture(scope="module")
def minutes(module_database: str) -> ExportQuery:
    with psycopg.connect(module_database) as connection:
        insert_klines(connection, make_klines("BTCUSDT", Interval.M1, END_MS, 400))
    return ExportQuery(table=Table.KLINES, symbol="BTCUSDT", interval="1m")


@pytest.mark.parametrize("kind", [*Format])
def test_it_is_continued_to_the_same_bytes(
    minutes: ExportQuery, write: Write, tmp_path: Path, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.export.tables.PIECE_ROWS", 100)
    monkeypatch.setattr(pieces, "PIECE_ROWS", 100)
    whole = write(minutes, kind, "whole")
    with pytest.raises(KeyboardInterrupt):
        write(minutes, kind, "part", stop_after=200)
    with (tmp_path / "part.partial").open("ab") as file:
        file.write(b"half a piece that was being written")
    assert not (tmp_path / "part").exists()
    assert write(minutes, kind, "part") == whole
    assert (tmp_path / "part").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_bar_that_formed_then_is_read_again(
    module_database: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.export.tables.PIECE_ROWS", 2)
    monkeypatch.setattr(pieces, "PIECE_ROWS", 2)
    query = ExportQuery(table=Table.KLINES, symbol="GROWUSDT", interval="1h")
    bars = make_klines("GROWUSDT", Interval.H1, END_MS + HOUR_MS, 5)
    with psycopg.connect(module_database, autocommit=True) as connection:
        insert_klines(connection, bars[:4], forming=True)
        with pytest.raises(KeyboardInterrupt):
            write(query, Format.CSV, "part", stop_after=4)
        connection.execute(
            "update aggregated_kline set is_closed = true, close = 123 where symbol = 'GROWUSDT' and not is_closed"
        )
        insert_klines(connection, bars[4:], forming=True)
    assert write(query, Format.CSV, "part") == write(query, Format.CSV, "whole")
    assert (tmp_path / "part").read_bytes() == (tmp_path / "whole").read_bytes()
