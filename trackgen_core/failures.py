"""What a failure is due to, and how long to wait before the next attempt."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass
from typing import Final, Literal

import psycopg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from trackgen_core.database import DatabaseError

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
