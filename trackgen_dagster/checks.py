"""Asset checks: what must hold of every day, whoever made it and however."""

import time
import zlib
from collections.abc import Callable
from typing import Final

import dagster as dg

from trackgen_core.verification import Verdict, lost_points, overlaps, wrong_days, wrong_legs, wrong_tracks
from trackgen_dagster.assets import tracks
from trackgen_dagster.partitions import days_of_run
from trackgen_dagster.resources import TrackStore

SHOWN: Final = 20
"""Faults listed in the metadata of a check."""


@dg.asset_check(asset=tracks)
def points_conserved(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """Every point is in exactly one of: a track, a stay, what is set aside as noise, what is left over."""
    return _result(context, lambda lo_day, hi_day: lost_points(database.store, lo_day, hi_day))


@dg.asset_check(asset=tracks)
def no_overlap(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """No two tracks or stays of a device are at the same time."""
    return _result(context, lambda lo_day, hi_day: overlaps(database.store, lo_day, hi_day))


@dg.asset_check(asset=tracks)
def sample_recomputed(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """A few tracks, computed anew from their points, equal what is stored."""
    seed = zlib.crc32(context.run.run_id.encode())
    return _result(context, lambda lo_day, hi_day: wrong_tracks(database.store, lo_day, hi_day, seed=seed))


@dg.asset_check(asset=tracks)
def days_add_up(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """The shares of tracks and stays in days add up to the tracks and stays, to the millimetre and millisecond."""
    return _result(context, lambda lo_day, hi_day: wrong_days(database.store, lo_day, hi_day))


@dg.asset_check(asset=tracks)
def legs_tile(context: dg.AssetCheckExecutionContext, database: TrackStore) -> dg.AssetCheckResult:
    """The legs of a track follow one another from its start to its end, and add up to it."""
    return _result(context, lambda lo_day, hi_day: wrong_legs(database.store, lo_day, hi_day))


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
