"""Asset checks: what must hold of every day, whoever made it and however."""

import time
import zlib
from collections.abc import Callable, Mapping
from typing import Final

import dagster as dg

from trackgen_core.points import MS_PER_DAY, day_number, now_ms, start_day
from trackgen_core.verification import Verdict, lost_points, overlaps, wrong_tracks
from trackgen_dagster.assets import tracks
from trackgen_dagster.partitions import day_of
from trackgen_dagster.resources import TrackStore

RANGE_TAGS: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
SHOWN: Final = 20
"""Faults listed in the metadata of a check."""


@dg.asset_check(asset=tracks)
def points_conserved(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """Every point is in exactly one track, or is counted as leftover."""
    return _result(context, lambda lo_day, hi_day: lost_points(database.store, lo_day, hi_day))


@dg.asset_check(asset=tracks)
def no_overlap(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """No two tracks of a device are at the same time."""
    return _result(context, lambda lo_day, hi_day: overlaps(database.store, lo_day, hi_day))


@dg.asset_check(asset=tracks)
def sample_recomputed(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """A few tracks, computed anew from their points, equal what is stored."""
    seed = zlib.crc32(context.run.run_id.encode())
    return _result(context, lambda lo_day, hi_day: wrong_tracks(database.store, lo_day, hi_day, seed=seed))


def _result(context: dg.AssetCheckExecutionContext, find: Callable[[int, int], Verdict]) -> dg.AssetCheckResult:
    lo_day, hi_day = days_of_run(context.run.tags)
    started = time.perf_counter()
    faults, left_out = find(lo_day, hi_day)
    return dg.AssetCheckResult(
        passed=not faults,
        description=f"{len(faults)} fault(s)" if faults else None,
        metadata={
            "days": hi_day - lo_day + 1,
            "faults": len(faults),
            "first_faults": faults[:SHOWN],
            "users_left_out": left_out,
            "seconds": round(time.perf_counter() - started, 3),
        },
    )


def days_of_run(tags: Mapping[str, str]) -> tuple[int, int]:
    """Return the days a run is about: all there are, if it names none."""
    if "dagster/partition" in tags:
        return day_of(tags["dagster/partition"]), day_of(tags["dagster/partition"])
    if all(tag in tags for tag in RANGE_TAGS):
        return day_of(tags[RANGE_TAGS[0]]), day_of(tags[RANGE_TAGS[1]])
    return day_number(start_day()), now_ms() // MS_PER_DAY + 1
