"""Everything that Dagster loads."""

from pathlib import Path

import dagster as dg

from trackgen_dagster import assets, checks
from trackgen_dagster.jobs import cleanup, console, dawarich, generate, inbox
from trackgen_dagster.resources import TrackStore
from trackgen_dagster.schedules import SCHEDULES
from trackgen_dagster.sensors import SENSORS

IS_CHECKOUT = (Path(__file__).parents[1] / "pyproject.toml").exists()

defs = dg.Definitions(
    assets=[
        assets.points,
        # Where the code is developed, the UI opens it in the editor.
        *(dg.with_source_code_references(assets.MADE) if IS_CHECKOUT else assets.MADE),
        assets.daily_summaries,
    ],
    asset_checks=[checks.follows_from_points],
    jobs=[generate, inbox, dawarich, cleanup],
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"database": TrackStore()},
    loggers={"console": console},
    # A run has its own worker processes; a process for each step besides would only cost seconds.
    executor=dg.in_process_executor,
)
