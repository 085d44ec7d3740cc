"""Connections: the one place that knows which database this is."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import pandas as pd
import psycopg
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Executable,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.sql import ClauseElement

from trackgen_core.copying import break_off, copy_in, copy_out, unpacked
from trackgen_core.redaction import shown_url
from trackgen_core.schema import REVISION, VIEWS, metadata, schema_revision

BUSY_TIMEOUT_MS: Final = 120_000
"""How long a writer waits for the others; a bulk window writes for a second or two."""

WRITERS_LOCK: Final = int.from_bytes(b"trck")
"""The class of the advisory locks that writers to PostgreSQL hold: all of them lock number `EVERYBODY`, those who write
for some users only with others, and then the numbers of these users, modulo `USER_LOCKS`."""
EVERYBODY: Final = -1
MONTHS: Final = -2
"""The number that is locked to make partitions."""
USER_LOCKS: Final = 64
"""So a writer needs no more locks than that, however many users it writes for."""

WORK_MEM: Final = "64MB"
"""What a query may use to sort and group; the files that are imported have hundreds of thousands of rows."""

FETCH_ROWS: Final = 50_000
FETCH_AT_ONCE: Final = 1_000
"""Rows that are there as Python objects."""

TEMP_TABLES: Final = (
    # The file being imported, one row a point, under a number for its (user, device).
    "incoming (owner INTEGER, time_ms BIGINT, lon DOUBLE PRECISION, lat DOUBLE PRECISION, "
    "altitude DOUBLE PRECISION, accuracy DOUBLE PRECISION, speed DOUBLE PRECISION, "
    "seq SMALLINT, pause SMALLINT, activity SMALLINT)",
    "owners (owner INTEGER PRIMARY KEY, device_id INTEGER)",
    # What of it is not in `points` yet, or says more than what is.
    "fresh (device_id INTEGER, time_ms BIGINT, lon DOUBLE PRECISION, lat DOUBLE PRECISION, "
    "altitude DOUBLE PRECISION, accuracy DOUBLE PRECISION, speed DOUBLE PRECISION, "
    "seq SMALLINT, pause SMALLINT, activity SMALLINT, is_new INTEGER)",
    # What an import would add that only says what it would do.
    "foreseen (device_id INTEGER, time_ms BIGINT, lon DOUBLE PRECISION, lat DOUBLE PRECISION, "
    "PRIMARY KEY (device_id, time_ms, lon, lat))",
    # Spans of time of some devices that a query is about.
    "spans (device_id INTEGER, lo_ms BIGINT, hi_ms BIGINT)",
    # Days of devices, work and results that a query is about.
    "picked (device_id INTEGER, day INTEGER)",
    "listed (user_id INTEGER, day INTEGER, version BIGINT)",
    "gone (item_id VARCHAR)",
)


sqlite3.register_adapter(np.int64, int)  # by default they would be stored as blobs, without a word


class DatabaseError(RuntimeError):
    """The database cannot be used: where it is, why, and what to do."""


class Database:
    """A database of points and tracks, made on first use; one of an older schema is brought up to date.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of a SQLite file or a PostgreSQL database.

    Raises
    ------
    DatabaseError
        If the URL is of another dialect, the database cannot be opened, or a newer Trackgen made it.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):  # the latter of a port
            raise DatabaseError(
                f"{shown_url(url)!r} is no database URL: write it as sqlite:////var/lib/trackgen.db or "
                "postgresql://user@host/name, and %-encode what is special in a password"
            ) from None
        self.url = url
        self.name = shown_url(parsed)
        """The URL without its password."""
        self.is_read_only = False
        backend = parsed.get_backend_name()
        if backend == "postgresql":
            self.engine = _open_postgresql(parsed)
        elif backend == "sqlite" and parsed.database and parsed.database != ":memory:":
            self.name = parsed.database
            self.is_read_only = _is_read_only(Path(self.name))
            self.engine = _open_sqlite(parsed, self.is_read_only)
        else:
            raise DatabaseError(
                f"{self.name}: only SQLite files and PostgreSQL are supported, as in sqlite:////var/lib/trackgen.db or "
                "postgresql://user@host/name"
            )
        try:
            if backend == "sqlite" and not self.is_read_only:
                _make_file(Path(self.name))
            self._create_schema()
        except (OSError, DBAPIError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise DatabaseError(f"{self.name}: cannot be used as Trackgen's database: {reason}") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the data, whatever is written meanwhile."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, user_ids: Collection[int] | None = None) -> Iterator[Connection]:
        """Open a transaction that writes for some users, by default for all.

        Writers for the same users take turns from its first statement on; in SQLite, all do.
        """
        if self.is_read_only:
            raise DatabaseError(f"{self.name}: it or its folder is read-only, so nothing can be changed in it")
        with self.engine.connect() as connection, writing(connection, user_ids).begin():
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _create_schema(self) -> None:
        try:
            with self.read() as connection:
                if connection.execute(select(schema_revision.c.version_num)).scalar() == REVISION:
                    return
        except (OperationalError, ProgrammingError) as error:
            if schema_revision.name not in str(error.orig):  # or else the table is not there yet
                raise
        with self.write() as connection:
            found = _find_revision(connection)
            if found not in (None, *(f"{number:04}" for number in range(1, int(REVISION) + 1))):
                raise DatabaseError(
                    f"{self.name}: made by another version of Trackgen (schema {found}, this one has "
                    f"{REVISION}): use the version that made it, or another database"
                )
            for name in VIEWS:  # before the tables that they show
                connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
            if found is None:
                metadata.create_all(connection, checkfirst=False)
                _stamp(connection, REVISION)
            elif found != REVISION:
                from trackgen_core.migrations import upgrade  # takes its time, and is seldom needed

                upgrade(connection)
            for name, query in VIEWS.items():
                connection.exec_driver_sql(f"CREATE VIEW {name} AS {spell(query, connection.dialect.name)}")


def writing(connection: Connection, user_ids: Collection[int] | None = None) -> Connection:
    """Make a connection one whose transactions write for some users, by default for all."""
    return connection.execution_options(trackgen_writes=True, trackgen_users=user_ids)


def lock_users(connection: Connection, user_ids: Collection[int]) -> None:
    """Wait until nobody else writes for some users, in a transaction that writes."""
    if connection.dialect.name == "postgresql" and user_ids:
        numbers = sorted({user_id % USER_LOCKS for user_id in user_ids})
        connection.exec_driver_sql(
            f"SELECT pg_advisory_xact_lock({WRITERS_LOCK}, number) FROM unnest(ARRAY{numbers}) AS number"
        )


def make_months(connection: Connection, days: Iterable[int]) -> None:
    """Make the partitions of points that are missing for some days, counted from 1970-01-01; in PostgreSQL.

    What other programs have put into the partition for everything else moves into them.
    """
    if connection.dialect.name != "postgresql":
        return
    months = {f"points_{month:%Y_%m}": month for month in pd.to_datetime(list(days), unit="D").to_period("M").unique()}
    if not _missing_months(connection, months):
        return
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK}, {MONTHS})")
    for name in _missing_months(connection, months):  # those that nobody else has made meanwhile
        lo_ms, hi_ms = (one.start_time.value // 1_000_000 for one in (months[name], months[name] + 1))
        for statement in (
            f"CREATE TABLE {name} (LIKE points INCLUDING ALL)",
            f"WITH moved AS (DELETE FROM points_other WHERE time_ms >= {lo_ms} AND time_ms < {hi_ms} RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM moved",
            f"ALTER TABLE points ATTACH PARTITION {name} FOR VALUES FROM ({lo_ms}) TO ({hi_ms})",
        ):
            connection.exec_driver_sql(statement)


TABLES_OF_POINTS: Final = """
    SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent = 'points'::regclass ORDER BY relname
    """
"""The tables of points in PostgreSQL: `points_2024_05` of each month, and last `points_other`."""


def _missing_months(connection: Connection, names: Iterable[str]) -> list[str]:
    # Not `to_regclass`, which remembers what was not there.
    there = set(connection.exec_driver_sql(TABLES_OF_POINTS).scalars())
    return [name for name in names if name not in there]


SPELLINGS: Final = {
    "sqlite": (
        (
            r"\{time_ms:([\w.]+)\}",
            r"strftime('%Y-%m-%dT%H:%M:%S', \1 / 1000, 'unixepoch') || printf('.%03dZ', \1 % 1000)",
        ),
        (r"\{day:([\w.]+)\}", r"date(\1 * 86400, 'unixepoch')"),
    ),
    "postgresql": (
        (
            r"\{time_ms:([\w.]+)\}",
            r"""to_char(timestamp 'epoch' + \1 * interval '1 ms', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""",
        ),
        (r"\{day:([\w.]+)\}", r"CAST(date 'epoch' + \1 AS text)"),
    ),
}
"""How the placeholders of views are written."""


DAYS_WITH_POINTS: Final = {
    "sqlite": """
        WITH RECURSIVE leap (device_id, user_id, day) AS (  -- from each day with points to the next
            SELECT device_id, user_id, (SELECT min(time_ms) FROM points AS p WHERE p.device_id = d.device_id
                                        AND p.time_ms >= :lo_ms AND p.time_ms < :end_ms) / :day_ms
            FROM devices AS d WHERE {of_users}
            UNION ALL
            SELECT device_id, user_id, (SELECT min(time_ms) FROM points AS p WHERE p.device_id = leap.device_id
                                        AND p.time_ms >= (day + 1) * :day_ms AND p.time_ms < :end_ms) / :day_ms
            FROM leap WHERE day IS NOT NULL
        )
        SELECT DISTINCT user_id, day FROM leap WHERE day IS NOT NULL
        """,
    # Of many partitions, a leap would have to open all.
    "postgresql": """
        WITH spans AS (
            SELECT device_id, user_id,
                   (SELECT min(time_ms) FROM points AS p WHERE p.device_id = d.device_id
                    AND p.time_ms >= :lo_ms AND p.time_ms < :end_ms) / :day_ms AS first_day,
                   (SELECT max(time_ms) FROM points AS p WHERE p.device_id = d.device_id
                    AND p.time_ms >= :lo_ms AND p.time_ms < :end_ms) / :day_ms AS last_day
            FROM devices AS d WHERE {of_users}
        )
        SELECT DISTINCT user_id, day FROM spans CROSS JOIN LATERAL generate_series(first_day, last_day) AS day
        WHERE (SELECT 1 FROM points AS p WHERE p.device_id = spans.device_id
               AND p.time_ms >= day * :day_ms AND p.time_ms < (day + 1) * :day_ms LIMIT 1) IS NOT NULL
        """,
}
"""The days of users that have points, from `lo_ms` to before `end_ms`."""

POINTS_BY_DAY: Final = """
    SELECT device_id, points
    FROM (
        SELECT device_id::int8, CASE day WHEN {lo_day} THEN {lo_ms} ELSE day * 86400000 END AS from_ms,
               CASE day WHEN {hi_day} THEN {end_ms} ELSE (day + 1) * 86400000 END AS to_ms
        FROM unnest('{{{device_ids}}}'::int4[]) AS device_id, generate_series({lo_day}::int8, {hi_day}) AS day
        ORDER BY 1, 2
    ) AS spans CROSS JOIN LATERAL (
        SELECT {packed} AS points
        FROM (
            SELECT {columns} FROM points AS p
            WHERE p.device_id = spans.device_id AND p.time_ms >= from_ms AND p.time_ms < to_ms
              AND p.time_ms >= {lo_ms} AND p.time_ms < {end_ms}  -- so months beside them are not even planned
            ORDER BY time_ms, lon, lat
        ) AS p
    ) AS days ORDER BY device_id, from_ms
    """
"""The points of devices from `lo_ms` to before `end_ms`, a row for each day from `lo_day` to `hi_day`; what lies before
and after them belongs to the first and the last."""


def spell(query: str, dialect: str) -> str:
    """Return the query of a view as a dialect writes it."""
    for pattern, replacement in SPELLINGS[dialect]:
        query = re.sub(pattern, replacement, query)
    return query


def insert_ignore(connection: Connection, table: Table) -> Any:  # noqa: ANN401 - the dialects' inserts share no base
    """Return an insert that leaves rows alone that are there already."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def bulk_insert(connection: Connection, table: str, columns: Mapping[str, Any] | pd.DataFrame) -> None:
    """Insert whole columns.

    Parameters
    ----------
    connection : Connection
        A transaction that writes.
    table : str
        Name of the table.
    columns : mapping of str to array, or DataFrame
        Equally long columns; NaN and missing values become NULL.
    """
    columns = {
        str(name): column if isinstance(column, pd.Series) else pd.Series(column) for name, column in columns.items()
    }
    if not len(next(iter(columns.values()))):
        return
    if connection.dialect.name == "postgresql":
        copy_in(_psycopg(connection), table, columns)
        return
    values = [_python_values(column) for column in columns.values()]
    names, marks = ", ".join(columns), ", ".join("?" * len(values))
    rows: Any = zip(*values, strict=True)  # as an iterator, so that rows do not pile up
    connection.connection.cursor().executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)


def fill(connection: Connection, table: str, columns: Mapping[str, Any] | pd.DataFrame) -> None:
    """Put columns in the place of all that is in a temporary table."""
    empty(connection, table)
    bulk_insert(connection, table, columns)
    analyze(connection, table)


def empty(connection: Connection, table: str) -> None:
    """Empty a temporary table."""
    # Of rows that are only deleted, PostgreSQL would leave the pages, and read them again and again.
    verb = "TRUNCATE" if connection.dialect.name == "postgresql" else "DELETE FROM"
    connection.exec_driver_sql(f"{verb} {table}")


def analyze(connection: Connection, table: str) -> None:
    """Tell PostgreSQL how large a table is; it would guess, and read others from end to end."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"ANALYZE {table}")


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
    fetched: Iterator[Any]
    if connection.dialect.name == "postgresql":
        options = {"stream_results": True, "max_row_buffer": FETCH_AT_ONCE}
        fetched = map(tuple, connection.execute(statement, execution_options=options))
    else:
        cursor = connection.execute(statement).cursor
        assert cursor is not None
        fetched = iter(cursor.fetchone, None)
    while len(frame := _frame(islice(fetched, rows), dtypes)):
        yield frame


def fetch_columns(
    connection: Connection, statement: ClauseElement, dtypes: Mapping[str, Any], rows: int = FETCH_ROWS
) -> Iterator[pd.DataFrame]:
    """Run a query of many rows, and yield them as `fetch_frames` does.

    All its columns are numbers, text of one length, or, as the last one, bytes; and none is NULL, but numbers where the
    dtype knows missing values.
    """
    if connection.dialect.name != "postgresql":
        yield from fetch_frames(connection, statement, dtypes, rows)  # type: ignore[arg-type]
        return
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    yield from copy_out(_psycopg(connection), str(compiled).replace("%%", "%"), dtypes, rows)


def fetch_groups(
    connection: Connection, query: str, keys: Mapping[str, str], dtypes: Mapping[str, str]
) -> Iterator[pd.DataFrame]:
    """Run a query of PostgreSQL whose last column is `packed(dtypes)`, and yield the rows of its groups as frames.

    Parameters
    ----------
    connection : Connection
        A transaction.
    query : str
        Without parameters.
    keys, dtypes : mapping of str to dtype
        The other columns of the query, and those that are packed: the columns of the frames.
    """
    for groups in copy_out(_psycopg(connection), query, {**keys, "packed": "object"}, FETCH_ROWS):
        yield unpacked(groups, dtypes)


def fetch_frame(connection: Connection, statement: Executable, dtypes: Mapping[str, Any]) -> pd.DataFrame:
    """Run a query and return all its rows as one frame."""
    frames = list(fetch_frames(connection, statement, dtypes))
    return pd.concat(frames, ignore_index=True) if frames else _frame([], dtypes)


def _psycopg(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _frame(rows: Iterable[tuple[Any, ...]], dtypes: Mapping[str, Any]) -> pd.DataFrame:
    plain = [(name, dtype if dtype in ("int64", "float64") else "object") for name, dtype in dtypes.items()]
    # Taken one by one, rows do not pile up as objects that the garbage collector walks over again and again.
    records = np.fromiter(rows, np.dtype(plain))  # None becomes NaN
    columns = {
        name: records[name].copy() if dtype in ("int64", "float64") else pd.array(records[name], dtype=dtype)
        for name, dtype in dtypes.items()
    }
    return pd.DataFrame(columns, copy=False)


def _python_values(series: pd.Series) -> list[Any]:
    if series.dtype.kind in "fi" and series.hasnans:
        return series.astype(object).where(series.notna(), None).tolist()
    return series.tolist()


def _find_revision(connection: Connection) -> str | None:
    """Return the revision of the tables, None if there are none, and keep it where Alembic does from now on."""
    tables = inspect(connection)
    if tables.has_table(schema_revision.name):
        return connection.execute(select(schema_revision.c.version_num)).scalar()
    if not tables.has_table("schema_version"):  # where it was kept up to revision 0004
        return None
    revision = f"{connection.exec_driver_sql('SELECT version FROM schema_version').scalar():04}"
    connection.exec_driver_sql("DROP TABLE schema_version")
    _stamp(connection, revision)
    return revision


def _stamp(connection: Connection, revision: str) -> None:
    schema_revision.create(connection, checkfirst=False)
    connection.execute(insert(schema_revision).values(version_num=revision))


def _is_read_only(file: Path) -> bool:
    """Return whether a file that is there can only be read; SQLite writes beside it, too."""
    return file.exists() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def _make_file(file: Path) -> None:
    """Make an empty database that nobody else may read, if there is none. SQLite's other files take its rights."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))


def _open_sqlite(url: URL, is_read_only: bool) -> Engine:
    if is_read_only:
        path = Path(str(url.database)).absolute()
        # What nobody can write to does not change; without that, SQLite would want to make files beside it.
        frozen = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
        url = make_url(f"sqlite:///file:{quote(str(path))}?mode=ro{frozen}&uri=true")
    engine = create_engine(url)
    pragmas = [f"busy_timeout = {BUSY_TIMEOUT_MS}", "synchronous = NORMAL", "foreign_keys = ON"]
    if not is_read_only:
        pragmas.append("journal_mode = WAL")

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun by `begin` alone
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        for table in TEMP_TABLES:
            connection.execute(f"CREATE TEMPORARY TABLE {table}")

    def begin(connection: Connection) -> None:
        # Who reads before he writes would fail if another one wrote in between, so writers say so at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _open_postgresql(url: URL) -> Engine:
    # A pooled connection may have been cut while nobody used it: it is tried before it is handed out.
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"), isolation_level="READ COMMITTED", pool_pre_ping=True
    )

    def prepare(connection: psycopg.Connection[Any], _record: object) -> None:
        for table in TEMP_TABLES:
            connection.execute(f"CREATE TEMPORARY TABLE {table}")
        connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute(f"SET work_mem = '{WORK_MEM}'")
        connection.execute("SET jit = off")  # which takes longer than what it makes faster here
        connection.commit()

    def begin(connection: Connection) -> None:
        if _writes(connection):
            user_ids = connection.get_execution_options().get("trackgen_users")
            kind = "" if user_ids is None else "_shared"
            connection.exec_driver_sql(
                f"SELECT pg_advisory_xact_lock{kind}({WRITERS_LOCK}, {EVERYBODY}), "
                "set_config('trackgen.lists_days', 'yes', true)"
            )
            lock_users(connection, user_ids or ())
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    for end in ("commit", "rollback"):  # also where somebody has stopped taking rows
        event.listen(engine, end, lambda connection: break_off(_psycopg(connection)))
    return engine


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("trackgen_writes", False))
