"""An export into a file, which can be interrupted at any moment and continued.

FILE.partial grows by whole pieces; FILE.partial.json says after each (but one that ends with a forming bar) how many of
its bytes count, and after which row to go on. What lies beyond is cut off before going on. Parquet cannot be continued,
so its partial file is an Arrow stream that becomes Parquet at the end. FILE itself appears when it is whole, its
manifest after it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from webapp.export.encoders import ROW_GROUP_ROWS, Format, encoder_for
from webapp.export.manifest import Progress, manifest
from webapp.export.pieces import Snapshot


class Refused(Exception):
    """The file cannot be written as asked; the text says why."""


class _State(msgspec.Struct, kw_only=True):
    """FILE.partial.json."""

    query: dict[str, Any]
    bytes: int
    progress: Progress


def write_file(
    snapshot: Snapshot, output: Path, query: dict[str, Any], *, resume: bool, report: Callable[[Progress], object]
) -> dict[str, Any]:
    """Write FILE and FILE.manifest.json; the manifest. `query` as manifest.described gives it; `report` is told the
    progress after each piece. Raises Refused, Unrepresentable, OSError and what the driver raises."""
    kind = Format(query["format"])
    partial = output.with_name(f"{output.name}.partial")
    state_path = output.with_name(f"{output.name}.partial.json")
    state = _State(query=query, bytes=0, progress=Progress())
    if resume:
        state = _continued(state_path, partial, query) or state
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        _lock(file, partial)
        file.truncate(state.bytes)
        file.seek(state.bytes)
        _write_pieces(snapshot, file, state, state_path, report)
        file.flush()
        whole = _as_parquet(partial) if kind is Format.PARQUET else partial
        with whole.open("rb") as written:
            os.fsync(written.fileno())
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        whole.replace(output)
        found = manifest(state.progress, sha256, snapshot.expected_bars(), query)
        put(output.with_name(f"{output.name}.manifest.json"), found)
        state_path.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return found


def _write_pieces(
    snapshot: Snapshot, file: BinaryIO, state: _State, state_path: Path, report: Callable[[Progress], object]
) -> None:
    kind = Format(state.query["format"])
    encoder = encoder_for(Format.ARROW if kind is Format.PARQUET else kind, snapshot.columns)
    begin = encoder.begin()
    if state.bytes == 0:
        file.write(begin)
    for piece in snapshot.pieces(state.progress.after):
        file.write(encoder.add(piece.lines))
        file.flush()
        state.bytes = file.tell()
        state.progress.rows += piece.rows
        state.progress.complete_rows += piece.complete_rows
        state.progress.after = piece.after
        # A bar that still forms is read again by who goes on: it would stay as it was, with newer ones behind it.
        if piece.is_over:
            put(state_path, state)
        report(state.progress)
    file.write(encoder.end())


def _continued(state_path: Path, partial: Path, query: dict[str, Any]) -> _State | None:
    """The state to go on from; None where there is nothing to continue. Raises Refused for another query's."""
    try:
        state = msgspec.json.decode(state_path.read_bytes(), type=_State)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise Refused(f"{state_path.name} cannot be read ({error}); start anew without --resume") from None
    if state.query != query:
        raise Refused(f"{partial.name} is of another export; start anew without --resume")
    if not partial.exists() or partial.stat().st_size < state.bytes:
        raise Refused(f"{partial.name} is shorter than {state_path.name} says; start anew without --resume")
    return state


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Refused(f"another export is writing {path.name}") from None


def _as_parquet(partial: Path) -> Path:
    """The Arrow stream in the partial file as Parquet beside it, a row group at a time."""
    import pyarrow.parquet

    made = partial.with_name(f"{partial.name}.parquet")
    with (
        pyarrow.OSFile(str(partial), "rb") as source,
        pyarrow.ipc.open_stream(source) as reader,
        pyarrow.parquet.ParquetWriter(made, reader.schema, compression="zstd") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
    return made


def put(path: Path, value: object) -> None:
    """Write a small JSON file so that it is there whole or not at all."""
    written = path.with_name(f"{path.name}.new")
    written.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
    written.replace(path)
