"""Answers of the server as Arrow tables, and those as frames. Arrow, pandas and polars are imported when needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any, Final, Literal

from candlewire.errors import BadArgument, MissingLibrary

Frame = Literal["pandas", "polars", "arrow"]
FRAMES: Final = ("pandas", "polars", "arrow")
Kind = Literal["time", "money", "whole", "flag", "text"]
#: Decimals of an answer without rows; with rows as many digits as they have.
_EMPTY_DIGITS: Final = (38, 18)
#: Decimals of the exchange's own amounts.
_MONEY_SCALE: Final = 8
#: How an Arrow IPC stream ends. Without it the answer was broken off.
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def library(name: str, needed_for: str) -> Any:
    """The module. Raises MissingLibrary, which says how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingLibrary(name, needed_for) from error


def arrow() -> Any:
    """pyarrow, in which everything arrives."""
    return library("pyarrow", "candlewire.client")


def table_of(kinds: Mapping[str, Kind], rows: Sequence[Sequence[Any]]) -> Any:
    """An Arrow table of JSON rows, whose values stand in the order of `kinds`: times are ms, money is text."""
    pa = arrow()
    columns = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return pa.table(
        {name: _array(pa, kind, values) for (name, kind), values in zip(kinds.items(), columns, strict=True)}
    )


def _array(pa: Any, kind: Kind, values: Sequence[Any]) -> Any:
    match kind:
        case "time":
            return pa.array(values, pa.timestamp("ms", "UTC"))
        case "money":
            exact = [Decimal(value) for value in values]
            return pa.array(exact) if exact else pa.array([], pa.decimal128(*_EMPTY_DIGITS))
        case "whole":
            return pa.array(values, pa.int64())
        case "flag":
            return pa.array(values, pa.bool_())
        case "text":
            return pa.array(values, pa.string())


class ArrowBody:
    """A file-like object over the chunks of an answer, for Arrow to read from; knows whether it came to its end."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left, self._tail = chunks, b"", b""

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer at the end; all with -1."""
        parts, missing = [self._left], size - len(self._left)
        while size < 0 or missing > 0:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            missing -= len(chunk)
        read = b"".join(parts)
        taken = read if size < 0 else read[:size]
        self._left = read[len(taken) :]
        self._tail = (self._tail + taken[-len(_END_OF_STREAM) :])[-len(_END_OF_STREAM) :]
        return taken

    @property
    def is_whole(self) -> bool:
        """Whether what was read ends like a whole Arrow stream."""
        return self._tail == _END_OF_STREAM


def of_kinds(table: Any, kinds: Mapping[str, Kind]) -> Any:
    """The columns of `kinds`, in their order and types; money may have come as text."""
    pa = arrow()
    columns = {}
    for name, kind in kinds.items():
        column = table.column(name)
        if kind == "money":
            is_decimal = pa.types.is_decimal(column.type)
            column = _narrowed(pa, column) if is_decimal else _array(pa, kind, column.to_pylist())
        elif kind == "time":
            column = column.cast(pa.timestamp("ms", "UTC"))
        elif kind in ("whole", "text"):
            column = column.cast(pa.int64() if kind == "whole" else pa.string())
        columns[name] = column
    return pa.table(columns)


def _narrowed(pa: Any, column: Any) -> Any:
    """Decimals of an export with as many digits as they have: products of two such columns fit, and short and long
    ranges are of one kind."""
    compute = import_module("pyarrow.compute")
    try:
        column = column.cast(pa.decimal128(_EMPTY_DIGITS[0], _MONEY_SCALE))
    except pa.ArrowInvalid:
        return column
    bounds = [bound for bound in compute.min_max(column).as_py().values() if bound is not None]
    whole = max((len(str(abs(int(bound)))) for bound in bounds), default=None)
    return column if whole is None else column.cast(pa.decimal128(whole + _MONEY_SCALE, _MONEY_SCALE))


def require_frame(frame: str) -> None:
    """Raises BadArgument for a frame that is none."""
    if frame not in FRAMES:
        raise BadArgument("frame", f"{frame!r} is not a frame", list(FRAMES))


def as_frame(table: Any, frame: Frame, *, exact: bool = True) -> Any:
    """The table as the frame asked for; without `exact` its decimals as the nearest floating point numbers."""
    if not exact:
        table = _with_floats(table)
    if frame == "arrow":
        return table
    if frame == "polars":
        return library("polars", 'frame="polars"').from_arrow(table)
    return _pandas_of(table)


def _with_floats(table: Any) -> Any:
    """By way of text: Arrow reads decimal text to the nearest double, its own conversion may miss the last bit."""
    pa = arrow()
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type):
            nearest = table.column(index).cast(pa.string()).cast(pa.float64())
            table = table.set_column(index, field.name, nearest)
    return table


def _pandas_of(table: Any) -> Any:
    """Decimals stay Arrow's, exact; whole numbers that may be missing stay whole."""
    pa, pd = arrow(), library("pandas", 'frame="pandas"')

    def kind(of: Any) -> Any:
        if pa.types.is_decimal(of):
            return pd.ArrowDtype(of)
        return pd.Int64Dtype() if pa.types.is_integer(of) else None

    return table.to_pandas(types_mapper=kind)
