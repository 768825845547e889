"""CSV lines into the bytes of a file. No decimal passes through a float: Arrow reads them from their text.

A file is `begin()`, `add(lines)` for each piece, `end()`. What `add` gives does not depend on the pieces before it, but
for Parquet: so CSV, CSV.gz and Arrow files can be continued after any piece.
"""

from __future__ import annotations

import gzip
from enum import StrEnum
from typing import Any, Final, Protocol

from webapp.export.tables import Column, Kind

#: Decimals are written so that files of all symbols and days have one schema: 20 digits before the point, 18 after.
DECIMAL_PRECISION: Final = 38
DECIMAL_SCALE: Final = 18
#: Little better at 6, at three times the time.
GZIP_LEVEL: Final = 1
ROW_GROUP_ROWS: Final = 100_000
_MAX_LINES_BYTES: Final = 1 << 26
#: A message of no length (Arrow's IPC streaming format).
_ARROW_END: Final = b"\xff\xff\xff\xff\0\0\0\0"


class Format(StrEnum):
    """Formats of an export, as they are asked for."""

    CSV = "csv"
    CSV_GZ = "csv.gz"
    PARQUET = "parquet"
    ARROW = "arrow"

    @property
    def content_type(self) -> str:
        """Media type of the file."""
        return _CONTENT_TYPES[self]


_CONTENT_TYPES: Final = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.CSV_GZ: "application/gzip",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


class Unrepresentable(Exception):
    """A number has more digits than the format holds; text formats hold any."""


def preload() -> None:
    """Load what takes memory and half a second, so that no export does: the growth of one is its pieces alone."""
    import pyarrow.csv
    import pyarrow.parquet

    pyarrow.csv.read_csv(pyarrow.BufferReader(b"a\n1\n"))
    pyarrow.parquet.ParquetWriter(_Tap(), pyarrow.schema([])).close()


class Encoder(Protocol):
    """CSV lines into the bytes of a file."""

    def begin(self) -> bytes:
        """What stands before the first piece."""
        ...

    def add(self, lines: bytes) -> bytes:
        """The next piece, lines of CSV. Raises Unrepresentable."""
        ...

    def end(self) -> bytes:
        """What stands after the last piece."""
        ...


def encoder_for(kind: Format, columns: tuple[Column, ...], *, header: bool = True) -> Encoder:
    """An encoder for a new file; `header`: CSV begins with the names of the columns."""
    match kind:
        case Format.CSV:
            return CsvEncoder(columns if header else ())
        case Format.CSV_GZ:
            return GzipEncoder(CsvEncoder(columns if header else ()))
        case Format.ARROW:
            return ArrowEncoder(columns)
        case Format.PARQUET:
            return ParquetEncoder(columns)


class CsvEncoder:
    """The lines as they are, after a line with the names."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._names = ",".join(column.name for column in columns)

    def begin(self) -> bytes:
        """The names of the columns."""
        return f"{self._names}\n".encode() if self._names else b""

    def add(self, lines: bytes) -> bytes:
        """The lines."""
        return lines

    def end(self) -> bytes:
        """Nothing."""
        return b""


class GzipEncoder:
    """Each piece is a gzip member of its own, without a time in it: the same rows give the same bytes."""

    def __init__(self, inner: CsvEncoder) -> None:
        self._inner = inner

    def begin(self) -> bytes:
        """The names of the columns; an empty member where there are none, which is a valid file."""
        return gzip.compress(self._inner.begin(), GZIP_LEVEL, mtime=0)

    def add(self, lines: bytes) -> bytes:
        """One member."""
        return gzip.compress(lines, GZIP_LEVEL, mtime=0)

    def end(self) -> bytes:
        """Nothing."""
        return b""


class _Tap:
    """A file that hands over what was written to it."""

    closed = False

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._position = 0

    def write(self, data: bytes) -> int:
        """Keep a copy."""
        self._written.append(bytes(data))
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes written since the beginning of the file."""
        return self._position

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        """What was written since the last time."""
        written, self._written = b"".join(self._written), []
        return written


class ArrowEncoder:
    """An Arrow IPC stream, one record batch a piece. Written message by message: the library's own writer would hold
    the schema back until the first batch, and a continued file has it already."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._parser = _Parser(columns)

    def begin(self) -> bytes:
        """The schema."""
        return bytes(self._parser.schema.serialize())

    def add(self, lines: bytes) -> bytes:
        """The record batches of the lines."""
        return b"".join([bytes(batch.serialize()) for batch in self._parser.batches(lines)])

    def end(self) -> bytes:
        """The end of the stream."""
        return _ARROW_END


class ParquetEncoder:
    """Parquet with zstd, ROW_GROUP_ROWS rows a group; a group is held until it is full."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        import pyarrow.parquet

        self._tap = _Tap()
        self._parser = _Parser(columns)
        self._writer: Any = pyarrow.parquet.ParquetWriter(self._tap, self._parser.schema, compression="zstd")

    def begin(self) -> bytes:
        """The magic bytes."""
        return self._tap.take()

    def add(self, lines: bytes) -> bytes:
        """Row groups that are full now."""
        for batch in self._parser.batches(lines):
            self._writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
        return self._tap.take()

    def end(self) -> bytes:
        """The last row group and the footer."""
        self._writer.close()
        return self._tap.take()


class _Parser:
    """CSV lines as record batches, in this thread."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        import pyarrow
        import pyarrow.csv

        kinds = {
            Kind.TEXT: pyarrow.string(),
            Kind.TIME: pyarrow.timestamp("us", "UTC"),
            Kind.DECIMAL: pyarrow.decimal128(DECIMAL_PRECISION, DECIMAL_SCALE),
            Kind.NUMBER: pyarrow.int64(),
            Kind.FLAG: pyarrow.bool_(),
        }
        self.schema: Any = pyarrow.schema([(column.name, kinds[column.kind]) for column in columns])
        self._pyarrow = pyarrow
        self._options: dict[str, Any] = {
            "read_options": pyarrow.csv.ReadOptions(
                column_names=self.schema.names, use_threads=False, block_size=_MAX_LINES_BYTES
            ),
            "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True),
            "convert_options": pyarrow.csv.ConvertOptions(
                column_types=self.schema, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        }

    def batches(self, lines: bytes) -> list[Any]:
        """Record batches of the schema. Raises Unrepresentable."""
        try:
            table = self._pyarrow.csv.read_csv(self._pyarrow.BufferReader(lines), **self._options)
        except self._pyarrow.ArrowInvalid as error:
            raise Unrepresentable(f"not in this format, take csv: {error}") from None
        batches: list[Any] = table.to_batches()
        return batches
