"""Short transactions in Dawarich's database that give way to others, and what they have done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg

from trackgen_core.database import DatabaseError
from trackgen_core.dawarich.mirror import Mirrored
from trackgen_core.dawarich.source import Dawarich

POINTS_AT_ONCE: Final = 1_000
"""Points whose rows are locked at once: each has to be written into all of Dawarich's indexes."""
TRACKS_AT_ONCE: Final = 200

LOCK_TIMEOUT_MS: Final = 300
"""How long to wait for others while locks are held. Less than the second after which PostgreSQL looks for deadlocks: so
it is always this side that gives way."""
ATTEMPTS: Final = 60
WAIT_S: Final = 0.5

WRITER: Final = int.from_bytes(b"tgdw")
"""The class of the advisory locks that keep two writers of the same user apart."""

Row = TypeVar("Row")


@dataclass
class WriteReport:
    """What was written, or would be."""

    user: str
    equal: int = 0
    """Tracks that are there as they should be."""
    new: int = 0
    changed: int = 0
    """Tracks that were ours before, and have other points now."""
    adopted: int = 0
    """Tracks that Dawarich made and that keep their ids."""
    removed: int = 0
    """Tracks that are gone; among them those of Dawarich that were taken over and have no counterpart."""
    held_back: int = 0
    """Tracks that are not written, as tracks of Dawarich are there that are not taken over."""
    protected: int = 0
    """Tracks that a take-over leaves alone: of imports, demo data, or corrected by hand."""
    points: int = 0
    """Points that have another track now."""
    longest_s: float = 0.0
    """The longest time that a transaction held locks."""


def in_transaction(dawarich: Dawarich, report: WriteReport, do: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
    """Do something in a transaction; once more, after a while, if others hold locks that it needs."""
    before = dict(vars(report))
    for attempt in range(1, ATTEMPTS + 1):
        started = time.perf_counter()
        try:
            with dawarich.connection.transaction():
                dawarich.connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                result = do(dawarich, *args)
            report.longest_s = max(report.longest_s, time.perf_counter() - started)
            return result
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            vars(report).update(before)
            if attempt == ATTEMPTS:
                raise DatabaseError(
                    f"{dawarich.name}: rows of {report.user} are locked by somebody else for too long: try again later"
                ) from error
            time.sleep(WAIT_S)


@contextmanager
def alone(connection: psycopg.Connection[Any], user: Mirrored) -> Iterator[None]:
    """Keep others from writing for the same user; the lock goes with the connection, too."""
    key = [WRITER, user.dawarich_id % 2**31]
    if connection.execute("SELECT pg_try_advisory_lock(%s, %s)", key).fetchone() == (False,):
        raise DatabaseError(f"somebody else writes tracks of {user.name} at the moment: try again later")
    yield
    connection.execute("SELECT pg_advisory_unlock(%s, %s)", key)


def portions(rows: list[Row], size: int) -> Iterator[list[Row]]:
    """Cut a list into parts of at most `size`."""
    yield from (rows[start : start + size] for start in range(0, len(rows), size))
