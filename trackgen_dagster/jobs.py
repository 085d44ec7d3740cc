"""Jobs: what a run consists of."""

from typing import Final

import dagster as dg

from trackgen_dagster.assets import segments, tracks

SESSION_TAG: Final = "trackgen/session"
MODE_TAG: Final = "trackgen/mode"
USERS_TAG: Final = "trackgen/users"
REQUEST_TAG: Final = "trackgen/days"
"""First and last day that were asked for."""

CANCELLED_TAG: Final = "trackgen/cancelled"
"""Set on a run that somebody stopped; to Dagster, it failed."""

RUNS_TAG: Final = "trackgen/runs"
"""How many runs the session has."""

generate = dg.define_asset_job(
    "generate",
    selection=dg.AssetSelection.assets(segments, tracks),
    description="Segments and tracks of a range of days, with their checks, in one run.",
)
