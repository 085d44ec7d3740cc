"""Whole columns to and from PostgreSQL, by COPY in its binary format.

A row is a count of fields, and then of each field its length and its bytes, big-endian (PostgreSQL's documentation, SQL
command COPY). Rows of numbers look alike, so a batch of them is one numpy array.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

from trackgen_core.geodesy import IntArray

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

NUMBERS: Final = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8"}
"""Types of PostgreSQL with a fixed length; anything else that is written here is text or bytes."""

NO_INT: Final = -(2**63)
"""What stands for NULL among integers."""

WRITE_ROWS: Final = 50_000
"""Rows that are encoded at once."""

READ_BYTES: Final = 8_000_000
"""About so many bytes of rows are held at once, if they are long; a row is never cut."""


def copy_out(
    connection: psycopg.Connection[Any], query: str, dtypes: Mapping[str, Any], rows: int
) -> Iterator[pd.DataFrame]:
    """Run a query and yield its rows as frames of at most `rows` rows, or about `READ_BYTES`.

    Parameters
    ----------
    connection : psycopg.Connection
        A connection in a transaction; it is busy while frames are taken.
    query : str
        Without parameters, its columns in the order of `dtypes`: numbers, which may be NULL where the dtype is float64
        or Int64, and text of one length; the last one may be bytes.
    dtypes : mapping of str to dtype
        Names and dtypes of the frame's columns: int64, Int64, float64, str, and object for bytes.
    rows : int
        How many rows to hold at once.
    """
    names = ", ".join(dtypes)
    columns = ", ".join(_SELECTED.get(dtype, "{}").format(name) for name, dtype in dtypes.items())
    copy = f"COPY (SELECT {columns} FROM ({query}) AS q ({names})) TO STDOUT (FORMAT BINARY)"
    started = connection.pgconn.exec_(copy.encode())
    if started.status != ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(started)
    next_row = connection.pgconn.get_copy_data  # half of the time that psycopg's own iteration takes
    has_bytes = list(dtypes.values())[-1] == "object"
    buffer, ends, count = bytearray(), array("q"), 0
    broken = None
    try:
        length, row = next_row(0)
        length, row = length - len(HEADER), row[len(HEADER) :]
        while length >= 0:
            if length > len(TRAILER):
                buffer += row
                count += 1
                if has_bytes:
                    ends.append(len(buffer))
                if count == rows or len(buffer) >= READ_BYTES:
                    yield _decoded(buffer, ends, dtypes)
                    buffer, ends, count = bytearray(), array("q"), 0
            length, row = next_row(0)
    except psycopg.OperationalError as error:
        broken = error  # unless the server says more
    failed = [ended for ended in iter(connection.pgconn.get_result, None) if ended.status != ExecStatus.COMMAND_OK]
    if failed:
        raise psycopg.errors.error_from_result(failed[0]) from broken
    if broken:
        raise broken
    if count:
        yield _decoded(buffer, ends, dtypes)


def packed(dtypes: Mapping[str, str]) -> str:
    """Return the SQL of an aggregate that packs rows of numbers into bytes: `unpacked` tells them from each other.

    A row of its own costs more than all that is in it, on either side: of points by days, reading takes half as long.
    """
    kinds = "".join("f" if dtype == "float64" else "i" for dtype in dtypes.values())
    values = [f"coalesce({name}, 'NaN')" if dtype == "float64" else name for name, dtype in dtypes.items()]
    sent = (_SENT[found[0]].format(*values[slice(*found.span())]) for found in re.finditer("|".join(_SENT), kinds))
    return f"coalesce(string_agg({' || '.join(sent)}, ''::bytea), ''::bytea)"


def unpacked(groups: pd.DataFrame, dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows that groups hold in their last column, as `packed` makes it, with the other columns repeated.

    Parameters
    ----------
    groups : DataFrame
        As `copy_out` returns them.
    dtypes : mapping of str to dtype
        As they were given to `packed`: int64 or float64, with NaN for NULL.
    """
    *keys, last = groups.columns
    rows = np.dtype([(name, NUMBERS["int8" if dtype == "int64" else "float8"]) for name, dtype in dtypes.items()])
    held = np.frombuffer(b"".join(groups[last]), rows)
    counts = groups[last].str.len().to_numpy("int64") // rows.itemsize
    repeated = {name: np.repeat(groups[name].to_numpy(), counts) for name in keys}
    return pd.DataFrame(repeated | {name: _column(held[name], dtype).to_numpy() for name, dtype in dtypes.items()})


def break_off(connection: psycopg.Connection[Any]) -> None:
    """Make a connection usable again of which not all rows were taken."""
    if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
        connection.pgconn.get_cancel().cancel()
        while connection.pgconn.get_copy_data(0)[0] >= 0:
            pass
        while connection.pgconn.get_result():
            pass


def copy_in(connection: psycopg.Connection[Any], table: str, series: Mapping[str, pd.Series]) -> None:
    """Add rows to a table, given as equally long columns; missing values become NULL.

    Parameters
    ----------
    connection : psycopg.Connection
        A connection in a transaction.
    table : str
        Name of the table.
    series : mapping of str to Series
        Columns of numbers and of text, which is short, and at most one of bytes.

    Raises
    ------
    OverflowError
        If a number is too large for its column; then nothing was written.
    """
    with connection.cursor(binary=True) as cursor:
        described = cursor.execute(
            "SELECT attname, typname FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
            "WHERE attrelid = %s::regclass AND attnum > 0",
            [table],
        )
        types = dict(described.fetchall())
        ordered = sorted(series, key=lambda name: types[name] == "bytea")
        fields = {name: _field(name, series[name], types[name]) for name in ordered}
        with cursor.copy(f"COPY {table} ({', '.join(ordered)}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(HEADER)
            for start in range(0, len(series[ordered[0]]), WRITE_ROWS):
                rows = slice(start, start + WRITE_ROWS)
                copy.write(_encoded({name: _Field(*(part[rows] for part in fields[name])) for name in fields}))
            copy.write(TRAILER)


_SELECTED: Final = {
    "int64": "{}::int8",
    "Int64": f"coalesce({{}}, {NO_INT})::int8",
    "float64": "coalesce({}, 'NaN')::float8",
}
"""How columns are selected so that they look alike in all rows."""

_SENT: Final = {
    "ffff": "lseg_send(lseg(point({}, {}), point({}, {})))",
    "ff": "point_send(point({}, {}))",
    "f": "float8send({})",
    "i": "int8send({})",
}
"""How numbers are packed, f for a float and i for an integer: floats by fours, as the line between two points, since a
call costs more than what it does."""


def _decoded(buffer: bytearray, ends: array[int], dtypes: Mapping[str, Any]) -> pd.DataFrame:
    """Return a frame of rows; `ends` is where each of them ends, if the last column is bytes."""
    names, has_bytes = list(dtypes), bool(ends)
    layout = _layout(buffer, names[:-1] if has_bytes else names, dtypes)
    if has_bytes:
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        heads = np.frombuffer(buffer, "u1")[starts[:, None] + np.arange(layout.itemsize)].view(layout)[:, 0]
    elif len(buffer) % layout.itemsize:
        raise ValueError(f"columns {', '.join(names)}: NULL, or text of several lengths")
    else:
        heads = np.frombuffer(buffer, layout)
    series = {}
    for name in names[:-1] if has_bytes else names:
        length, values = heads[f"{name} length"], heads[name]
        if (length != values.itemsize).any():
            raise ValueError(f"column {name}: NULL, or text of several lengths")
        series[name] = _column(values, dtypes[name])
    if has_bytes:
        whole, skip = bytes(buffer), layout.itemsize + 4
        paths = [whole[start + skip : end] for start, end in zip(starts.tolist(), ends, strict=True)]
        series[names[-1]] = pd.Series(paths, dtype=object)
    return pd.DataFrame(series)


def _layout(buffer: bytearray, names: list[str], dtypes: Mapping[str, Any]) -> np.dtype[np.void]:
    """Return the layout of a row, as the first one shows it."""
    kinds = {}
    offset = 2
    for name in names:
        (length,) = struct.unpack_from(">i", buffer, offset)
        offset += 4 + length
        kinds[name] = {"int64": ">i8", "Int64": ">i8", "float64": ">f8"}.get(dtypes[name], f"S{length}")
    return _row(kinds)


def _row(kinds: Mapping[str, str]) -> np.dtype[np.void]:
    """Return the layout of rows of fields of a fixed length, given how numpy reads each."""
    fields = [field for name, kind in kinds.items() for field in ((f"{name} length", ">i4"), (name, kind))]
    return np.dtype([("fields", ">i2"), *fields])


def _column(values: npt.NDArray[Any], dtype: str) -> pd.Series:
    if dtype == "str":
        return pd.Series(values.astype("U"), dtype="str")
    native = values.astype(values.dtype.newbyteorder("="))
    if dtype == "Int64":
        return pd.Series(pd.arrays.IntegerArray(np.where(native == NO_INT, 0, native), native == NO_INT))
    return pd.Series(native)


class _Field(NamedTuple):
    """A column as it is written."""

    values: npt.NDArray[Any]
    """Numbers, or text in UTF-8 that is as long as the longest, or bytes as objects."""
    sizes: IntArray
    """How many bytes of each value count, -1 for NULL."""


def _field(name: str, column: pd.Series, kind: str) -> _Field:
    """Return a column as a type of PostgreSQL, the name of which is `kind`."""
    null = column.isna().to_numpy()
    if kind in NUMBERS:
        given = (column.fillna(0) if null.any() else column).to_numpy()
        values = given.astype(NUMBERS[kind])
        if values.dtype.kind == "i" and (values != given).any():
            raise OverflowError(f"{name}: {given[values != given][0]} does not fit into {kind}")
        return _Field(values, np.where(null, -1, values.itemsize))
    if kind == "bytea":
        values = np.where(null, b"", column.to_numpy(object))
        return _Field(values, np.where(null, -1, [*map(len, values.tolist())]))
    codes, texts = pd.factorize(column)
    encoded = [*(text.encode() for text in texts.tolist()), b""]  # of which the last one, -1, is missing
    sizes = np.array([*map(len, encoded[:-1]), -1])
    return _Field(np.array(encoded)[codes], sizes[codes])


def _encoded(fields: Mapping[str, _Field]) -> bytes:
    """Return rows; a column of bytes comes last."""
    fixed = {name: field for name, field in fields.items() if field.values.dtype != object}
    last, has_bytes = [*fields.values()][-1], len(fixed) < len(fields)
    kinds = {name: field.values.dtype.str for name, field in fixed.items()}
    layout = np.dtype([*_row(kinds).descr, ("bytes length", ">i4")]) if has_bytes else _row(kinds)
    heads = np.zeros(len(last.sizes), layout)
    heads["fields"] = len(fields)
    kept = np.ones((len(heads), heads.itemsize), bool)
    offset = 2
    for name, (values, sizes) in fixed.items():
        heads[f"{name} length"], heads[name] = sizes, values
        if (sizes != values.itemsize).any():
            kept[:, offset + 4 : offset + 4 + values.itemsize] = np.arange(values.itemsize) < sizes[:, None]
        offset += 4 + values.itemsize
    if has_bytes:
        heads["bytes length"] = last.sizes
    encoded = heads.tobytes() if kept.all() else heads.view("u1").reshape(kept.shape)[kept].tobytes()
    if not has_bytes:
        return encoded
    ends = np.cumsum(np.count_nonzero(kept, axis=1)).tolist()
    parts = [b""] * (2 * len(heads))
    parts[::2] = [encoded[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    parts[1::2] = last.values.tolist()
    return b"".join(parts)
