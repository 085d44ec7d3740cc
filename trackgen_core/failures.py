"""What a failure is due to, and how long to wait before the next attempt."""

from __future__ import annotations

import errno
import random
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import psycopg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from trackgen_core.database import DatabaseError

T = TypeVar("T")

Kind = Literal["data", "database", "bug"]
"""data: the points or settings of the day cannot be worked with. database: the database or the machine is away or full,
and waiting may help. bug: anything else."""

DATABASE_ERRORS: Final = (
    *(OperationalError, InterfaceError, DatabaseError, OSError),
    *(sqlite3.OperationalError, psycopg.OperationalError, psycopg.InterfaceError),
)
DATA_ERRORS: Final = (
    *(IntegrityError, DataError, ValueError, OverflowError),
    *(sqlite3.IntegrityError, sqlite3.DataError, psycopg.IntegrityError, psycopg.DataError),
)
NOT_UTF_8: Final = "Could not decode to UTF-8"
"""How `sqlite3` begins to say that a text is not one; the error is an OperationalError, without a code."""


@dataclass(frozen=True)
class Backoff:
    """How often something is tried, and how long to wait in between: each time about twice as long."""

    attempts: int = 4
    """How often it is tried in all."""
    first_s: float = 1.0

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after an attempt, counted from 1; chance spreads those who wait."""
        return float(self.first_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))


DEFAULT_BACKOFF: Final = Backoff()


def classify(error: BaseException) -> Kind:
    """Say what an error is due to.

    SQLAlchemy's errors and those of the drivers count alike: rows are fetched and inserted without SQLAlchemy.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    if str(cause).startswith(NOT_UTF_8):
        return "data"
    if isinstance(error, DATABASE_ERRORS) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return "database"
    return "data" if isinstance(error, DATA_ERRORS) else "bug"


RESTART_BACKOFF: Final = Backoff(attempts=6)
"""About half a minute in all: a server that is restarted is back by then."""


def patiently(operation: Callable[[], T], backoff: Backoff = RESTART_BACKOFF) -> T:
    """Do something that may be done twice, again if the database is away meanwhile.

    Parameters
    ----------
    operation : callable
        Without arguments; begins from the start each time.
    backoff : Backoff
        How often, and after how long.
    """
    attempt = 1
    while True:
        try:
            return operation()
        except Exception as error:
            if attempt >= backoff.attempts or classify(error) != "database" or is_disk_full(error):
                raise
        time.sleep(backoff.delay(attempt))
        attempt += 1


def is_disk_full(error: BaseException) -> bool:
    """Return whether something failed for want of room on the disk, here or where the database is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(cause, psycopg.errors.DiskFull) or (isinstance(cause, OSError) and cause.errno == errno.ENOSPC)


def describe(error: BaseException) -> str:
    """Return an error as a message, without the SQL that it is about."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    text = f"{type(cause).__name__}: {cause}".strip()
    return f"the disk is full: make room, and try again ({text})" if is_disk_full(error) else text
