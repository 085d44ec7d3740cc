"""Chunks of time: one UTC day is one partition."""

from __future__ import annotations

import warnings
from datetime import date

import dagster as dg

from trackgen_core.points import day_date, day_number, start_day

# Both are in beta, and both are tested here. Dagster sets filters of its own when it is imported, so this comes after.
warnings.filterwarnings("ignore", message=r"Parameter `(allow_nonexistent_upstream_partitions|backfill_policy)`")

daily = dg.DailyPartitionsDefinition(
    start_date=start_day().isoformat(),
    # Points may lie up to 24 h in the future: today and tomorrow are partitions, too.
    end_offset=2,
)

neighbours = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=1, allow_nonexistent_upstream_partitions=True)
"""Tracks of a day are joined to those of the day before and the day after."""


def key_of(day: int) -> str:
    """Return the partition of a day number."""
    return day_date(day).isoformat()


def day_of(key: str) -> int:
    """Return the day number of a partition."""
    return day_number(date.fromisoformat(key))
