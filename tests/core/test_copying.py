"""What goes into PostgreSQL by COPY comes out again as it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import postgres
from tests.effort import examples
from trackgen_core.copying import NO_INT, break_off, copy_in, copy_out, packed, unpacked

pytestmark = pytest.mark.xdist_group("postgresql")

DTYPES = {"small": "int64", "big": "int64", "maybe": "Int64", "real": "float64", "code": "str", "raw": "object"}
ROWS = st.tuples(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(NO_INT, -NO_INT - 1),
    st.none() | st.integers(-(2**53), 2**53),
    st.floats(),
    st.text("0123456789abcdef", min_size=4, max_size=4),
    st.binary(max_size=40),
)


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with postgres.running_server() as server, psycopg.connect(server) as connection:
        connection.execute(
            "CREATE TEMP TABLE kept "
            "(number SERIAL, small INT, big BIGINT, maybe BIGINT, real FLOAT8, code TEXT, raw BYTEA)"
        )
        yield connection


def out(connection: psycopg.Connection, dtypes: dict[str, str], rows: int = 3) -> list[pd.DataFrame]:
    return list(copy_out(connection, f"SELECT {', '.join(dtypes)} FROM kept ORDER BY number", dtypes, rows))


@settings(deadline=None, max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, min_size=1, max_size=8), st.integers(1, 9))
def test_columns_come_back(connection: psycopg.Connection, rows: list[tuple], at_once: int) -> None:
    frame = pd.DataFrame(rows, columns=[*DTYPES]).astype(DTYPES)
    connection.execute("DELETE FROM kept")
    copy_in(connection, "kept", {name: frame[name] for name in DTYPES})
    batches = out(connection, DTYPES, at_once)
    assert [len(batch) for batch in batches[:-1]] == [at_once] * (len(batches) - 1)
    pd.testing.assert_frame_equal(pd.concat(batches, ignore_index=True), frame)
    numbers = {name: dtype for name, dtype in DTYPES.items() if name != "raw"}  # rows of one length
    pd.testing.assert_frame_equal(pd.concat(out(connection, numbers), ignore_index=True), frame[[*numbers]])


@settings(deadline=None, max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_packed_rows_come_back(connection: psycopg.Connection, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(["int64", "float64"]), min_size=1, max_size=9))
    dtypes = {f"c{n}": kind for n, kind in enumerate(kinds)}
    values = {"int64": st.integers(NO_INT, -NO_INT - 1), "float64": st.floats(allow_nan=False) | st.just(np.nan)}
    row = st.tuples(*(values[kind] for kind in kinds))
    groups = data.draw(st.dictionaries(st.integers(0, 9), st.lists(row, max_size=3), min_size=1))
    rows = [(group, n, *row) for group, rows in groups.items() for n, row in enumerate(rows)]
    frame = pd.DataFrame(rows, columns=["group", "n", *dtypes]).astype({"group": "int64", "n": "int64", **dtypes})
    connection.execute("DROP TABLE IF EXISTS rows")
    columns = ", ".join(f"{name} {'INT8' if dtype == 'int64' else 'FLOAT8'}" for name, dtype in dtypes.items())
    connection.execute(f"CREATE TEMP TABLE rows (number INT8, n INT8, {columns})")
    copy_in(connection, "rows", {"number" if name == "group" else name: frame[name] for name in frame.columns})
    query = (
        f"SELECT key, (SELECT {packed(dtypes)} FROM (SELECT * FROM rows WHERE number = key ORDER BY n) AS r) "
        "FROM generate_series(0, 9) AS key ORDER BY key"
    )
    (packs,) = copy_out(connection, query, {"key": "int64", "rows": "object"}, 99)
    found = unpacked(packs, dtypes)
    wanted = frame.sort_values(["group", "n"], ignore_index=True).rename(columns={"group": "key"}).drop(columns="n")
    pd.testing.assert_frame_equal(found, wanted)
    assert all(found[name].to_numpy().tobytes() == wanted[name].to_numpy().tobytes() for name in dtypes)


def test_missing_values_are_null(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM kept")
    columns = {
        "maybe": pd.array([1, None], "Int64"),
        "real": [np.nan, 2.0],
        "code": [None, "text ü"],
        "raw": [b"", None],
    }
    copy_in(connection, "kept", {name: pd.Series(column) for name, column in columns.items()})
    rows = connection.execute("SELECT maybe, real, code, raw FROM kept ORDER BY number").fetchall()
    assert rows == [(1, None, None, b""), (None, 2.0, "text ü", None)]


def test_no_rows(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM kept")
    assert out(connection, DTYPES) == []


def test_a_number_that_does_not_fit_is_an_error(connection: psycopg.Connection) -> None:
    with pytest.raises(OverflowError, match="small: 2147483648 does not fit into int4"), connection.transaction():
        copy_in(connection, "kept", {"small": pd.Series([2**31])})


def test_errors_of_the_server_are_raised(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn), connection.transaction():
        list(copy_out(connection, "SELECT nothing FROM kept", {"nothing": "int64"}, 3))
    query = "SELECT 1 / (n - 5) FROM generate_series(1, 9) AS n"
    with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
        list(copy_out(connection, query, {"n": "int64"}, 3))


def test_who_stops_taking_rows_can_go_on_with_something_else(connection: psycopg.Connection) -> None:
    connection.commit()
    rows = copy_out(connection, "SELECT n FROM generate_series(1, 1000000) AS n", {"n": "int64"}, 10)
    assert next(rows)["n"].tolist() == [*range(1, 11)]
    break_off(connection)
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)
