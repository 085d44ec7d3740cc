"""Chunks of time: one UTC day is one partition."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Final

import dagster as dg
from sqlalchemy.exc import DBAPIError

from trackgen_core.database import DatabaseError
from trackgen_core.extent import first_day
from trackgen_core.home import database_url, home, open_store
from trackgen_core.points import MS_PER_DAY, day_date, day_number, now_ms, start_day
from trackgen_core.store import Store

# All are in beta, and all are tested here. Dagster sets filters of its own when it is imported, so this comes after.
warnings.filterwarnings("ignore", message=r"Parameter `(allow_nonexistent_upstream_partitions|backfill_policy|owners)`")
warnings.filterwarnings("ignore", message=r"(Function|Class) `\w*(?i:code_?references?)")


def first_partition(store: Store | None = None) -> date:
    """Return the day with which partitions begin: `TRACKGEN_START_DATE`, by default the first day of a month.

    That is the month of the first point, or of the first day with work left; of today, if there is neither. It follows
    from the database alone, so all processes that load the definitions see the same. Older points move it back: what
    has loaded the definitions before then has to load them again, and leaves older work listed until it does.

    Parameters
    ----------
    store : Store, optional
        The open database; by default that of the environment is opened.

    Raises
    ------
    ValueError
        If the variable is no date.
    """
    earliest = start_day()
    if os.environ.get("TRACKGEN_START_DATE"):
        return earliest
    try:
        day = _first_day(store)
    except (DatabaseError, DBAPIError):
        return earliest  # the definitions shall load all the same, and more partitions do no harm
    first = datetime.now(UTC).date() if day is None else day_date(day)
    return max(earliest, first.replace(day=1))


def _first_day(store: Store | None) -> int | None:
    if store is not None:
        with store.read() as connection:
            return first_day(connection)
    file = home() / "trackgen.db"
    if database_url() == f"sqlite:///{file}" and not file.exists():  # to look must not make one
        return None
    with closing(open_store().database) as database, database.read() as connection:
        return first_day(connection)


daily = dg.DailyPartitionsDefinition(
    start_date=first_partition().isoformat(),
    # Points may lie up to 24 h in the future: today and tomorrow are partitions, too.
    end_offset=2,
)

FIRST_DAY: Final = day_number(daily.start.date())
"""The first partition of these definitions, as a number of days."""

neighbours = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=1, allow_nonexistent_upstream_partitions=True)
"""Tracks of a day are joined to those of the day before and the day after."""


DAYS_PER_RUN: Final = 366
"""Starting a run costs seconds, a day in it milliseconds; but Dagster's own time in a run grows with the square of its
partitions, so a year at a time."""

RANGE_TAGS: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""Tags of a run that name its first and last partition."""


def key_of(day: int) -> str:
    """Return the partition of a day number."""
    return day_date(day).isoformat()


def day_of(key: str) -> int:
    """Return the day number of a partition."""
    return day_number(date.fromisoformat(key))


def days_of_run(tags: Mapping[str, str]) -> tuple[int, int]:
    """Return the days a run is about: all there are, if it names none."""
    if "dagster/partition" in tags:
        return day_of(tags["dagster/partition"]), day_of(tags["dagster/partition"])
    if all(tag in tags for tag in RANGE_TAGS):
        return day_of(tags[RANGE_TAGS[0]]), day_of(tags[RANGE_TAGS[1]])
    return FIRST_DAY, now_ms() // MS_PER_DAY + 1
