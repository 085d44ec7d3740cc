"""Connections: the one place that knows which database this is."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Executable, Table, create_engine, delete, event, insert, inspect, make_url, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from trackgen_core.schema import MIGRATIONS, SCHEMA_VERSION, VIEWS, metadata, schema_version

BUSY_TIMEOUT_MS: Final = 120_000
"""How long a writer waits for the others; a bulk window writes for a second or two."""

FETCH_ROWS: Final = 50_000

TEMP_TABLES: Final = (
    # The file being imported, one row a point, under a number for its (user, device).
    "CREATE TEMPORARY TABLE incoming (owner INTEGER, time_ms BIGINT, lon DOUBLE PRECISION, lat DOUBLE PRECISION, "
    "altitude DOUBLE PRECISION, accuracy DOUBLE PRECISION, speed DOUBLE PRECISION, "
    "PRIMARY KEY (owner, time_ms, lon, lat)) WITHOUT ROWID",
    "CREATE TEMPORARY TABLE owners (owner INTEGER PRIMARY KEY, device_id INTEGER)",
    # What of it is not in `points` yet, or says more than what is.
    "CREATE TEMPORARY TABLE fresh (device_id INTEGER, time_ms BIGINT, lon DOUBLE PRECISION, lat DOUBLE PRECISION, "
    "altitude DOUBLE PRECISION, accuracy DOUBLE PRECISION, speed DOUBLE PRECISION, is_new INTEGER)",
    # Spans of time of some devices that a query is about.
    "CREATE TEMPORARY TABLE spans (device_id INTEGER, lo_ms BIGINT, hi_ms BIGINT)",
    # Segments that a query is about.
    "CREATE TEMPORARY TABLE picked (device_id INTEGER, day INTEGER, number INTEGER)",
)


sqlite3.register_adapter(np.int64, int)  # by default they would be stored as blobs, without a word


class DatabaseError(RuntimeError):
    """The database cannot be used: where it is, why, and what to do."""


class Database:
    """A database of points and tracks, made on first use; one of an older schema is brought up to date.

    Parameters
    ----------
    url : str
        SQLAlchemy URL. SQLite is supported.

    Raises
    ------
    DatabaseError
        If the URL is of another dialect, the file cannot be opened, or a newer Trackgen made it.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise DatabaseError(f"{url!r} is no database URL: write it as sqlite:////var/lib/trackgen.db") from None
        if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
            raise DatabaseError(
                f"{parsed.render_as_string()}: only SQLite files are supported, as in sqlite:////var/lib/trackgen.db"
            )
        self.url = url
        self.path = Path(parsed.database)
        self.engine = create_engine(parsed)
        event.listen(self.engine, "connect", _prepare_connection)
        event.listen(self.engine, "begin", _begin)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._create_schema()
        except (OSError, DBAPIError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise DatabaseError(f"{self.path}: cannot be used as Trackgen's database: {reason}") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the data, whatever is written meanwhile."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; writers take turns from its first statement on."""
        with self.engine.connect().execution_options(trackgen_writes=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _create_schema(self) -> None:
        with self.read() as connection:
            if _version(connection) == SCHEMA_VERSION:
                return
        with self.write() as connection:
            version = _version(connection)
            if version is not None and not 0 < version <= SCHEMA_VERSION:
                raise DatabaseError(
                    f"{self.path}: made by another version of Trackgen (schema {version}, this one has "
                    f"{SCHEMA_VERSION}): use the version that made it, or another file"
                )
            for name in VIEWS:  # before the tables that they show
                connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
            for older in range(version or SCHEMA_VERSION, SCHEMA_VERSION):
                for statement in MIGRATIONS[older]:
                    connection.exec_driver_sql(statement)
            metadata.create_all(connection)
            for name, query in VIEWS.items():
                connection.exec_driver_sql(f"CREATE VIEW {name} AS {_spell_times(query)}")
            connection.execute(delete(schema_version))
            connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))


def insert_ignore(table: Table) -> Any:  # noqa: ANN401 - the dialects' inserts share no public base
    """Return an insert that leaves rows alone that are there already."""
    return sqlite.insert(table).on_conflict_do_nothing()


def bulk_insert(
    connection: Connection, table: str, columns: Mapping[str, Any] | pd.DataFrame, suffix: str = ""
) -> None:
    """Insert whole columns.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    table : str
        Name of the table.
    columns : mapping of str to array, or DataFrame
        Equally long columns; NaN and missing values become NULL.
    suffix : str
        What follows the values, as an `ON CONFLICT` clause.
    """
    values = [_python_values(column) for _, column in columns.items()]
    if not values or not len(values[0]):
        return
    marks = ", ".join("?" * len(values))
    statement = f"INSERT INTO {table} ({', '.join(map(str, columns))}) VALUES ({marks}) {suffix}"
    rows: Any = zip(*values, strict=True)  # as an iterator, so that rows do not pile up
    connection.connection.cursor().executemany(statement, rows)


def fetch_frames(
    connection: Connection, statement: Executable, dtypes: Mapping[str, Any], rows: int = FETCH_ROWS
) -> Iterator[pd.DataFrame]:
    """Run a query and yield its rows as frames of at most `rows` rows.

    Parameters
    ----------
    connection : Connection
        A transaction.
    statement : Executable
        A query whose columns are in the order of `dtypes`.
    dtypes : mapping of str to dtype
        Names and dtypes of the frame's columns.
    rows : int
        How many rows to hold at once.
    """
    cursor = connection.execute(statement).cursor
    assert cursor is not None
    fetched = iter(cursor.fetchone, None)
    while len(frame := _frame(islice(fetched, rows), dtypes)):
        yield frame


def fetch_frame(connection: Connection, statement: Executable, dtypes: Mapping[str, Any]) -> pd.DataFrame:
    """Run a query and return all its rows as one frame."""
    frames = list(fetch_frames(connection, statement, dtypes))
    return pd.concat(frames, ignore_index=True) if frames else _frame([], dtypes)


def _frame(rows: Iterable[tuple[Any, ...]], dtypes: Mapping[str, Any]) -> pd.DataFrame:
    plain = [(name, dtype if dtype in ("int64", "float64") else "object") for name, dtype in dtypes.items()]
    # Taken one by one, rows do not pile up as objects that the garbage collector walks over again and again.
    records = np.fromiter(rows, np.dtype(plain))  # None becomes NaN
    return pd.DataFrame({name: pd.Series(records[name], dtype=dtype, copy=True) for name, dtype in dtypes.items()})


def _python_values(column: Any) -> list[Any]:  # noqa: ANN401 - whatever pandas takes as a column
    series = pd.Series(column)
    if series.dtype.kind == "f" or isinstance(series.dtype, pd.Int64Dtype):
        return series.astype(object).where(series.notna(), None).tolist()
    return series.tolist()


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table("schema_version"):
        return None
    return connection.execute(select(schema_version.c.version)).scalar()


def _prepare_connection(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin` alone
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    for table in TEMP_TABLES:
        connection.execute(table)


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes would fail if another one wrote in between, so writers say so at once.
    writes = connection.get_execution_options().get("trackgen_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _spell_times(query: str) -> str:
    iso = r"strftime('%Y-%m-%dT%H:%M:%S', \1 / 1000, 'unixepoch') || printf('.%03dZ', \1 % 1000)"
    return re.sub(r"\{time_ms:([\w.]+)\}", iso, query)
