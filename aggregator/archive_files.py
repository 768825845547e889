"""Lines out of a file of the exchange's public archive: .csv, .csv.gz or .zip."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from market.archive_rows import MAX_LINE_CHARS, BadArchive


class UnreadableFile(Exception):
    """The file cannot be opened as what its name says."""


@contextmanager
def archive_lines(path: Path) -> Iterator[Iterator[str]]:
    """The lines of the file, read as they are asked for. Raises UnreadableFile, also while reading."""
    try:
        with _opened(path) as binary:
            yield _lines(binary)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path.name}: {error or 'ends before its end'}") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.namelist() if entry.endswith(".csv")]
            if len(entries) != 1:
                raise UnreadableFile(f"{path.name}: {len(entries)} .csv files in it, one expected")
            with archive.open(entries[0]) as file:
                yield file
    elif path.name.endswith(".csv.gz"):
        with gzip.open(path) as file:
            yield file
    elif path.name.endswith(".csv"):
        with path.open("rb") as file:
            yield file
    else:
        raise UnreadableFile(f"{path.name}: .csv, .csv.gz or .zip expected")


def _lines(binary: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
    """Lines of a bounded length, so that a file without line ends is not read into memory."""
    text = io.TextIOWrapper(binary, "ascii", newline="\n")
    number = 0
    while line := text.readline(MAX_LINE_CHARS + 2):
        number += 1
        if len(line) > MAX_LINE_CHARS:
            raise BadArchive(number, f"longer than {MAX_LINE_CHARS} characters")
        yield line
