"""What is tried again, for how long, and how a full disk is told from a database that is away."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from trackgen_core.failures import Backoff, classify, describe, is_disk_full, patiently


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.DiskFull("could not extend file: No space left on device"),
        OperationalError("COPY", {}, psycopg.errors.DiskFull("could not extend file")),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_full_disk_is_called_that(error: Exception) -> None:
    assert classify(error) == "database"
    assert is_disk_full(error)
    assert describe(error).startswith("the disk is full: make room, and try again (")
    assert "SQL" not in describe(error)


def test_a_full_disk_of_sqlite_is_called_that(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "small.db")) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("CREATE TABLE t (a)")
    assert is_disk_full(caught.value)
    assert not is_disk_full(sqlite3.OperationalError("database is locked"))


def test_patience_ends() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise psycopg.OperationalError("away")

    with pytest.raises(psycopg.OperationalError):
        patiently(fail, Backoff(3, 0.001))
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: calls.append(1) or 1 // 0, Backoff(3, 0.001))  # type: ignore[func-returns-value]
    assert len(calls) == 1
