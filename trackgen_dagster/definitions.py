"""Everything that Dagster loads."""

import dagster as dg

from trackgen_dagster import assets, checks
from trackgen_dagster.jobs import cleanup, generate, inbox
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.schedules import SCHEDULES
from trackgen_dagster.sensors import SENSORS

defs = dg.Definitions(
    assets=[assets.points, assets.segments, assets.tracks, assets.daily_summaries],
    asset_checks=[checks.follows_from_points],
    jobs=[generate, inbox, cleanup],
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"database": TrackStore()},
    # A run has its own worker processes; a process for each step besides would only cost seconds.
    executor=dg.in_process_executor,
)
