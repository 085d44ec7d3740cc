"""Chunks of time: one UTC day is one partition."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import date
from typing import Final

import dagster as dg

from trackgen_core.points import MS_PER_DAY, day_date, day_number, now_ms, start_day

# All are in beta, and all are tested here. Dagster sets filters of its own when it is imported, so this comes after.
warnings.filterwarnings("ignore", message=r"Parameter `(allow_nonexistent_upstream_partitions|backfill_policy|owners)`")
warnings.filterwarnings("ignore", message=r"(Function|Class) `\w*(?i:code_?references?)")

daily = dg.DailyPartitionsDefinition(
    start_date=start_day().isoformat(),
    # Points may lie up to 24 h in the future: today and tomorrow are partitions, too.
    end_offset=2,
)

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
    return day_number(start_day()), now_ms() // MS_PER_DAY + 1
