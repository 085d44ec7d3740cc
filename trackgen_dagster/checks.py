"""Asset checks: what must hold of every day, whoever made it and however."""

import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import dagster as dg

from trackgen_core.verification import QUESTIONS, Verdict
from trackgen_core.words import counted
from trackgen_dagster.assets import tracks
from trackgen_dagster.partitions import days_of_run
from trackgen_dagster.resources import TrackStore

SHOWN: Final = 20
"""Faults listed in the metadata of a check."""

SAMPLE: Final = 5
"""Tracks that every run computes anew."""


DESCRIPTIONS: Final = {
    "points_conserved": "Every point is in exactly one of: a track, a stay, what is set aside as noise, what is left "
    "over.",
    "no_overlap": "No two tracks or stays of a device are at the same time.",
    "sample_recomputed": "A few tracks, computed anew from their points, equal what is stored.",
    "days_add_up": "The shares of tracks and stays in days add up to the tracks and stays, to the millimetre and "
    "millisecond.",
    "legs_tile": "The legs of a track follow one another from its start to its end, and add up to it.",
}


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=tracks, description=text) for name, text in DESCRIPTIONS.items()],
    can_subset=True,
)
def follows_from_points(context: dg.AssetCheckExecutionContext, database: TrackStore) -> Iterator[dg.AssetCheckResult]:
    """All checks in one step: for each step, Dagster would look at all partitions that there are."""
    seed = zlib.crc32(context.run.run_id.encode())
    for name in [name for name in QUESTIONS if dg.AssetCheckKey(tracks.key, name) in context.selected_asset_check_keys]:
        ask, _ = QUESTIONS[name]
        if name == "sample_recomputed":
            ask = partial(ask, sample=SAMPLE, seed=seed)
        yield _result(context, name, partial(ask, database.store))


def _result(
    context: dg.AssetCheckExecutionContext, name: str, find: Callable[[int, int], Verdict]
) -> dg.AssetCheckResult:
    lo_day, hi_day = days_of_run(context.run.tags)
    started = time.perf_counter()
    faults, left_out = find(lo_day, hi_day)
    return dg.AssetCheckResult(
        asset_key=tracks.key,
        check_name=name,
        passed=not faults,
        description=counted(len(faults), "fault") if faults else None,
        metadata={
            "days": hi_day - lo_day + 1,
            "faults": len(faults),
            "first_faults": faults[:SHOWN],
            "users_left_out": left_out,
            "seconds": round(time.perf_counter() - started, 3),
        },
    )
